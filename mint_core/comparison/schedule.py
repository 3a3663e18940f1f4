"""Which runs a comparison consists of: every row with every seed, resolved before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from mint_core.comparison.rows import Pair, Row, check_pairs, check_rows, parse_seeds
from mint_core.config import Resolved, merge, resolve
from mint_core.errors import ConfigError
from mint_core.files import digest_of
from mint_core.interfaces import Aligner
from mint_core.plugins import Registry, registry
from mint_core.preservation.wanted import Wanted
from mint_core.runs.store import Store
from mint_core.stages.outputs import ADAPTER


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a comparison."""

    row: Row
    seed: int | None
    """Seed of the alignment; None where nothing is aligned."""
    resolved: Resolved
    starts_from: str | None = None
    """Folder of the run whose adapter it starts from."""
    first_adapter: Path | None = None
    """That adapter."""
    alone: Resolved | None = None
    """The config without it."""
    baseline: bool = False
    """Its teacher answers itself: nothing but `label` is wanted of it."""

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        return str(self.resolved.config.name)

    @property
    def title(self) -> str:
        """Row and seed."""
        return self.row.name if self.seed is None else f"{self.row.name}, seed {self.seed}"

    @property
    def aligner(self) -> str | None:
        """Name of its aligner."""
        return self.resolved.aligner.name if self.resolved.aligner else None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A comparison before it starts."""

    kind: str
    """`compare` or `sweep`."""
    path: Path
    """The comparison's folder."""
    store: Store
    """All runs beside the comparison, whose complete stages are reused."""
    layer: Mapping[str, Any]
    """The user's config, without rows."""
    rows: tuple[Row, ...]
    baselines: tuple[Row, ...]
    seeds: tuple[int, ...]
    runs: tuple[PlannedRun, ...]
    """In the order of the rows."""
    baseline_runs: tuple[PlannedRun, ...]
    pairs: tuple[Pair, ...] = ()
    """Rows that are tested against each other, beside every row against the one before."""
    preserve: Wanted | None = None
    """General ability that is measured beside each row."""

    @property
    def work(self) -> list[PlannedRun]:
        """All runs in the order of work, baselines last."""
        return [*self.in_order(), *self.baseline_runs]

    def in_order(self) -> list[PlannedRun]:
        """The runs in the order of work: those that another starts from come first."""
        found = {run.folder: run for run in self.runs}

        def depth(run: PlannedRun) -> int:
            return 0 if run.starts_from is None else 1 + depth(found[run.starts_from])

        return sorted(self.runs, key=depth)


def make_schedule(
    kind: str,
    layer: Mapping[str, Any],
    rows: Sequence[Row],
    seeds: str | int | Sequence[int],
    *,
    baselines: Sequence[Row] = (),
    pairs: Sequence[Pair] = (),
) -> Schedule:
    """Resolves every row with every seed.

    Args:
        kind: `compare` or `sweep`.
        layer: The user's config: file, overrides and flags merged.
        rows: The rows.
        seeds: See `parse_seeds`.
        baselines: Rows whose teacher answers itself.
        pairs: Names of rows that are tested against each other.

    Raises:
        ConfigError: There is no row, or a row, a seed, a pair or a config is wrong.
    """
    if layer.get("align_seed") is not None:
        raise ConfigError("`align_seed` is one run's; a comparison takes --seeds, for example --seeds 0,5,7.")
    if not rows:
        raise ConfigError("A comparison needs rows; name them, for example --aligners base,sft,dpo,orpo.")
    components = registry()
    check_rows([*rows, *baselines])
    first = resolve(merge(layer, rows[0].overlay), components)
    numbers = parse_seeds(seeds, first.config.seed)
    path = first.config.out / str(first.config.name or _default_name(kind, layer, first))
    below = {
        # What the config leaves open must not depend on the row: a baseline is no task's default teacher.
        "task": {"name": first.task.name},
        "teacher": {"name": first.teacher.name},
        "predict": {"base": False},  # the base student has a row of its own
    }

    def planned(row: Row, folder: str, seed: int | None) -> PlannedRun:
        place = {"name": folder, "out": str(path), "align_seed": seed}
        return PlannedRun(row, seed, resolve(merge(below, layer, row.overlay, place), components))

    runs: list[PlannedRun] = []
    for row in rows:
        alone = planned(row, row.folder, None)
        # Without alignment nothing is drawn, because the student answers greedily: one run is enough.
        unaligned = alone.resolved.aligner is None
        runs += [alone] if unaligned else [planned(row, f"{row.folder}-seed{s}", s) for s in numbers]
    judged = {"task": rows[0].overlay["task"]} if "task" in rows[0].overlay else {}
    baseline_runs = tuple(
        replace(planned(Row(row.name, merge(judged, row.overlay)), f"baseline-{row.folder}", None), baseline=True)
        for row in baselines
    )
    _check_folders([*runs, *baseline_runs])
    check_pairs(
        pairs,
        [*rows, *baselines],
        [run.row for run in runs if run.resolved.retriever and run.resolved.retriever.ranks_labels],
    )
    return Schedule(
        kind=kind,
        path=path,
        store=Store(first.config.out),
        layer=layer,
        rows=tuple(rows),
        baselines=tuple(baselines),
        seeds=numbers,
        runs=tuple(_with_start(run, runs, components) for run in runs),
        baseline_runs=baseline_runs,
        pairs=tuple(pairs),
    )


def _check_folders(runs: Sequence[PlannedRun]) -> None:
    """Two runs in one folder would replace each other's results.

    Raises:
        ConfigError: A row's name is that of another row with its seed.
    """
    seen: dict[str, PlannedRun] = {}
    for run in runs:
        other = seen.setdefault(run.folder.lower(), run)
        if other is not run:
            raise ConfigError(
                f"The rows '{other.row.name}' and '{run.row.name}' share the folder {run.folder}; rename one."
            )


def _with_start(run: PlannedRun, runs: Sequence[PlannedRun], components: Registry) -> PlannedRun:
    """The run with the adapter that it starts from, where its aligner can start from one and a row makes it."""
    mine = _aligner(run)
    for other in runs:
        theirs = _aligner(other)
        if mine is None or theirs is None or other is run or not _same_but_aligner(run, other):
            continue
        option = mine.start_option(theirs)
        if option is not None:
            adapter = other.resolved.config.out / other.folder / ADAPTER
            started = merge(run.resolved.dump(), {"aligner": {option: str(adapter)}})
            begun = resolve(started, components)
            return replace(run, resolved=begun, starts_from=other.folder, first_adapter=adapter, alone=run.resolved)
    return run


def _aligner(run: PlannedRun) -> Aligner | None:
    chosen = run.resolved.aligner
    return None if chosen is None else cast(Aligner, chosen.make())


def _same_but_aligner(run: PlannedRun, other: PlannedRun) -> bool:
    """Whether one run's adapter is what the other would have made itself: same seed, data, labels and student."""
    keys = ("task", "teacher", "strategy", "student", "seed", "align_seed")
    mine, theirs = run.resolved.dump(), other.resolved.dump()
    return all(mine[key] == theirs[key] for key in keys) and _passages(mine) == _passages(theirs)


def _passages(dump: Mapping[str, Any]) -> Any:
    """What stands in the training prompts beside the samples themselves."""
    retrieval = dump["retrieval"]
    return (dump["retriever"], retrieval["tokens"]) if retrieval["train"] else None


def _default_name(kind: str, layer: Mapping[str, Any], first: Resolved) -> str:
    """Kind, task, teacher and a hash of the config without rows and seeds, so that more of them can be added."""
    plain = {key: value for key, value in layer.items() if key not in ("name", "out", "align_seed")}
    return "-".join([kind, first.task.name, first.teacher.name, digest_of(plain)[:8]])
