"""The part of a GA4GH phenopacket (schema version 2, JSON) that mint reads."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from mint_core.plugin import DataError
from mint_gestalt import ontology
from mint_gestalt.sources.ages import from_duration, from_stage, of_gestation

_SEXES = {"MALE": "male", "FEMALE": "female", "2": "male", "1": "female"}  # protobuf allows the numbers too
_CAUSAL = frozenset({"CAUSATIVE", "CONTRIBUTORY", "3", "4"})
_UNSOLVED = frozenset({"UNSOLVED", "4"})
_BOM = b"\xef\xbb\xbf"


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        alias_generator=to_camel,
        populate_by_name=True,
        coerce_numbers_to_str=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        """In the JSON of protobuf, null means that the field is not set."""
        if isinstance(data, dict) and None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data


class Term(_Part):
    """A term of an ontology."""

    id: str = Field(min_length=1)
    label: str = ""


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

    id: str = ""
    sex: str = ""
    time_at_last_encounter: TimeElement | None = None


class Feature(_Part):
    """A phenotype that is present, or was looked for and is absent."""

    type: Term
    excluded: bool = False


class Disease(_Part):
    """A diagnosis, or one that was ruled out."""

    term: Term
    excluded: bool = False


class Gene(_Part):
    """A gene."""

    symbol: str = ""


class VariationDescriptor(_Part):
    """A variant."""

    gene_context: Gene = Gene()


class VariantInterpretation(_Part):
    """A variant with its reading."""

    variation_descriptor: VariationDescriptor = VariationDescriptor()


class GenomicInterpretation(_Part):
    """What a gene or a variant means for the diagnosis."""

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
        return self.disease.id if self.disease else ""


class Interpretation(_Part):
    """One interpretation."""

    progress_status: str = ""
    diagnosis: Diagnosis = Diagnosis()


class ExternalReference(_Part):
    """A publication or a database entry."""

    id: str = ""


class MetaData(_Part):
    """About the packet itself."""

    phenopacket_schema_version: str = ""
    external_references: tuple[ExternalReference, ...] = ()


class Phenopacket(_Part):
    """One patient."""

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
        return self._genes({"", self.disease.id})

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
    def disease(self) -> Term:
        """The one disease.

        Raises:
            DataError: There is none, or there are two.
        """
        named = {disease.term.id: disease.term for disease in self.diseases if not disease.excluded}
        if not named:
            excluded = {disease.term.id for disease in self.diseases}
            found = (interpretation.diagnosis.disease for interpretation in self.interpretations)
            named = {term.id: term for term in found if term is not None and term.id not in excluded}
        if not named:
            raise DataError("no disease that is not excluded; give the patient one, or leave the file out")
        if len(named) > 1:
            raise DataError(
                f"{len(named)} diseases ({', '.join(sorted(named))}), where mint ranks one; keep the main one"
            )
        return next(iter(named.values()))


def parse(name: str, content: bytes) -> Phenopacket:
    """Reads one packet.

    Args:
        name: Of the file, for messages.
        content: Its bytes.

    Raises:
        DataError: It is no JSON, no phenopacket, or of another schema version. Values are never quoted.
    """
    try:
        packet = Phenopacket.model_validate_json(content.removeprefix(_BOM))
    except ValidationError as error:
        raise DataError(_sentence(name, content, error)) from None
    version = packet.meta_data.phenopacket_schema_version
    if not version:
        raise DataError(
            f"{name} names no metaData.phenopacketSchemaVersion, so absent findings could be taken for present ones; "
            "write the version, 2.0, if it is one of version 2."
        )
    if version.split(".")[0] != "2":
        raise DataError(f"{name} is a phenopacket of another schema version than 2; convert it with phenopacket-tools.")
    return packet


def _sentence(name: str, content: bytes, error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return f"{name} is not valid JSON ({first['msg'].split(': ', 1)[-1]}); fetch it again."
    place = ".".join(str(part) for part in first["loc"])
    if place == "id" and any(key in content for key in (b'"proband"', b'"members"')):
        return f"{name} is a family or a cohort, not one patient; split it into phenopackets of single patients."
    where = f" at {place}" if place else ""
    return (
        f"{name} is no phenopacket{where}: {first['msg']}; mend it, or skip such files with --set task.on_error=skip."
    )
