"""`compare`: several rows on one set of labels and preferences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from filelock import FileLock

from mint_core.answering.scores import ScoreTable
from mint_core.comparison.answers import Answers, answers, read_variant, write_answers
from mint_core.comparison.plan import Plan, PlannedRun, plan, refuse_seed_of_one_run
from mint_core.comparison.rows import (
    CHANCE,
    RETRIEVER,
    TEACHER,
    Row,
    aligner_rows,
    parse_baselines,
    parse_pairs,
    parse_row,
    read_section,
    section_rows,
)
from mint_core.comparison.summary import TEST, compare_pairs, summarise
from mint_core.config import merge, parse_override, read_config
from mint_core.errors import ConfigError, MintError
from mint_core.evaluation.evaluate import Record, score_samples
from mint_core.files import acquire, digest_of, read_json, storage_errors, write_json
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.runs.checks import check_sizes
from mint_core.runs.pipeline import RunResult, Shared, run_resolved
from mint_core.stages.evaluate import evaluation_samples
from mint_core.stages.outputs import METRICS, SCORES
from mint_core.stages.run import Run
from mint_core.types import Prediction, Variant

SEEDS = 3
"""Seeds of every reported number."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished comparison."""

    path: Path
    """Its folder: compare.json or sweep.json, table, figures, and one run folder per row and seed."""
    content: Mapping[str, Any] = field(repr=False)
    """Content of compare.json or sweep.json."""
    runs: tuple[RunResult, ...]
    """The runs in the order of work, baselines last."""


def compare(
    config: Mapping[str, Any] | str | Path | None = None,
    *,
    aligners: Sequence[str] = (),
    rows: Sequence[Row | str] = (),
    seeds: str | int | Sequence[int] | None = None,
    baselines: Sequence[str] = (),
    pairs: Sequence[str | Sequence[str]] = (),
    overrides: Sequence[str] = (),
    observer: Observer | None = None,
    **options: Any,
) -> Comparison:
    """Makes one run per row and seed, on one set of labels and preferences, and compares them.

    Args:
        config: As for `mint_core.run`; its `compare` section may hold rows, seeds, baselines and pairs.
        aligners: One row each; `base` is the student before alignment.
        rows: Further rows: `Row(name, overlay)`, or `NAME=aligner:key=value,...`.
        seeds: A count (from the config's seed on) or a list of seeds of the alignment; default 3.
        baselines: Teachers that are fitted on the same training split and answer themselves: `NAME:key=value,...`.
        pairs: Names of rows that are tested against each other, `FIRST,SECOND`.
        overrides: `a.b=c` strings, as with --set.
        observer: Hears of the progress; silent by default.
        **options: Top-level keys of the config.

    Raises:
        MintError: Something is wrong with rows, seeds, config, data or models; the message says what to do.
    """
    layer = gather(config, overrides, options)
    section = read_section(layer.pop("compare", None))
    own = [*aligner_rows(aligners, layer), *(parse_row(row) if isinstance(row, str) else row for row in rows)]
    chosen = [*own, *section_rows(section)] if own else section_rows(section)
    names = baselines or section.get("baselines", ())
    wanted = next(given for given in (seeds, section.get("seeds"), SEEDS) if given is not None)
    tested = parse_pairs(pairs or section.get("pairs") or ())
    made = make_plan("compare", layer, chosen, wanted, baselines=parse_baselines(names), pairs=tested)
    return carry_out(made, observer or Observer())


def gather(
    config: Mapping[str, Any] | str | Path | None, overrides: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The user's config from a file or mapping, overrides and options."""
    file = dict(config) if isinstance(config, Mapping) else read_config(Path(config)) if config else {}
    given = {key: value for key, value in options.items() if value is not None}
    return merge(file, *map(parse_override, overrides), given)


def make_plan(
    kind: str,
    layer: Mapping[str, Any],
    rows: Sequence[Row],
    seeds: str | int | Sequence[int],
    *,
    baselines: Sequence[Row] = (),
    pairs: Sequence[tuple[str, str]] = (),
) -> Plan:
    """The plan, refused where it makes no comparison.

    Raises:
        ConfigError: There is no row, or a row, a seed or a config is wrong.
    """
    refuse_seed_of_one_run(layer)
    if not rows:
        raise ConfigError("A comparison needs rows; name them, for example --aligners base,sft,dpo,orpo.")
    return plan(kind, layer, rows, seeds=seeds, baselines=baselines, components=registry(), pairs=pairs)


def carry_out(made: Plan, observer: Observer) -> Comparison:
    """Makes all runs, one after the other, and writes what they show beside each other.

    Every complete stage of every run is reused, and a stage that several rows share is made by the first of them.

    Args:
        made: The plan.
        observer: Hears of the progress.
    """
    shared = Shared(made.store)
    for run in (*made.runs, *made.baseline_runs):
        _check(run, shared, observer)
    with storage_errors(made.path):
        made.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(made.path / ".lock")
    acquire(lock)
    try:
        results = _run_all(made, shared, observer)
        rows = _rows(made, shared, observer)
        _name_missing(made.pairs, rows, observer)
        return Comparison(made.path, _write(made, rows), tuple(results))
    finally:
        lock.release()


def _check(run: PlannedRun, shared: Shared, observer: Observer) -> None:
    """Refuses what does not fit the data, before the first run."""
    try:
        check_sizes(_run(run, shared, observer))
    except MintError as error:
        raise type(error)(f"Row '{run.row.name}': {error}") from None


def _run(run: PlannedRun, shared: Shared, observer: Observer) -> Run:
    """What the stages of a run see."""
    return Run(run.resolved, _path(run), observer, shared.store.cache, shared.data)


def _run_all(made: Plan, shared: Shared, observer: Observer) -> list[RunResult]:
    results = []
    work = [(run, "report") for run in made.in_order()] + [(run, "label") for run in made.baseline_runs]
    for number, (run, until) in enumerate(work, 1):
        seed = "" if run.seed is None else f", seed {run.seed}"
        start = f", from the adapter of {run.starts_from}" if run.starts_from else ""
        observer.message(f"[{number}/{len(work)}] {run.row.name}{seed}{start}")
        result = run_resolved(run.resolved, until=until, observer=observer, shared=shared)
        results.append(result)
    return results


def _rows(made: Plan, shared: Shared, observer: Observer) -> list[Answers]:
    """Students in the order of the rows, then each teacher and retriever, the baselines and the random list."""
    rows = [_student(row, [run for run in made.runs if run.row is row]) for row in made.rows]
    first = made.runs[0]
    for run in _by_teacher(made):
        name = TEACHER if run is first else f"{TEACHER} of {run.row.name}"
        rows.append(answers(name, "teacher", [run.folder], {None: read_variant(_path(run), "teacher")}))
    for number, (run, records) in enumerate(_by_retriever(made)):
        name = f"{RETRIEVER} of {run.row.name}" if number else RETRIEVER
        rows.append(answers(name, "retriever", [run.folder], {None: records}))
    judge = _run(first, shared, observer)
    for run in made.baseline_runs:
        rows.append(answers(run.row.name, "baseline", [run.folder], {None: _judged(judge, run, shared, observer)}))
    rows.append(answers(CHANCE, "chance", [first.folder], {None: read_variant(_path(first), "chance")}))
    return rows


def _name_missing(pairs: Sequence[tuple[str, str]], rows: Sequence[Answers], observer: Observer) -> None:
    """A retriever that turned out to rank no labels has no row, nor has a teacher whose rankings are another row's."""
    names = [row.name for row in rows]
    for missing in dict.fromkeys(name for pair in pairs for name in pair if name not in names):
        observer.message(f"There is no row '{missing}', so that the pairs that name it are not tested.")


def _student(row: Row, runs: Sequence[PlannedRun]) -> Answers:
    fused = runs[0].resolved.config.retrieval.fuse != "none"
    variant = Variant("aligned" if runs[0].aligner else "base", fused=fused)
    by_seed = {run.seed: read_variant(_path(run), variant.name) for run in runs}
    facts: dict[str, Any] = {"aligner": runs[0].aligner, "overlay": dict(row.overlay)}
    starts = {str(run.seed): run.starts_from for run in runs if run.starts_from}
    if starts:
        facts["starts_from"] = starts
    return answers(row.name, "student", [run.folder for run in runs], by_seed, facts)


def _by_teacher(made: Plan) -> list[PlannedRun]:
    """The first run of every set of rankings."""
    found: dict[str, PlannedRun] = {}
    for run in made.runs:
        rankings = read_json(_path(run) / "stages" / "label.json")["key"]
        found.setdefault(rankings, run)
    return list(found.values())


def _by_retriever(made: Plan) -> list[tuple[PlannedRun, dict[str, Record]]]:
    """The first run of every retriever's ranking, with the records of its own list."""
    found: list[tuple[PlannedRun, dict[str, Record]]] = []
    seen: set[str] = set()
    for run in made.runs:
        if run.resolved.retriever is None or not (records := read_variant(_path(run), RETRIEVER)):
            continue
        ids = sorted(records)
        scores = cast(ScoreTable, ScoreTable.read(_path(run) / SCORES)).rows(RETRIEVER, ids)
        content = digest_of([[records[sample] for sample in ids], scores.tobytes().hex()])
        if content not in seen:
            seen.add(content)
            found.append((run, records))
    return found


def _judged(judge: Run, run: PlannedRun, shared: Shared, observer: Observer) -> dict[str, Any]:
    """A baseline's own list, judged like the first row's teacher: CAR asks for that teacher's top and bottom labels."""
    rankings = _run(run, shared, observer).rankings()
    variant = Variant("baseline").name
    lists = [Prediction.of_labels(s.id, variant, rankings[s.id].labels[: judge.n]) for s in judge.reported]
    judged = evaluation_samples(judge, lists, judge.rankings())
    return {record["sample"]: record for record in score_samples(judged, judge.members, judge.metrics)}


def _path(run: PlannedRun) -> Path:
    return run.resolved.config.out / run.folder


def _write(made: Plan, rows: Sequence[Answers]) -> dict[str, Any]:
    """Record, per-sample table, figure and Markdown table, the record last."""
    from mint_core.comparison.figures import draw
    from mint_core.comparison.table import markdown

    metrics = [read_json(_path(run) / METRICS) for run in made.runs]
    first = metrics[0]
    titles = list(dict.fromkeys(title for one in metrics for title in one["rules"]))
    how = {"draws": first["bootstrap"], "confidence": first["confidence"], "seed": first["seed"]}
    content = {
        "kind": made.kind,
        "split": first["split"],
        "n": first["n"],
        "N": first["N"],
        "n_labels": first["n_labels"],
        "simulated": first["simulated"],
        "source": first["source"],
        "confidence": first["confidence"],
        "bootstrap": first["bootstrap"],
        "seed": first["seed"],
        "seeds": list(made.seeds),
        "test": TEST,
        "titles": titles,
        "rules": {title: rule for one in metrics for title, rule in one["rules"].items()},
        "rows": summarise(rows, titles, how),
        "pairs": compare_pairs(rows, made.pairs, titles, how),
        "config": _config(made),
        "versions": read_json(_path(made.runs[0]) / "run.json")["versions"],
    }
    write_answers(made.path / "samples.parquet", rows, titles)
    draw(content, made.path / made.kind)
    with storage_errors(made.path):
        (made.path / f"{made.kind}.md").write_text(markdown(content), encoding="utf-8")
    write_json(made.path / f"{made.kind}.json", content)
    return content


def _config(made: Plan) -> dict[str, Any]:
    """What `mint compare --config compare.json` and `mint sweep --config sweep.json` make the same from."""
    if made.kind == "sweep":
        return {**made.layer, "sweep": {"aor": [row.name for row in made.rows], "seeds": list(made.seeds)}}
    section = {
        "rows": [{"name": row.name, **row.overlay} for row in made.rows],
        "seeds": list(made.seeds),
        "baselines": [row.name for row in made.baselines],
        "pairs": [list(pair) for pair in made.pairs],
    }
    return {**made.layer, "compare": section}
