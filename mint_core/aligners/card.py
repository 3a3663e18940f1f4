"""What lies beside an adapter's weights: its model card, and what it needs to predict alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mint_core.answering.record import write_record

if TYPE_CHECKING:
    from mint_core.runs.context import Context


def write_card(adapter: Path, context: Context) -> None:
    """Replaces the card that peft writes, and writes `mint.json`.

    Args:
        adapter: The adapter's folder.
        context: The run.
    """
    resolved, data = context.resolved, context.data
    student = context.embedded.description if context.embedded else resolved.config.student.model
    lines = [
        "---",
        "library_name: peft",
        *([f"license: {data.licence}"] if data.licence else []),
        "tags: [mint, lora]",
        "---",
        "",
        f"# {resolved.task.registered.component.name}: adapter trained with mint",
        "",
        *(["**Trained on simulated data. It knows nothing about patients.**", ""] if data.simulated else []),
        f"- Student: {student}",
        f"- Teacher: {resolved.teacher.registered.component.name}",
        f"- Strategy: {resolved.strategy.registered.component.name}",
        f"- Aligner: {resolved.dump()['aligner']['name']}, seed {resolved.config.alignment_seed}",
        *(["- Training prompts: with retrieved passages"] if resolved.config.retrieval.train else []),
        f"- Data: {data.source}",
        *([f"- Licence of the data, which binds what is made from them: {data.licence}"] if data.licence else []),
        f"- Labels: {len(data.labels)}; the student lists {context.n}",
        "",
        "For research. Not a medical device: no output of it may decide about a patient.",
        "",
    ]
    (adapter / "README.md").write_text("\n".join(lines), encoding="utf-8")
    write_record(adapter, context)
