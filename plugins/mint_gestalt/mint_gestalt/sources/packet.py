"""The part of a GA4GH phenopacket (schema version 2, JSON) that mint reads."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel, to_snake

from mint_core.plugin import DataError, identity_of, names_of
from mint_gestalt import ontology
from mint_gestalt.sources.ages import from_duration, from_stage, of_gestation

_SEXES = {"MALE": "male", "FEMALE": "female", "2": "male", "1": "female"}  # protobuf allows the numbers too
_CAUSAL = frozenset({"CAUSATIVE", "CONTRIBUTORY", "3", "4"})
_UNSOLVED = frozenset({"UNSOLVED", "4"})
_CATALOGUES = {"OMIM": 0, "ORPHA": 1, "MONDO": 2}
"""Their ids may stand side by side for one disease; the first of them identifies it."""
_POSSESSIVE = re.compile(r"(?<=\w)['\u2019]s?(?!\w)")
_FAMILY = frozenset({"proband", "relatives", "pedigree", "members"})
"""Fields of the messages that hold several patients."""
_BOM = b"\xef\xbb\xbf"


_camel = lru_cache(maxsize=4096)(to_camel)


@lru_cache(maxsize=64)
def _skipped(not_read: frozenset[str]) -> frozenset[str]:
    """The fields of a message that are passed over, in both spellings of protobuf, and what is about the file."""
    return frozenset({"@type", "$schema", *not_read, *map(to_snake, not_read)})


class _Part(BaseModel):
    """A message of which every field is known; what mint does not read is listed, so that nothing else passes."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        alias_generator=to_camel,
        populate_by_name=True,
        coerce_numbers_to_str=True,
    )

    not_read: ClassVar[frozenset[str]] = frozenset()
    """Further fields of the schema, which change nothing of what mint tells."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        """In the JSON of protobuf, null means that the field is not set."""
        if not isinstance(data, dict):
            return data
        skipped = _skipped(cls.not_read)
        if None not in data.values() and skipped.isdisjoint(data):
            return data
        return {key: value for key, value in data.items() if value is not None and key not in skipped}


class Term(_Part):
    """A term of an ontology."""

    id: str = Field(min_length=1)
    label: str = ""

    @property
    def known_id(self) -> str:
        """Of a disease: its id in the usual form."""
        return ontology.disease_id(self.id) or self.id.strip()

    @property
    def names(self) -> tuple[str, ...]:
        """Of a disease: its name and aliases, or what OMIM or Orphanet call it; empty where nobody names it."""
        said = tuple(name for name in names_of(self.label) if name != self.id and not ontology.disease_id(name))
        return said or names_of(ontology.disease_name(self.known_id) or "")


class OneDisease(NamedTuple):
    """The disease of a patient."""

    ids: tuple[str, ...]
    """That of OMIM first."""
    names: tuple[str, ...]
    named: bool
    """Else its id stands for its name."""


class Age(_Part):
    """An ISO-8601 duration."""

    iso8601duration: str = Field(alias="iso8601duration")


class AgeRange(_Part):
    """Between two ages."""

    start: Age
    end: Age


class GestationalAge(_Part):
    """Of a fetus."""

    weeks: int = Field(ge=0, le=60)
    days: int = Field(0, ge=0, le=60)


class TimeElement(_Part):
    """When; at most one field is set."""

    not_read = frozenset({"timestamp", "interval"})

    age: Age | None = None
    age_range: AgeRange | None = None
    gestational_age: GestationalAge | None = None
    ontology_class: Term | None = None

    def in_words(self) -> str | None:
        """`4 years 6 months`, or None where only a date is given."""
        if self.age:
            return from_duration(self.age.iso8601duration)
        if self.age_range:
            start, end = (from_duration(age.iso8601duration) for age in (self.age_range.start, self.age_range.end))
            return f"{start} to {end}"
        if self.gestational_age:
            return of_gestation(self.gestational_age.weeks, self.gestational_age.days)
        if self.ontology_class:
            known = ontology.resolve(self.ontology_class.id)
            return from_stage(ontology.name(known) if known else self.ontology_class.label) or None
        return None


class Subject(_Part):
    """The patient."""

    not_read = frozenset({"alternateIds", "dateOfBirth", "vitalStatus", "karyotypicSex", "gender", "taxonomy"})

    id: str = ""
    sex: str = ""
    time_at_last_encounter: TimeElement | None = None


class Feature(_Part):
    """A phenotype that is present, or was looked for and is absent."""

    not_read = frozenset({"description", "severity", "modifiers", "onset", "resolution", "evidence"})

    type: Term
    excluded: bool = False


class Disease(_Part):
    """A diagnosis, or one that was ruled out."""

    not_read = frozenset({"onset", "resolution", "diseaseStage", "clinicalTnmFinding", "primarySite", "laterality"})

    term: Term
    excluded: bool = False


class Gene(_Part):
    """A gene."""

    model_config = ConfigDict(extra="ignore")

    symbol: str = ""


class VariationDescriptor(_Part):
    """A variant."""

    model_config = ConfigDict(extra="ignore")

    gene_context: Gene = Gene()


class VariantInterpretation(_Part):
    """A variant with its reading."""

    not_read = frozenset({"acmgPathogenicityClassification", "therapeuticActionability"})

    variation_descriptor: VariationDescriptor = VariationDescriptor()


class GenomicInterpretation(_Part):
    """What a gene or a variant means for the diagnosis."""

    not_read = frozenset({"subjectOrBiosampleId"})

    interpretation_status: str = ""
    gene: Gene = Gene()
    variant_interpretation: VariantInterpretation = VariantInterpretation()

    @property
    def symbol(self) -> str:
        """Symbol of the gene, or nothing."""
        return self.gene.symbol or self.variant_interpretation.variation_descriptor.gene_context.symbol


class Diagnosis(_Part):
    """A disease with its genetics."""

    disease: Term | None = None
    genomic_interpretations: tuple[GenomicInterpretation, ...] = ()

    @property
    def disease_id(self) -> str:
        """Id of the disease, or nothing."""
        return self.disease.known_id if self.disease else ""


class Interpretation(_Part):
    """One interpretation."""

    not_read = frozenset({"id", "summary"})

    progress_status: str = ""
    diagnosis: Diagnosis = Diagnosis()


class ExternalReference(_Part):
    """A publication or a database entry."""

    model_config = ConfigDict(extra="ignore")

    id: str = ""


class MetaData(_Part):
    """About the packet itself."""

    model_config = ConfigDict(extra="ignore")

    phenopacket_schema_version: str = ""
    external_references: tuple[ExternalReference, ...] = ()


class Phenopacket(_Part):
    """One patient."""

    not_read = frozenset({"measurements", "biosamples", "medicalActions", "files"})

    id: str = Field(min_length=1)
    subject: Subject = Subject()
    phenotypic_features: tuple[Feature, ...] = ()
    diseases: tuple[Disease, ...] = ()
    interpretations: tuple[Interpretation, ...] = ()
    meta_data: MetaData = MetaData()

    @property
    def sex(self) -> str | None:
        """`male`, `female`, or None."""
        return _SEXES.get(self.subject.sex.upper())

    @property
    def age(self) -> str | None:
        """At the last encounter, in words.

        Raises:
            DataError: It is not an ISO-8601 duration.
        """
        return self.subject.time_at_last_encounter.in_words() if self.subject.time_at_last_encounter else None

    @property
    def genes(self) -> list[str]:
        """Symbols of the causal genes, sorted; without those of another disease that was looked for in vain.

        Raises:
            DataError: See `disease`.
        """
        return self._genes({"", *self.disease.ids})

    @property
    def causal_genes(self) -> list[str]:
        """The same for a patient whose disease may be unknown."""
        try:
            return self.genes
        except DataError:
            return self._genes({""})

    def _genes(self, own: set[str]) -> list[str]:
        found = {
            genomic.symbol
            for interpretation in self.interpretations
            if interpretation.progress_status not in _UNSOLVED or interpretation.diagnosis.disease_id in own
            for genomic in interpretation.diagnosis.genomic_interpretations
            if genomic.interpretation_status in _CAUSAL
        }
        return sorted(found - {""})

    @property
    def disease(self) -> OneDisease:
        """The one disease. Ids of OMIM, Orphanet and Mondo under one name are one disease.

        Raises:
            DataError: There is none, or there are two.
        """
        named = [disease.term for disease in self.diseases if not disease.excluded]
        if not named:
            excluded = {disease.term.known_id for disease in self.diseases}
            found = (interpretation.diagnosis.disease for interpretation in self.interpretations)
            named = [term for term in found if term is not None and term.known_id not in excluded]
        if not named:
            raise DataError("no disease that is not excluded; give the patient one, or leave the file out")
        by_id = {term.known_id: term.names for term in named if term.names}
        by_id = {**{term.known_id: () for term in named}, **by_id}
        if not _is_one(by_id):
            raise DataError(
                f"{len(by_id)} diseases ({', '.join(sorted(by_id))}), where mint ranks one; keep the main one"
            )
        ids = sorted(by_id, key=lambda one: _CATALOGUES.get(one.partition(":")[0], len(_CATALOGUES)))
        names = next((by_id[one] for one in ids if by_id[one]), ())
        return OneDisease(tuple(ids), names or (ids[0],), bool(names))


def _is_one(by_id: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether all ids are one disease: one alone, or each of another catalogue and all of one name."""
    if len(by_id) == 1:
        return True
    fronts = [one.partition(":")[0] for one in by_id]
    forms = [{identity_of(_POSSESSIVE.sub("", name)) for name in names} for names in by_id.values()]
    return len(set(fronts)) == len(fronts) and set(fronts) <= _CATALOGUES.keys() and bool(set.intersection(*forms))


def parse(name: str, content: bytes) -> Phenopacket:
    """Reads one packet.

    Args:
        name: Of the file, for messages.
        content: Its bytes.

    Raises:
        DataError: It is no JSON, no phenopacket, or of another schema version. Values are never quoted.
    """
    content = content.removeprefix(_BOM)
    _refuse_what_is_ambiguous(name, content)
    try:
        packet = Phenopacket.model_validate_json(content)
    except ValidationError as error:
        raise DataError(_sentence(name, error)) from None
    version = packet.meta_data.phenopacket_schema_version
    if not version:
        raise DataError(
            f"{name} names no metaData.phenopacketSchemaVersion, so absent findings could be taken for present ones; "
            "write the version, 2.0, if it is one of version 2."
        )
    if version.split(".")[0] != "2":
        raise DataError(f"{name} is a phenopacket of another schema version than 2; convert it with phenopacket-tools.")
    return packet


def _refuse_what_is_ambiguous(name: str, content: bytes) -> None:
    """Refuses messages of several patients, and a field that stands twice; what is no JSON is left to the model."""
    twice: list[str] = []

    def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        message = dict(pairs)
        if len({*map(_camel, message)}) < len(pairs):
            counts = Counter(_camel(key) for key, _ in pairs)
            twice.extend(key for key, count in counts.items() if count > 1)
        return message

    try:
        message = json.loads(content, object_pairs_hook=fields)
    except (ValueError, RecursionError):
        return
    several = isinstance(message, list) and any(isinstance(one, dict) for one in message)
    if several or (isinstance(message, dict) and _FAMILY & {_camel(key) for key in message}):
        raise DataError(
            f"{name} is a family or a cohort, not one patient; split it into phenopackets of single patients, one file "
            "each."
        )
    if twice:
        raise DataError(f"{name}: the field '{twice[0]}' stands twice in one place; keep one of them.")


def _sentence(name: str, error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return f"{name} is not valid JSON ({first['msg'].split(': ', 1)[-1]}); fetch it again."
    place = ".".join(str(part) for part in first["loc"])
    where = f" at {place}" if place else ""
    if first["type"] == "extra_forbidden":
        return (
            f"{name}: the field {place} is not one of phenopackets of version 2, and could change what the packet "
            "says; convert the file with phenopacket-tools, mend it, or skip such files with --set task.on_error=skip."
        )
    return (
        f"{name} is no phenopacket{where}: {first['msg']}; mend it, or skip such files with --set task.on_error=skip."
    )
