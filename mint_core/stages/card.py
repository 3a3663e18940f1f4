"""What lies beside an adapter's weights: its model card, and what it needs to predict alone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mint_core.answering.record import FORMAT, AdapterRecord, FileRecord, StudentRecord, TaskRecord, write_record
from mint_core.files import storage_errors
from mint_core.preservation.results import markdown
from mint_core.stages.run import Run
from mint_core.students.adapter_files import describe_files, put_in_order
from mint_core.students.load import fingerprint, hub_commit


def write_card(adapter: Path, run: Run) -> None:
    """Replaces the card that peft writes, and writes `mint.json`, which seals what lies beside it."""
    resolved, data = run.resolved, run.data
    student = run.student_told or resolved.config.student.model
    lines = [
        "---",
        "library_name: peft",
        *([f"license: {data.licence}"] if data.licence else []),
        "tags: [mint, lora]",
        "---",
        "",
        f"# {resolved.task.name}: adapter trained with mint",
        "",
        *(["**Trained on simulated data. It knows nothing about patients.**", ""] if data.simulated else []),
        f"- Student: {student}",
        f"- Teacher: {resolved.teacher.name}",
        f"- Strategy: {resolved.strategy.name}",
        f"- Aligner: {resolved.dump()['aligner']['name']}, seed {resolved.config.alignment_seed}",
        *(["- Training prompts: with retrieved passages"] if resolved.config.retrieval.train else []),
        f"- Data: {data.source}",
        *([f"- Licence of the data, which binds what is made from them: {data.licence}"] if data.licence else []),
        f"- Labels: {len(data.labels)}; the student lists {run.n}",
        "",
        "For research. Not a medical device: no output of it may decide about a patient.",
        "",
    ]
    (adapter / "README.md").write_text("\n".join(lines), encoding="utf-8")
    put_in_order(adapter)
    write_record(adapter, _record(run, adapter))


_ABILITY = "## General ability"


def add_preservation(adapter: Path, content: Mapping[str, Any]) -> None:
    """Writes into the card what alignment cost in general ability, in place of what an earlier measurement found.

    Args:
        adapter: The adapter's folder.
        content: Content of preserve.json.
    """
    card = adapter / "README.md"
    kept, told = [], False
    for line in card.read_text(encoding="utf-8").splitlines() if card.is_file() else ():
        told = line == _ABILITY or (told and not line.startswith("#"))
        kept += [] if told else [line]
    lines = [*"\n".join(kept).rstrip().split("\n"), "", _ABILITY, "", *markdown(content), ""]
    with storage_errors(adapter):
        card.write_text("\n".join(lines), encoding="utf-8")


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
            gguf=run.gguf.record() if run.gguf else None,
        ),
        header=run.task.header,
        modality=run.task.modality,
        n=run.n,
        simulated=run.data.simulated,
        labels=labels.names,
        aliases=labels.aliases,
        taught=tuple(name for name in labels.names if name in run.taught),
        files={name: FileRecord(**about) for name, about in describe_files(adapter).items()},
    )
