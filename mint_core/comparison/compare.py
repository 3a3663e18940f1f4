"""`compare` and `sweep`: several rows on one set of labels and preferences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from filelock import FileLock

from mint_core.answering.scores import ScoreTable
from mint_core.comparison.breakdown import breakdown_of, grids, pairs_of
from mint_core.comparison.calibrated import calibrated
from mint_core.comparison.figures import draw
from mint_core.comparison.folder import SAMPLES, config_of, record_of, refuse_another, tables
from mint_core.comparison.page import write_page
from mint_core.comparison.parts import make_side_by_side
from mint_core.comparison.preserved import summarise_preserved
from mint_core.comparison.rows import (
    CHANCE,
    MAJORITY,
    RETRIEVER,
    TEACHER,
    Pair,
    Row,
    aligner_rows,
    parse_baselines,
    parse_pairs,
    parse_ratios,
    parse_row,
    read_section,
    section_rows,
    student_rows,
)
from mint_core.comparison.schedule import PlannedRun, Schedule, make_schedule
from mint_core.comparison.summary import TEST, compare_pairs, summarise
from mint_core.comparison.table import markdown
from mint_core.comparison.values import Columns, Kind, RowValues, read_variant, write_values
from mint_core.comparison.work import check, make_all, path_of, prepare_all, run_of
from mint_core.config import merge, parse_override, read_config, refuse_unknown, validated
from mint_core.errors import ConfigError
from mint_core.evaluation.confusions import Pair as LabelPair
from mint_core.evaluation.evaluate import Record, score_samples
from mint_core.evaluation.ranks import add_ranks, rank_in_rankings
from mint_core.files import access, acquire, digest_of, read_json, storage_errors, write_json
from mint_core.libraries import quiet_libraries
from mint_core.observer import Observer
from mint_core.preservation.harness import Asked, load_tasks
from mint_core.preservation.measure import Measured
from mint_core.preservation.wanted import Wanted, wanted_of
from mint_core.runs.folder import RunFolder
from mint_core.runs.pipeline import RunResult, Shared
from mint_core.runs.preserve import check_preservable, finish, preserve_run
from mint_core.runs.record import RECORD
from mint_core.stages.evaluate import evaluation_samples
from mint_core.stages.outputs import METRICS, SCORES
from mint_core.stages.stage import Manifest
from mint_core.types import Prediction, Variant

SEEDS = 3
"""Seeds of every reported number."""
_OF_THE_FIRST = ("split", "n", "N", "n_labels", "simulated", "quick", "source", "confidence", "bootstrap", "seed")
"""What the record says as metrics.json of the first run does."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished comparison."""

    path: Path
    """Its folder: compare.json or sweep.json, table, figures, and one run folder per row and seed."""
    content: Mapping[str, Any] = field(repr=False)
    """Content of compare.json or sweep.json."""
    runs: tuple[RunResult, ...]
    """The runs in the order of work, baselines last."""


@quiet_libraries()
def compare(
    config: Mapping[str, Any] | str | Path | None = None,
    *,
    aligners: Sequence[str] = (),
    rows: Sequence[Row | str] = (),
    students: Sequence[str] = (),
    seeds: str | int | Sequence[int] | None = None,
    baselines: Sequence[str] = (),
    pairs: Sequence[str | Sequence[str]] = (),
    preserve: str | Sequence[str] | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    jobs: int = 1,
    observer: Observer | None = None,
    **options: Any,
) -> Comparison:
    """Makes one run per row and seed, on one set of labels and preferences, and compares them.

    Args:
        config: As for `mint_core.run`; its `compare` section may hold rows, seeds, baselines, pairs and preserve.
        aligners: One row each; `base` is the student before alignment.
        rows: Further rows: `Row(name, overlay)`, or `NAME=aligner:key=value,...`.
        students: Every row with each of these students.
        seeds: A count (from the config's seed on) or a list of seeds of the alignment; default 3.
        baselines: Teachers that are fitted on the same training split and answer themselves: `NAME:key=value,...`.
        pairs: Names of rows that are tested against each other, `FIRST,SECOND`.
        preserve: Also measure general ability beside each row: a suite, or a mapping with the options of
            `mint_core.preserve` (suite, data, include_path, limit, shots, batch_size).
        overrides: `a.b=c` strings, as with --set.
        overwrite: Replace what another config left in the folder, as with --overwrite.
        jobs: Runs that are made side by side, in processes of their own.
        observer: Hears of the progress; silent by default.
        **options: Top-level keys of the config.

    Raises:
        MintError: Something is wrong with rows, seeds, config, data or models; the message says what to do.
    """
    layer = _gather(config, overrides, options)
    tested: dict[str, Any] = {"seeds": seeds, "baselines": baselines, "pairs": pairs, "preserve": preserve}
    made = plan_compare(layer, aligners=aligners, rows=rows, students=students, **tested)
    return carry_out(made, observer or Observer(), overwrite=overwrite, jobs=jobs)


@quiet_libraries()
def sweep(
    config: Mapping[str, Any] | str | Path | None = None,
    *,
    aor: Sequence[str] = (),
    seeds: str | int | Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    jobs: int = 1,
    observer: Observer | None = None,
    **options: Any,
) -> Comparison:
    """Makes one run per ratio and seed, on one set of labels, and draws every metric over q.

    Args:
        config: As for `mint_core.run`; its `sweep` section may hold `aor` and `seeds`.
        aor: Ratios k/q as `"10/15"`: k chosen against q rejected labels.
        seeds: A count (from the config's seed on) or a list of seeds of the alignment; default 3.
        overrides: `a.b=c` strings, as with --set.
        overwrite: Replace what another config left in the folder, as with --overwrite.
        jobs: Runs that are made side by side, in processes of their own.
        observer: Hears of the progress; silent by default.
        **options: Top-level keys of the config.

    Raises:
        MintError: Something is wrong with ratios, seeds, config, data or models; the message says what to do.
    """
    made = plan_sweep(_gather(config, overrides, options), aor=aor, seeds=seeds)
    return carry_out(made, observer or Observer(), overwrite=overwrite, jobs=jobs)


def plan_compare(
    layer: Mapping[str, Any],
    *,
    aligners: Sequence[str] = (),
    rows: Sequence[Row | str] = (),
    students: Sequence[str] = (),
    seeds: str | int | Sequence[int] | None = None,
    baselines: Sequence[str] = (),
    pairs: Sequence[str | Sequence[str]] = (),
    preserve: str | Sequence[str] | Mapping[str, Any] | None = None,
) -> Schedule:
    """What `compare` would make, all of it resolved; `layer` is the config, the rest as there.

    Raises:
        ConfigError: Something is wrong with rows, seeds, pairs or config.
    """
    layer = dict(layer)
    section = read_section(layer.pop("compare", None))
    own = [*aligner_rows(aligners, layer), *(parse_row(row) if isinstance(row, str) else row for row in rows)]
    chosen = [*own, *section_rows(section)] if own else section_rows(section)
    chosen = student_rows(students, chosen) if students else chosen
    names = baselines or section.get("baselines", ())
    wanted = next(given for given in (seeds, section.get("seeds"), _usual_seeds(layer)) if given is not None)
    tested = parse_pairs(pairs or section.get("pairs") or ())
    made = make_schedule("compare", layer, chosen, wanted, baselines=parse_baselines(names), pairs=tested)
    measured = preserve or section.get("preserve")
    if measured:
        made = replace(made, preserve=validated(Wanted, wanted_of(measured), "preserve"))
    return made


def plan_sweep(
    layer: Mapping[str, Any], *, aor: Sequence[str] = (), seeds: str | int | Sequence[int] | None = None
) -> Schedule:
    """What `sweep` would make, all of it resolved; `layer` is the config, the rest as there.

    Raises:
        ConfigError: Something is wrong with ratios, seeds or config.
    """
    layer = dict(layer)
    section = layer.pop("sweep", None) or {}
    if not isinstance(section, Mapping):
        raise ConfigError("`sweep` must be a mapping with `aor` and `seeds`.")
    refuse_unknown(("aor", "seeds"), section, "sweep")
    wanted = next(given for given in (seeds, section.get("seeds"), _usual_seeds(layer)) if given is not None)
    rows = parse_ratios(aor or section.get("aor"))
    # The control with shuffled images says nothing about a ratio.
    made = make_schedule("sweep", merge({"predict": {"shuffled": False}}, layer), rows, wanted)
    if any(run.aligner is None for run in made.runs):
        raise ConfigError("A sweep compares alignments; name an aligner with --aligner.")
    return made


def _gather(
    config: Mapping[str, Any] | str | Path | None, overrides: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The user's config from a file or mapping, overrides and options."""
    file = dict(config) if isinstance(config, Mapping) else read_config(Path(config)) if config else {}
    given = {key: value for key, value in options.items() if value is not None}
    return merge(file, *map(parse_override, overrides), given)


def _usual_seeds(layer: Mapping[str, Any]) -> int:
    return 1 if layer.get("quick") is True else SEEDS


def carry_out(made: Schedule, observer: Observer, *, overwrite: bool = False, jobs: int = 1) -> Comparison:
    """Makes all runs, and writes what they show beside each other.

    Every complete stage of every run is reused, and a stage that several rows share is made by the first of them.

    Args:
        made: The comparison.
        observer: Hears of the progress.
        overwrite: Replace what another config left in the folder.
        jobs: Runs that are made side by side, in processes of their own.
    """
    shared = Shared(made.store, overwrite=overwrite, tables=tables(made))
    if not overwrite:
        refuse_another(made)
    check(made.work, shared, observer)
    for run in made.runs if made.preserve else ():
        check_preservable(run.resolved)
    tasks = load_tasks(made.preserve) if made.preserve else []  # what is not there is told before hours of training
    with access(made.runs[0].resolved.config.access, made.path):
        with storage_errors(made.path):
            made.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(made.path / ".lock")
        acquire(lock)
        try:
            shared.store.prepare()
            if jobs > 1:
                make_side_by_side(made, jobs, observer, overwrite=overwrite)
            prepare_all(made.work, shared, observer)
            results = make_all(made.work, made, shared, observer)
            extra = _preserve(made, shared, observer, tasks) if made.preserve else {}
            return Comparison(made.path, _write(_Results.of(made), shared, observer, extra), tuple(results))
        finally:
            lock.release()


def _preserve(made: Schedule, shared: Shared, observer: Observer, tasks: Sequence[Asked]) -> dict[str, Any]:
    """General ability of every run, which goes into its own folder too; what runs share is asked once."""
    by_name: dict[str, list[Measured]] = {row.name: [] for row in made.rows}
    for planned in made.runs:
        observer.message(f"General ability: {planned.folder}")
        run = run_of(planned, shared, observer)
        with RunFolder(run.path) as folder:
            measured = preserve_run(run, cast(Wanted, made.preserve), tasks)
            finish(run, folder, measured)
        by_name[planned.row.name].append(measured)
    return {"preserved": summarise_preserved([(row, by_name[row.name]) for row in made.rows])}


@dataclass(frozen=True, slots=True)
class _Results:
    """What the runs of a comparison left."""

    made: Schedule
    metrics: Mapping[str, Mapping[str, Any]]
    """Content of metrics.json by run folder."""
    columns: Columns

    @classmethod
    def of(cls, made: Schedule) -> _Results:
        metrics = {run.folder: read_json(path_of(run) / METRICS) for run in made.runs}
        return cls(made, metrics, Columns.of(list(metrics.values())))

    @property
    def first(self) -> PlannedRun:
        """The run whose teacher, random list and settings stand for the comparison."""
        return self.made.runs[0]

    def read(self, run: PlannedRun, variant: str) -> dict[str, Record]:
        """One variant's records of a run, with the comparison's keys."""
        return self.columns.keyed(read_variant(path_of(run), variant), self.metrics[run.folder]["titles"])

    def rows(self, shared: Shared, observer: Observer) -> list[RowValues]:
        """Students in the order of the rows, teachers, retrievers and baselines, the random and the majority list."""
        students = [self._student(row, [run for run in self.made.runs if run.row is row]) for row in self.made.rows]
        beside = [*self._teachers(), *self._retrievers(), *self._baselines(shared, observer)]
        blind: tuple[tuple[str, Kind], ...] = ((CHANCE, "chance"), (MAJORITY, "majority"))
        lists = (
            RowValues(title, kind, (self.first.folder,), {None: self.read(self.first, kind)}) for title, kind in blind
        )
        return [*students, *beside, *lists]

    @property
    def pairs(self) -> list[LabelPair]:
        """The pairs of labels whose ranks some run tells."""
        return pairs_of(self.metrics.values())

    def broken_down(
        self, rows: Sequence[RowValues], told: Sequence[dict[str, Any]], how: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """What is told of the rows with subgroups and pairs of labels; lists of nobody who looked have none."""
        first = self.metrics[self.first.folder]
        return [
            entry
            if row.kind in ("chance", "majority")
            else entry | breakdown_of(row, self.metrics.get(row.runs[0], first), self.pairs, self.columns, how)
            for row, entry in zip(rows, told, strict=True)
        ]

    def _student(self, row: Row, runs: Sequence[PlannedRun]) -> RowValues:
        fused = runs[0].resolved.config.retrieval.fuse != "none"
        variant = Variant("aligned" if runs[0].aligner else "base", fused=fused)
        by_seed = {run.seed: self.read(run, variant.name) for run in runs}
        facts: dict[str, Any] = {"aligner": runs[0].aligner, "overlay": dict(row.overlay)}
        facts["asked"] = self.metrics[runs[0].folder]["asked"]
        facts |= calibrated({run.seed: self.metrics[run.folder] for run in runs}, variant.name)
        starts = {str(run.seed): run.starts_from for run in runs if run.starts_from}
        if starts:
            facts["starts_from"] = starts
        return RowValues(row.name, "student", tuple(run.folder for run in runs), by_seed, facts)

    def _teachers(self) -> list[RowValues]:
        """The first run of every set of rankings."""
        found: dict[str, PlannedRun] = {}
        for run in self.made.runs:
            found.setdefault(cast(Manifest, RunFolder(path_of(run)).manifest("label")).key, run)
        return [
            RowValues(
                f"{TEACHER} of {run.row.name}" if number else TEACHER,
                "teacher",
                (run.folder,),
                {None: self.read(run, "teacher")},
                calibrated({None: self.metrics[run.folder]}, "teacher"),
            )
            for number, run in enumerate(found.values())
        ]

    def _retrievers(self) -> list[RowValues]:
        """The first run of every retriever's ranking."""
        found: dict[str, RowValues] = {}
        for run in self.made.runs:
            if run.resolved.retriever is None or not (records := self.read(run, RETRIEVER)):
                continue
            ids = sorted(records)
            scores = cast(ScoreTable, ScoreTable.read(path_of(run) / SCORES)).rows(RETRIEVER, ids)
            judged = [{**records[sample], "lists": None, "confusers": None} for sample in ids]
            content = digest_of([judged, scores.tobytes().hex()])
            name = f"{RETRIEVER} of {run.row.name}" if found else RETRIEVER
            found.setdefault(content, RowValues(name, "retriever", (run.folder,), {None: records}))
        return list(found.values())

    def _baselines(self, shared: Shared, observer: Observer) -> list[RowValues]:
        """The baselines' own lists, judged like the first row's teacher: CAR asks for that teacher's lists."""
        judge = run_of(self.first, shared, observer)
        variant = Variant("baseline").name
        rows = []
        for run in self.made.baseline_runs:
            rankings = run_of(run, shared, observer).rankings()
            lists = [Prediction.of_labels(s.id, variant, rankings[s.id].labels[: judge.n]) for s in judge.reported]
            samples = evaluation_samples(judge, lists, judge.rankings())
            scored = {record["sample"]: record for record in score_samples(samples, judge.members, judge.metrics)}
            add_ranks(scored.values(), self.pairs, rank_in_rankings(rankings))
            records = self.columns.keyed(scored, self.metrics[self.first.folder]["titles"])
            rows.append(RowValues(run.row.name, "baseline", (run.folder,), {None: records}))
        return rows


def _name_missing(pairs: Sequence[Pair], rows: Sequence[RowValues], observer: Observer) -> None:
    """A retriever that turned out to rank no labels has no row, nor has a teacher whose rankings are another row's."""
    names = [row.name for row in rows]
    for missing in dict.fromkeys(name for pair in pairs for name in pair if name not in names):
        observer.message(f"There is no row '{missing}', so that the pairs that name it are not tested.")


def _write(results: _Results, shared: Shared, observer: Observer, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Per-sample table, figure, Markdown table and page, and the record last."""
    made, columns = results.made, results.columns
    rows = results.rows(shared, observer)
    _name_missing(made.pairs, rows, observer)
    first = results.metrics[results.first.folder]
    how = {"draws": first["bootstrap"], "confidence": first["confidence"], "seed": first["seed"]}
    content = {
        "kind": made.kind,
        **{key: first[key] for key in _OF_THE_FIRST},
        "seeds": list(made.seeds),
        "test": TEST,
        "titles": dict(columns.titles),
        "rules": dict(columns.rules),
        "rows": results.broken_down(rows, summarise(rows, columns, how), how),
        "pairs": compare_pairs(rows, made.pairs, columns, how),
        **extra,
        "config": config_of(made),
        "versions": read_json(path_of(results.first) / RECORD)["versions"],
    }
    write_values(made.path / SAMPLES, rows)
    draw(content, made.path / made.kind)
    with storage_errors(made.path):
        (made.path / f"{made.kind}.md").write_text(markdown(content, grids(content)), encoding="utf-8")
    write_page(content, made.path / made.kind)
    write_json(record_of(made), content)
    return content


def redraw(record: Path) -> Path:
    """Writes page, table and figure of a finished comparison again, from its compare.json or sweep.json.

    Returns:
        The page.

    Raises:
        ConfigError: The file is damaged.
    """
    kind = record.stem
    table = record.with_suffix(".md")
    try:
        content = read_json(record)
        text = markdown(content, grids(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{record} is damaged; give the `mint {kind}` command again.") from None
    draw(content, record.with_suffix(""))
    with storage_errors(table):
        table.write_text(text, encoding="utf-8")
    return write_page(content, record.with_suffix(""))
