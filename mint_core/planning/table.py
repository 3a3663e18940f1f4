"""The plan as tables."""

from __future__ import annotations

from rich.table import Table

from mint_core.interfaces import Layout
from mint_core.planning.lengths import Spread
from mint_core.planning.plan import Plan

_BASES = {
    "preferences": "the preferences of {run}",
    "rankings": "preferences made now from the rankings of {run}",
    "drawn": "labels drawn at random, because no rankings exist yet; truths and list sizes are the run's",
}

_LAYOUTS: dict[Layout, str] = {
    "shared": "the prompt once",
    "distinct": "one row per response",
    "expanded": "one row per pair and side",
}


def tables(plan: Plan) -> list[Table]:
    """Groups and lengths, tokens, memory, steps."""
    return [_lengths(plan), _tokens(plan), _memory(plan), _steps(plan)]


def summary(plan: Plan) -> str:
    """What was planned, in one line."""
    basis = _BASES[plan.groups_from.basis].format(run=plan.groups_from.run)
    return (
        f"{plan.aligner} on {plan.student}: {plan.groups:,} groups with {plan.pairs:,} pairs, from {basis}. "
        f"Data: {plan.data}"
    )


def notes(plan: Plan) -> list[str]:
    """What stands below the tables, one line each."""
    lengths, memory = plan.lengths, plan.memory
    context = f"{lengths.context:,}" if lengths.context else "not known"
    lines = [
        f"max_length that cuts nothing: {lengths.max_length:,} (sample {lengths.longest_sample}); the student's "
        f"context: {context}; longest prediction: {lengths.inference_row:,}",
        f"{memory.parameters:,} parameters, {memory.trainable:,} trained; largest pass {memory.rows} x {memory.length} "
        f"tokens; activations {size(memory.activations_kept)} without gradient checkpointing, "
        f"{size(memory.activations_checkpointed)} with it",
    ]
    if plan.seconds is not None:
        lines.append(f"training takes about {duration(plan.seconds)}")
    return lines + [f"warning: {warning}" for warning in plan.warnings]


def size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 2**30:,.2f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _lengths(plan: Plan) -> Table:
    lengths = plan.lengths
    table = Table("tokens", "min", "median", "95 %", "max", title="Lengths")
    rows: list[tuple[str, Spread | None]] = [
        ("prompt", lengths.prompt),
        ("  before the processor", lengths.prompt_before),
        ("  of these image tokens", lengths.image if lengths.image.max else None),
        ("  before the processor", lengths.image_before if lengths.image.max else None),
        ("chosen response", lengths.chosen),
        ("rejected response", lengths.rejected),
        ("prompt and longest response", lengths.row),
    ]
    for name, values in rows:
        if values is not None:
            table.add_row(name, f"{values.min:,}", f"{values.median:,.0f}", f"{values.p95:,.0f}", f"{values.max:,}")
    return table


def _tokens(plan: Plan) -> Table:
    table = Table("phase", "layout", "per step", "per epoch", "against shared", title="Tokens, padding left out")
    for number, phase in enumerate(plan.phases, 1):
        epoch, step = phase.tokens_per_epoch, phase.tokens_per_step
        for layout, note in _LAYOUTS.items():
            used = " (used)" if layout == phase.layout else ""
            table.add_row(
                str(number),
                f"{note}{used}",
                f"{step.of(layout):,.0f}",
                f"{epoch.of(layout):,.0f}",
                f"{epoch.of(layout) / epoch.shared:.1f} x",
            )
    return table


def _memory(plan: Plan) -> Table:
    memory = plan.memory
    table = Table("memory", "estimate", title="Memory of one process")
    for name, value in memory.parts().items():
        if value:
            table.add_row(name, size(value))
    table.add_section()
    table.add_row("all", size(memory.total))
    table.add_row("lower bound: weights, adapter, optimiser", size(memory.lower_bound))
    if plan.probe:
        table.add_row("measured in the probe", size(plan.probe.peak_memory))
    table.add_row("the device has", size(memory.device))
    return table


def _steps(plan: Plan) -> Table:
    table = Table("phase", "epochs", "steps", "warm-up", "groups per step", "seconds per step", "time", title="Steps")
    speeds = plan.probe.seconds_per_step if plan.probe else (None,) * len(plan.phases)
    for number, (phase, speed) in enumerate(zip(plan.phases, speeds, strict=True), 1):
        table.add_row(
            str(number),
            f"{phase.epochs:g}",
            f"{phase.steps:,}",
            f"{phase.warmup_steps:,}",
            f"{phase.groups_per_step:,}",
            f"{speed:.3g}" if speed is not None else "--probe",
            duration(speed * phase.steps) if speed is not None else "--probe",
        )
    return table
