"""What lies beside an adapter's weights: its model card, and what it needs to predict alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from mint_core.answering.record import FORMAT, AdapterRecord, FileRecord, StudentRecord, TaskRecord, write_record
from mint_core.cautions import of_adapter
from mint_core.characters import markdown_table
from mint_core.files import read_json, read_utf8, replaced
from mint_core.report import card
from mint_core.report.citing import how_to_cite
from mint_core.stages.outputs import HISTORY
from mint_core.stages.run import Run
from mint_core.students.adapter_files import describe_files, put_in_order
from mint_core.students.load import fingerprint, hub_commit
from mint_core.types import in_plural

CARD = "README.md"


def write_card(adapter: Path, run: Run) -> None:
    """Replaces the card that peft writes, and writes `mint.json`, which seals what lies beside it.

    Nothing in the card depends on the day or on where things lie: equal trainings have equal cards.
    """
    header = yaml.safe_dump(_header(run), sort_keys=False, allow_unicode=True)
    text = "\n".join(_lines(run, adapter.parent / HISTORY))
    (adapter / CARD).write_text(f"---\n{header}---\n\n{text}", encoding="utf-8")
    put_in_order(adapter)
    write_record(adapter, _record(run, adapter))


def add_results(adapter: Path, run: Run, metrics: Mapping[str, Any]) -> None:
    """Writes what an evaluation found into the card, in place of what an earlier one found.

    Args:
        adapter: The adapter's folder.
        run: Its run.
        metrics: Content of metrics.json.
    """
    found = {card.RESULTS: card.results_section(metrics), card.SUBGROUPS: card.subgroups_section(metrics)}
    index = card.model_index(
        metrics, _name(run), {"type": _PIPELINES[run.task.modality], "name": run.resolved.task.name}
    )
    _rewrite(adapter, lambda text: card.with_index(card.filled(text, found), index))


def withdraw_results(adapter: Path) -> None:
    """Takes the results out of the card: they are about to be made again, or are those of another run."""
    found: dict[str, list[str]] = {card.RESULTS: [], card.SUBGROUPS: []}
    _rewrite(adapter, lambda text: card.with_index(card.filled(text, found), None))


def add_preservation(adapter: Path, content: Mapping[str, Any]) -> None:
    """Writes into the card what alignment cost in general ability, in place of what an earlier measurement found.

    Args:
        adapter: The adapter's folder.
        content: Content of preserve.json.
    """
    _rewrite(adapter, lambda text: card.filled(text, {card.ABILITY: card.ability_section(content)}))


def _rewrite(adapter: Path, change: Callable[[str], str]) -> None:
    """Changes the card where there is one that can be read; it is the user's own, who may have deleted it."""
    place = adapter / CARD
    try:
        before = read_utf8(place)
    except (OSError, ValueError):
        return
    after = change(before)
    if after != before:
        with replaced(place) as temporary:
            temporary.write_text(after, encoding="utf-8")


_PIPELINES = {"text": "text-generation", **dict.fromkeys(("image", "image+text"), "image-text-to-text")}
_MODELS = {
    "text": "AutoModelForCausalLM",
    **dict.fromkeys(("image", "image+text"), "AutoModelForImageTextToText"),
}


def _name(run: Run) -> str:
    """The same for equal trainings, whatever their runs are called."""
    return f"{run.resolved.task.name}-{run.resolved.teacher.name}-{_aligner(run)}"


def _aligner(run: Run) -> str:
    return run.resolved.aligner.name if run.resolved.aligner else "base"


def _base(run: Run) -> str | None:
    """The hub id of the student, or of what a GGUF file was made from."""
    if run.embedded:
        return None
    if run.gguf:
        return next(
            (found for key in ("base_model", "source") if (found := card.hub_id(run.gguf.origin.get(key, "")))), None
        )
    model = run.resolved.config.student.model
    return None if Path(model).exists() else card.hub_id(model)


def _header(run: Run) -> dict[str, Any]:
    """The metadata that the hub reads; only what is known."""
    base = _base(run)
    return {
        "library_name": "peft",
        "pipeline_tag": _PIPELINES[run.task.modality],
        **({"base_model": base, "base_model_relation": "adapter"} if base else {}),
        **card.licence_keys(run.data.licence),
        "tags": ["mint", "lora", _aligner(run), f"task:{run.resolved.task.name}"],
    }


def _student(run: Run) -> str:
    model = run.resolved.config.student.model
    named = run.student_told or (f"{Path(model).name}, a local folder" if Path(model).exists() else model)
    return f"{named.rstrip('.')}; {run.student_held}" if run.student_held else named


def _lines(run: Run, history: Path) -> Iterator[str]:
    """The text of the card, line by line, with places for what is measured later."""
    resolved, data = run.resolved, run.data
    yield f"# {resolved.task.name}: adapter trained with mint"
    yield ""
    for caution in of_adapter(simulated=data.simulated, quick=resolved.config.quick):
        yield from (f"**{caution[0].upper()}{caution[1:]}.**", "")
    yield f"A LoRA adapter for {card.without_folders(_student(run))}."
    read = in_plural(run.task.modality)
    yield f"It was aligned on preferences of the teacher {resolved.teacher.name}, and reads {read} alone."
    yield from ("", "## Intended use, and its limits", "")
    yield f"- For research on ranking {len(data.labels):,} labels; it lists the {run.n} that it finds most likely."
    yield "- Not a medical device: no output of it may decide about a patient."
    yield "- It was trained on the labels of these data; on other sites, devices, languages and patients it is untried."
    yield "- It gives a list of names without reasons, and writes one for every input, however unfit."
    yield from ("", "## Training data", "")
    yield f"- Data: {card.without_folders(data.source)}"
    yield f"- Training samples: {len(data.split('train')):,}"
    yield f"- Labels: {len(data.labels):,}, of which {len(run.taught):,} are the first answer of a training sample"
    for fact, count in data.facts.items():
        yield f"- {card.without_folders(fact)}: {count:,}"
    if data.licence:
        yield f"- Licence of the data, which binds what is made from them: {data.licence}"
    yield from ("", "## Training", "")
    yield f"- Student: {card.without_folders(_student(run))}"
    yield f"- Teacher: {resolved.teacher.name}"
    yield f"- Strategy: {resolved.strategy.name}"
    yield f"- Aligner: {_aligner(run)}, seed {resolved.config.alignment_seed}"
    if resolved.config.retrieval.train:
        yield "- Training prompts: with retrieved passages"
    yield f"- mint-core {version('mint-core')}"
    yield ""
    yield from markdown_table(["setting", "value"], _settings(history))
    yield ""
    yield from card.empty_sections()
    yield from ("## How to use it", "", "    mint predict --adapter THIS_FOLDER --input FILE_OR_FOLDER", "")
    yield "mint writes the prompt that it was trained for and makes labels of its answers, as `mint.json` says."
    yield "With other tools:"
    yield ""
    yield f"    from peft import PeftModel\n    from transformers import {_MODELS[run.task.modality]}\n"
    yield f'    student = {_MODELS[run.task.modality]}.from_pretrained("{_base(run) or "STUDENT"}")'
    yield '    student = PeftModel.from_pretrained(student, "THIS_FOLDER")'
    yield from ("", "## Citation", "")
    for reference in how_to_cite({_aligner(run)}, preserved=False):
        yield f"- {reference}"
    yield ""


def _settings(history: Path) -> list[list[str]]:
    """The hyperparameters that say something, without paths."""
    settings = read_json(history)["settings"] if history.is_file() else {}
    known = ((key, value) for key, value in settings.items() if value not in (None, "", [], {}))
    return [[key, str(value)] for key, value in known if not Path(str(value)).is_absolute()]


def _record(run: Run, adapter: Path) -> AdapterRecord:
    """What the adapter needs to predict alone."""
    task, student, labels = run.resolved.task, run.resolved.config.student, run.data.labels
    paths = {name for name, value in task.config if isinstance(value, Path)}
    local = Path(student.model).exists() and run.embedded is None
    weights = run.student_path or student.model
    return AdapterRecord(
        format=FORMAT,
        mint=version("mint-core"),
        task=TaskRecord(
            name=task.name,
            version=task.registered.component.version,
            distribution=task.registered.distribution,
            config={name: value for name, value in task.record["config"].items() if name not in paths},
        ),
        student=StudentRecord(
            model=str(Path(student.model).resolve()) if local else student.model,
            revision=student.revision if run.embedded else hub_commit(student.model, student.revision),
            dtype=student.dtype,
            attention=student.attention,
            fingerprint=fingerprint(weights, student.revision),
            chat_date=student.chat_date,
            chat_template_kwargs=student.chat_template_kwargs,
            quantize=student.quantize,
            double_quantize=student.double_quantize,
            gguf=run.gguf.record() if run.gguf else None,
        ),
        header=run.task.header,
        modality=run.task.modality,
        n=run.n,
        simulated=run.data.simulated,
        quick=run.resolved.config.quick,
        labels=labels.names,
        aliases=labels.aliases,
        taught=tuple(name for name in labels.names if name in run.taught),
        files={name: FileRecord(**about) for name, about in describe_files(adapter).items()},
    )
