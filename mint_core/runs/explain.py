"""`explain`: which phrases of a text or regions of an image moved an answer, for new samples or for those of a run."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mint_core.answering.setting import from_adapter
from mint_core.config import merge
from mint_core.errors import ConfigError, DataError
from mint_core.explaining.parts import Parts, parts_of
from mint_core.explaining.results import CONTENT, FORMAT, deletion_check, sample_record, told_check
from mint_core.files import access, replaced, write_json
from mint_core.interfaces import Unreadable
from mint_core.libraries import quiet_libraries
from mint_core.observer import Observer
from mint_core.report.explained import page
from mint_core.runs.aligned import open_run, report_beside
from mint_core.runs.folder import RunFolder
from mint_core.runs.subject import Subject, chosen, label_named, of_adapter, of_run

_OF_A_RUN = 8
"""Samples of a run that are explained where nobody says how many."""
_SIDE = 320
"""Pixels of the longer side of an image that is shown."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is explained, and what may be shown."""

    label: str | None
    ids: Sequence[str]
    samples: int | None
    with_text: bool
    with_images: bool
    grid: int
    draws: int
    seed: int


@dataclass(frozen=True, slots=True)
class Explained:
    """What came of it."""

    content: Mapping[str, Any] = field(repr=False)
    """Content of explain.json; texts and images only where they were asked for."""
    path: Path | None
    """What was written: explain.json in the run folder, or the file that was asked for."""
    texts: Mapping[str, str] = field(repr=False)
    """By sample id, what the student read; patients' text, never written unless asked for."""


@quiet_libraries()
def explain(
    run: str | Path | None = None,
    *,
    adapter: str | Path | None = None,
    input: str | Path | None = None,
    label: str | None = None,
    ids: Sequence[str] = (),
    samples: int | None = None,
    with_text: bool = False,
    with_images: bool = False,
    grid: int = 6,
    draws: int = 10,
    seed: int = 0,
    output: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    allow_changed: bool = False,
    out: str | Path = "runs",
    observer: Observer | None = None,
) -> Explained:
    """Measures the effect of each phrase or region on a label's log-probability, with a deletion check.

    Args:
        run: A run folder: some of its reported samples. The result goes there and into its report.
        adapter: Instead of a run: an adapter's folder, for the new samples in `input`.
        input: File or folder of new samples, as `mint predict` reads them.
        label: The label that is explained; None = each sample's first answer.
        ids: Only these samples.
        samples: Only so many, drawn with `seed`; None = all, of a run 8.
        with_text: Files and the report may show the samples' texts.
        with_images: The same for images.
        grid: Images have grid x grid regions.
        draws: Random choices per sample in the deletion check.
        seed: Of everything that is drawn.
        output: A file that ends in .json or .html.
        config: With an adapter: what differs from its record, as with `mint predict`: student, predict, retriever.
        device: Where the student computes.
        batch_size: Prompts per forward pass; None = as for answers.
        allow_changed: Use an adapter whose files are not as its training left them.
        out: Folder of the runs, in whose cache indexes are kept.
        observer: Hears of the progress; silent by default.

    Raises:
        MintError: Nothing can be explained; the message says what to do.
    """
    observer = observer or Observer()
    wanted = Wanted(label, ids, samples, with_text, with_images, grid, draws, seed)
    _check(wanted, output, input)
    user = merge(config or {}, {"student": {"device": device}} if device else {})
    if (run is None) == (adapter is None):
        raise ConfigError("`mint explain` takes a run folder, or --adapter DIR with --input PATH: one of the two.")
    if adapter is not None:
        if input is None:
            raise ConfigError("--adapter needs --input PATH: the samples whose answers are explained.")
        if batch_size:
            user = merge(user, {"predict": {"batch_size": batch_size}})
        setting = from_adapter(Path(adapter), user, Path(input), Path(out), None, allow_changed=allow_changed)
        if setting.changed:
            observer.message(f"{setting.changed}; its answers are explained all the same, as --allow-changed says.")
        with access("private", Path(out) / ".cache"):
            made = _explain(of_adapter(setting, Path(input), observer), wanted, observer)
            return _written(made, output)
    if input is not None or config:
        raise ConfigError("A run's own samples are explained with its own settings; for others give --adapter DIR.")
    return _beside(Path(run or ""), wanted, device=device, batch_size=batch_size, output=output, observer=observer)


def _check(wanted: Wanted, output: str | Path | None, given: str | Path | None) -> None:
    if not 2 <= wanted.grid <= 32:
        raise ConfigError(f"--grid takes 2 to 32 regions per side, not {wanted.grid}.")
    if wanted.draws < 1 or (wanted.samples is not None and wanted.samples < 1):
        raise ConfigError("--draws and --samples take numbers from 1 on.")
    if output is not None:
        if Path(output).suffix.lower() not in (".json", ".html"):
            raise ConfigError(f"--output takes a file that ends in .json or .html, not {Path(output).name}.")
        if given is not None and Path(output).resolve() == Path(given).resolve():
            raise ConfigError(f"--output would replace the samples in {given}; name another file.")


def _beside(
    path: Path,
    wanted: Wanted,
    *,
    device: str | None,
    batch_size: int | None,
    output: str | Path | None,
    observer: Observer,
) -> Explained:
    """Some samples of a run, into its folder."""
    run = open_run(path, device, observer)
    if not wanted.ids and wanted.samples is None:
        wanted = replace(wanted, samples=_OF_A_RUN)
    with access(run.resolved.config.access, path, run.cache), RunFolder(path) as folder:
        made = _explain(of_run(run, batch_size), wanted, observer)
        write_json(path / CONTENT, made.content)
        report_beside(run, folder)
    with access("private"):
        written = _written(made, output)
    return Explained(made.content, written.path or path / CONTENT, made.texts)


def _explain(subject: Subject, wanted: Wanted, observer: Observer) -> Explained:
    """Sample by sample; one that cannot be explained is named with its reason, and does not stop the others.

    Raises:
        DataError: None can be explained.
    """
    images = "image" in subject.task.modality
    if (wanted.with_text and images) or (wanted.with_images and not images):
        flag, other = ("--with-images", "--with-text") if images else ("--with-text", "--with-images")
        reads = f"The task '{subject.task.name}' reads {'images' if images else 'texts'}"
        raise ConfigError(f"{reads}; {flag} shows them, not {other}.")
    label = None if wanted.label is None else label_named(subject.labels, wanted.label)
    samples = chosen(subject.samples, wanted.ids, wanted.samples, wanted.seed)
    left_out = [] if wanted.ids else list(subject.unreadable)
    parts: dict[str, Parts] = {}
    for sample in samples:
        try:
            parts[sample.id] = parts_of(subject.task, sample, wanted.grid)
        except DataError as error:
            left_out.append(Unreadable(sample.id, str(error)))
    whole = [own.sample for own in parts.values()]
    labels = dict.fromkeys(parts, (label, "user")) if label else subject.answers(whole) if whole else {}
    records, texts = [], {}
    observer.stage("explain", reused=False)
    for done, (key, own) in enumerate(parts.items(), 1):
        try:
            answered = labels[key]
            if isinstance(answered, Unreadable):
                raise DataError(answered.reason)
            effects = subject.explainer.effects(own, answered[0], draws=wanted.draws, seed=wanted.seed)
            records.append({**sample_record(own, *answered, effects), **_shown(own, wanted)})
            texts[key] = own.sample.text or ""
        except DataError as error:
            left_out.append(Unreadable(key, str(error)))
        observer.progress(done, len(parts), "samples")
    if not records:
        raise DataError(left_out[0].reason if left_out else "There is no sample to explain; check what was asked for.")
    return Explained(_content(subject, wanted, records, left_out), None, texts)


def _content(
    subject: Subject, wanted: Wanted, records: Sequence[dict[str, Any]], left_out: Sequence[Unreadable]
) -> dict[str, Any]:
    """Content of explain.json."""
    images = "image" in subject.task.modality
    groups = [subject.groups.get(one["id"]) for one in records]
    return {
        "format": FORMAT,
        "mint": version("mint-core"),
        "task": subject.task.name,
        "modality": subject.task.modality,
        "simulated": subject.simulated,
        "quick": subject.quick,
        "student": subject.engine.student.source if subject.adapter is None else None,
        "adapter": subject.adapter_files,
        "decode": subject.engine.asking.config.decode,
        "parts": "regions" if images else "phrases",
        "grid": wanted.grid if images else None,
        "draws": wanted.draws,
        "seed": wanted.seed,
        "shows": [name for name, shown in (("text", wanted.with_text), ("images", wanted.with_images)) if shown],
        "samples": list(records),
        "left_out": [{"id": one.id, "reason": one.reason} for one in left_out],
        "check": deletion_check(records, groups, wanted.seed),
    }


def _shown(parts: Parts, wanted: Wanted) -> dict[str, str]:
    """The sample's text, or its image as base64 of a PNG, where they were asked for."""
    if wanted.with_text:
        return {"text": parts.sample.text or ""}
    if not wanted.with_images or parts.sample.image is None:
        return {}
    image = parts.sample.image.open()
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return {"image": base64.b64encode(stream.getvalue()).decode()}


def _written(made: Explained, output: str | Path | None) -> Explained:
    """The same, with the file that was asked for."""
    if output is None:
        return made
    path = Path(output)
    if path.suffix.lower() == ".json":
        write_json(path, made.content)
    else:
        with replaced(path) as temporary:
            temporary.write_text(page(made.content, told_check(made.content)), encoding="utf-8")
    return replace(made, path=path)
