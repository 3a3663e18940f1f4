"""Source `phenopackets`: GA4GH phenopackets, version 2, from a folder or a zip archive that is never unpacked."""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path, PurePosixPath

from mint_core.plugin import DataError, Sample, Unreadable, parse_json
from mint_gestalt.clinical import Patient
from mint_gestalt.sources.cases import (
    Case,
    Feature,
    Findings,
    Reading,
    present_terms,
    publication_of,
    read_each,
    subgroups_of,
    told,
)
from mint_gestalt.sources.options import RareDiseaseOptions
from mint_gestalt.sources.packet import Phenopacket, parse

MAX_BYTES = 16 * 2**20
"""A larger file is refused unread: packets are a few kilobytes, and a zip bomb is not."""
_NO_NAMES = frozenset({"", "proband", "patient", "index", "case", "individual", "subject"})
"""Subject ids that tell no patient from another."""
_LOOKED = 20
"""Files that are opened to see whether a folder or an archive holds packets."""
_KEYS = frozenset(
    {"phenotypicFeatures", "phenotypic_features", "subject", "metaData", "meta_data", "proband", "members"}
)
"""Of packets, and of families and cohorts, which the reader refuses by name."""
_OTHER = "files of other kinds, not read"


@dataclass(frozen=True, slots=True)
class _Document:
    name: str
    """Path below the data folder, with slashes."""
    read: Callable[[], bytes]


def recognises(place: Path) -> bool:
    """Whether one of the first files there, in a folder or an archive, is something like a packet."""
    try:
        with _documents(place, Counter()) as documents:
            return any(_like_a_packet(document) for document in documents[:_LOOKED])
    except DataError:
        return False


def _like_a_packet(document: _Document) -> bool:
    try:
        content = parse_json(document.read())
    except (DataError, ValueError):
        return False
    return isinstance(content, dict) and not _KEYS.isdisjoint(content)


def read(place: Path, options: RareDiseaseOptions) -> Reading:
    """Reads all packets below a folder, in a zip archive, or one file.

    Every file that ends in `.json` is a patient or an error; nothing is passed over in silence.

    Args:
        place: Folder, `.zip` or `.json`.
        options: `student_fields`, `privileged`, `group_by`, `unknown_terms` and `on_error` count.

    Raises:
        DataError: There is nothing to read, or a packet is malformed and `on_error` is `fail`.
    """
    facts: Counter[str] = Counter()
    with _documents(place, facts) as documents:
        cases = read_each(documents, attrgetter("name"), partial(_case, options), options, facts)
    return Reading(cases, facts, f"phenopackets at {place.resolve().name}", ("sex", "age"))


def read_new(place: Path, options: RareDiseaseOptions, facts: Counter[str]) -> Iterator[Sample | Unreadable]:
    """Reads packets of patients whose disease nobody knows; a disease that stands in one is not looked at.

    Args:
        place: Folder, `.zip` or `.json`.
        options: `student_fields` and `unknown_terms` count.
        facts: Gets the counts.

    Yields:
        Samples in the order of their names, worded as `read` words them, and packets that are malformed.

    Raises:
        DataError: There is nothing to read.
    """
    blind = options.model_copy(update={"privileged": ()})
    with _documents(place, facts) as documents:
        for document in documents:
            try:
                one: Sample | Unreadable = _new(blind, document, facts)
            except DataError as error:
                one = Unreadable(document.name, str(error).replace("--set task.on_error=skip", "--on-error skip"))
            yield one


@contextmanager
def _documents(place: Path, facts: Counter[str]) -> Iterator[list[_Document]]:
    """Everything that may be a packet; an archive stays open as long as it is read."""
    archive = None
    if place.is_dir():
        documents = list(_in_folder(place, facts))
    elif place.is_file() and zipfile.is_zipfile(place):
        archive = _opened(place)
        documents = list(_in_archive(archive, facts))
    elif place.suffix.lower() == ".json" and place.is_file():
        documents = [_Document(place.name, partial(_read_file, place, place.name))]
    else:
        raise DataError(f"{place} is no folder, zip archive or .json file of phenopackets; check the path.")
    try:
        if not documents:
            raise DataError(f"{place} holds no .json file; name the folder or zip archive that holds the phenopackets.")
        facts["files read"] = len(documents)
        yield documents
    finally:
        if archive is not None:
            archive.close()


def _opened(place: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(place)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{place} is a damaged zip archive; fetch it again.") from error


def _in_folder(root: Path, facts: Counter[str]) -> Iterator[_Document]:
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            if path.is_symlink() and not _hidden(name):
                raise DataError(f"{name} is a linked folder, which mint does not follow; copy it into the data folder.")
            continue
        if _counts(name, facts):
            yield _Document(name, partial(_read_file, path, name, root.resolve()))


def _in_archive(archive: zipfile.ZipFile, facts: Counter[str]) -> Iterator[_Document]:
    for info in sorted(archive.infolist(), key=lambda info: info.filename):
        if not info.is_dir() and _counts(info.filename, facts):
            yield _Document(info.filename, partial(_read_member, archive, info))


def _counts(name: str, facts: Counter[str]) -> bool:
    """Whether a file is read. Hidden files are leftovers of editors and of macOS, not patients."""
    if PurePosixPath(name).suffix.lower() == ".json" and not _hidden(name):
        return True
    facts[_OTHER] += 1
    return False


def _hidden(name: str) -> bool:
    """Whether a file, or a folder above it, is hidden."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") and part not in (".", "..") for part in parts)


def _read_file(path: Path, name: str, root: Path | None = None) -> bytes:
    try:
        if root is not None and not path.resolve().is_relative_to(root):
            raise DataError(f"{name} is a link that leaves the data folder; copy the file into the folder.")
        if not path.is_file():
            raise DataError(f"{name} is not a file that can be read; leave it out.")
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(name)
        return path.read_bytes()
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise DataError(f"{name} cannot be read ({getattr(error, 'strerror', None) or 'a loop of links'}).") from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > MAX_BYTES:
        raise _too_large(info.filename)
    try:
        with archive.open(info) as file:
            content = file.read(MAX_BYTES + 1)  # what the archive says of the size need not be true
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{info.filename} is damaged inside the archive; fetch the archive again.") from error
    except (RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"{info.filename} is encrypted or packed in a way Python cannot read; pack it again."
        ) from error
    if len(content) > MAX_BYTES:
        raise _too_large(info.filename)
    return content


def _too_large(name: str) -> DataError:
    return DataError(f"{name} is larger than {MAX_BYTES // 2**20} MiB, which no phenopacket of one patient is.")


def _new(options: RareDiseaseOptions, document: _Document, facts: Counter[str]) -> Sample:
    packet = parse(document.name, document.read())
    genes = packet.causal_genes if "gene" in options.student_fields else []
    findings = _findings(document.name, packet, options, facts)
    text, _ = told(_known(document.name, packet, genes, findings), options, facts)
    return Sample(packet.id, "test", text=text)


def _findings(name: str, packet: Phenopacket, options: RareDiseaseOptions, facts: Counter[str]) -> Findings:
    present = [feature.type for feature in packet.phenotypic_features if not feature.excluded]
    facts["excluded features, not told"] += len(packet.phenotypic_features) - len(present)
    return present_terms(name, (Feature(term.id, term.label) for term in present), options, facts)


def _known(name: str, packet: Phenopacket, genes: list[str], findings: Findings) -> Patient:
    try:
        age = packet.age
    except DataError as error:
        raise DataError(f"{name}: {error}.") from None
    return Patient(sex=packet.sex, age=age, phenotypes=findings.names, gene=", ".join(genes) or None)


def _case(options: RareDiseaseOptions, document: _Document, facts: Counter[str]) -> Case:
    name = document.name
    packet = parse(name, document.read())
    try:
        disease = packet.disease
    except DataError as error:
        raise DataError(f"{name}: {error}.") from None
    findings = _findings(name, packet, options, facts)
    known = _known(name, packet, packet.genes, findings)
    text, privileged = told(known, options, facts)
    if not disease.named:
        facts["diseases named by nobody, their id stands for them"] += 1
    publication = _publication(packet)
    if publication is None:
        facts["without a publication, grouped by patient"] += 1
    cohort = PurePosixPath(name).parent.as_posix()
    named = packet.subject.id.lower() not in _NO_NAMES
    patient = f"{publication or cohort}/{packet.subject.id}" if named else packet.id
    groups = {"publication": publication or patient, "patient": patient, "cohort": cohort}
    return Case(
        where=name,
        id=packet.id,
        patient=patient,
        publication=publication,
        group=groups[options.group_by or "publication"],
        disease_ids=disease.ids,
        disease_names=disease.names,
        text=text,
        free_text=findings.own_words,
        privileged=privileged,
        subgroups=subgroups_of(sex=known.sex, age=known.age, cohort=cohort.removeprefix(".")),
    )


def _publication(packet: Phenopacket) -> str | None:
    """The first PubMed reference, or another reference, or the one in the packet's id."""
    references = [reference.id for reference in packet.meta_data.external_references if reference.id.strip()]
    references.sort(key=lambda reference: not reference.upper().startswith("PMID"))
    if references:
        return publication_of(references[0])
    return publication_of(packet.id) if packet.id.upper().startswith("PMID") else None
