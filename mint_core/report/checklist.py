"""Reporting checklists of journals: what a run knows is filled in with where it stands, the rest are questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import yaml

from mint_core.characters import markdown_table, visible
from mint_core.evaluation.statistics import told
from mint_core.report.card import without_folders
from mint_core.report.conclusion import conclusion
from mint_core.report.table import columns_of, how_asked
from mint_core.types import VARIANTS, Variant

CHECKLISTS = ("tripod-llm", "tripod-ai")
"""Those whose numbers and topics could be held against their publication."""

_ALIGNED, _BASE = Variant("aligned").name, Variant("base").name


@dataclass(frozen=True, slots=True)
class Known:
    """What the files of a run say."""

    record: Mapping[str, Any]
    """Content of run.json."""
    metrics: Mapping[str, Any]
    """Content of metrics.json."""
    history: Mapping[str, Any] | None
    """Content of history.json; None where nothing was aligned."""
    preserved: Mapping[str, Any] | None
    """Content of preserve.json, where general ability was measured."""


class Found(NamedTuple):
    """One thing that is known."""

    text: str
    where: str
    """File and key."""


State = Literal["filled", "partly", "open"]


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a checklist, as far as a run can answer it."""

    item: str
    """Its number in the publication."""
    topic: str
    """In our words."""
    found: tuple[Found, ...]
    question: str
    """What only the author can answer; empty where nothing is left."""

    @property
    def state(self) -> State:
        """`filled`: nothing is left to ask; `partly`: something is known; `open`: nothing is."""
        return "open" if not self.found else "partly" if self.question else "filled"


@dataclass(frozen=True, slots=True)
class Checklist:
    """A checklist that is filled in for a run."""

    title: str
    source: str
    """The publication."""
    items: tuple[Item, ...]

    def count(self, state: State) -> int:
        """Items in a state."""
        return sum(one.state == state for one in self.items)

    @property
    def told(self) -> str:
        """How many items are filled."""
        return (
            f"{self.title}: {self.count('filled')} of {len(self.items)} items filled from the run, "
            f"{self.count('partly')} in part, {self.count('open')} are questions to the author."
        )

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        items = [
            {**asdict(one), "found": [found._asdict() for found in one.found], "state": one.state} for one in self.items
        ]
        return {"title": self.title, "source": self.source, "told": self.told, "items": items}


def fill(name: str, known: Known) -> Checklist:
    """Fills a checklist in.

    Args:
        name: One of `CHECKLISTS`.
        known: What the run knows.
    """
    content = yaml.safe_load((files("mint_core.report") / "checklists" / f"{name}.yaml").read_text(encoding="utf-8"))
    items = []
    for one in content["items"]:
        found = [fact for key in one.get("knows", ()) if (fact := FIELDS[key](known)) is not None]
        missing = "" if found or not one.get("knows") else "The run does not say."
        question = one.get("asks", "") or missing
        items.append(Item(one["item"], one["topic"], tuple(found), question))
    return Checklist(content["title"], content["source"], tuple(items))


def markdown(checklist: Checklist, name: str) -> str:
    """The checklist as Markdown, for a supplement.

    Args:
        checklist: A filled one.
        name: Of the run.
    """
    return "\n".join(_lines(checklist, name)) + "\n"


def _lines(checklist: Checklist, name: str) -> Iterator[str]:
    yield f"# {checklist.title}, filled in from the run {visible(name)}"
    yield ""
    yield checklist.told
    yield ""
    yield f"Numbers follow {checklist.source}. Topics and questions are in mint's own words: read the checklist itself."
    yield ""
    header = ("item", "topic", "state", "what the run knows (where it stands)", "question to the author")
    lines = [
        (one.item, one.topic, one.state, "; ".join(f"{fact.text} ({fact.where})" for fact in one.found), one.question)
        for one in checklist.items
    ]
    yield from markdown_table(header, lines)


def _aim(known: Known) -> Found:
    config, metrics = known.record["config"], known.metrics
    aligner = (config.get("aligner") or {}).get("name")
    what = f"a student is aligned ({aligner}) and evaluated" if aligner else "a student is evaluated as it is"
    return Found(
        f"{what}: {metrics['N']} of {metrics['n_labels']} labels per sample", "run.json: config; metrics.json: N"
    )


def _source(known: Known) -> Found:
    data = known.record["data"]
    simulated = "SIMULATED data: " if data["simulated"] else ""
    return Found(f"{simulated}{without_folders(data['source'])}", "run.json: data.source")


def _splits(known: Known) -> Found:
    samples = known.record["data"]["samples"]
    told_samples = ", ".join(f"{split} {count:,}" for split, count in samples.items())
    return Found(
        f"samples: {told_samples}; evaluated: {known.record['data']['reported_split']}", "run.json: data.samples"
    )


def _scored(known: Known) -> Found | None:
    rows = _rows(known, _ALIGNED) or _rows(known, _BASE)
    counts = [f"{row['subset']} {row['n']:,}" for row in rows]
    return Found(f"scored samples: {', '.join(counts)}", "metrics.json: rows[].n") if counts else None


def _labels(known: Known) -> Found:
    labels = known.record["data"]["labels"]
    return Found(f"{len(labels):,} labels", "run.json: data.labels")


def _facts(known: Known) -> Found | None:
    facts = known.record["data"]["facts"]
    counted = "; ".join(f"{without_folders(name)}: {count:,}" for name, count in facts.items())
    return Found(counted, "run.json: data.facts") if counted else None


def _licence(known: Known) -> Found | None:
    licence = known.record["data"]["licence"]
    return Found(f"licence of the data: {licence}", "run.json: data.licence") if licence else None


def _student(known: Known) -> Found:
    student, about = known.record["config"]["student"], known.record.get("student") or {}
    asked = known.metrics["asked"]
    if asked["engine"] == "endpoint":
        return Found(how_asked(asked), "metrics.json: asked")
    parts = [about.get("embedded") or without_folders(student["model"])]
    parts += [f"revision {student['revision']}"] if student.get("revision") else []
    return Found(", ".join(parts), "run.json: config.student")


def _trained(known: Known) -> Found | None:
    align = known.record["stages"].get("align")
    if align is None:
        return None
    facts = align["facts"]
    return Found(f"adapter {align['key'][:12]}, {facts['steps']} steps", "run.json: stages.align")


def _teacher(known: Known) -> Found:
    name = known.record["config"]["teacher"]["name"]
    top = ", ".join(f"{split} {100 * one['top_1']:.1f} %" for split, one in known.metrics["teacher_top_1"].items())
    return Found(f"teacher {name}, Top-1: {top}", "run.json: config.teacher; metrics.json: teacher_top_1")


def _aligner(known: Known) -> Found | None:
    if known.history is None:
        return None
    config = known.record["config"]
    seed = config["seed"] if config.get("align_seed") is None else config["align_seed"]
    return Found(f"aligner {config['aligner']['name']}, LoRA, seed {seed}", "run.json: config.aligner")


def _strategy(known: Known) -> Found | None:
    if known.history is None:
        return None
    strategy = {key: value for key, value in known.record["config"]["strategy"].items() if value is not None}
    return Found(f"preferences: {_listed(strategy)}", "run.json: config.strategy")


def _settings(known: Known) -> Found | None:
    if known.history is None:
        return None
    keys = ("epochs", "learning_rate", "batch_size", "lora_rank", "lora_alpha", "lora_targets", "weight")
    settings = {key: known.history["settings"][key] for key in keys if key in known.history["settings"]}
    return Found(_listed(settings), "training/history.json: settings")


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _prompting(known: Known) -> Found:
    config = known.record["config"]
    passages = f"passages of {config['retriever']['name']}" if config.get("retriever") else "no passages"
    shots = config["predict"]["shots"]
    asked = how_asked(known.metrics["asked"]) or "asked plainly"
    return Found(f"{passages}; {shots} solved examples; {asked}", "run.json: config.predict, config.retrieval")


def _decoding(known: Known) -> Found:
    longest = known.record["stages"].get("predict", {}).get("facts", {}).get("max_new_tokens")
    limit = f", at most {longest} tokens" if longest else ""
    decode = known.metrics["decode"]
    return Found(
        f"decode {decode}, greedy{limit}, seed {known.metrics['seed']}", "run.json: config.predict, stages.predict"
    )


def _output(known: Known) -> Found:
    metrics = known.metrics
    return Found(
        f"a ranked list of {metrics['N']} labels, made by decode {metrics['decode']}", "metrics.json: N, decode"
    )


def _confidence(known: Known) -> Found | None:
    if "calibration" not in known.metrics:
        return None
    return Found("calibration of the scored labels was measured", "metrics.json: calibration")


def _metrics(known: Known) -> Found:
    titles = ", ".join(known.metrics["titles"].values())
    return Found(f"{titles}; each with its rule", "metrics.json: titles, rules")


def _compared(known: Known) -> Found:
    names = dict.fromkeys(VARIANTS[row["variant"]].title for row in known.metrics["rows"])
    return Found(f"on the same samples: {', '.join(names)}", "metrics.json: rows, aligned_minus_base")


def _performance(known: Known) -> Found | None:
    lines = [
        f"{VARIANTS[row['variant']].title}: "
        + ", ".join(f"{column.heading} {told(row['metrics'][column.key])}" for column in columns_of(known.metrics))
        for row in (*_rows(known, _ALIGNED)[:1], *_rows(known, _BASE)[:1])
    ]
    level = round(100 * known.metrics["confidence"])
    return Found(f"percent with {level} % intervals; {'; '.join(lines)}", "metrics.json: rows") if lines else None


def _rows(known: Known, variant: str) -> list[Mapping[str, Any]]:
    return [row for row in known.metrics["rows"] if row["variant"] == variant]


def _subgroups(known: Known) -> Found | None:
    sets = (known.metrics.get("subgroups") or {}).get("sets", {})
    fields = dict.fromkeys(field for one in sets.values() for field in one)
    if not fields:
        return None
    return Found(f"results by {', '.join(fields)}, with the worst gaps", "metrics.json: subgroups")


def _unseen(known: Known) -> Found | None:
    subsets = dict.fromkeys(row["subset"] for row in known.metrics["rows"])
    if len(subsets) < 2:
        return None
    return Found(f"results apart for: {', '.join(subsets)}", "metrics.json: rows[].subset")


def _compute(known: Known) -> Found:
    stages = known.record["stages"]
    told_stages = ", ".join(f"{name} {one['seconds']:.0f} s" for name, one in stages.items())
    peak = max((one["peak_memory_bytes"] for one in stages.values()), default=0)
    return Found(f"{told_stages}; peak memory {peak / 2**30:.1f} GiB", "run.json: stages")


def _software(known: Known) -> Found:
    versions = known.record["versions"]
    names = ("mint-core", "python", "torch", "transformers", "peft")
    told_versions = ", ".join(f"{name} {versions[name]}" for name in names if versions.get(name))
    return Found(told_versions, "run.json: versions, components")


def _again(known: Known) -> Found:
    return Found("`mint run --config run.json` makes the run again", "run.json")


def _model(known: Known) -> Found | None:
    if known.history is None:
        return None
    return Found("the adapter with its card, and what it needs to predict alone", "adapter/, adapter/mint.json")


def _conclusion(known: Known) -> Found | None:
    text = conclusion(known.metrics)
    return Found(text, "report.html, from metrics.json") if text else None


def _limits(known: Known) -> Found:
    simulated = "simulated data say nothing about patients; " if known.record["data"]["simulated"] else ""
    preserved = "; general ability before and after was measured" if known.preserved else ""
    return Found(
        f"{simulated}intervals from {known.metrics['bootstrap']} bootstrap draws of groups cover the choice of "
        f"samples, not the training (one seed){preserved}",
        "metrics.json: bootstrap, confidence" + ("; preserve.json" if known.preserved else ""),
    )


def _use(_: Known) -> Found:
    return Found("for research; no output may decide about a patient", "adapter/README.md")


FIELDS: Mapping[str, Callable[[Known], Found | None]] = {
    "aim": _aim, "source": _source, "splits": _splits, "scored": _scored, "labels": _labels, "facts": _facts,
    "licence": _licence, "student": _student, "trained": _trained, "teacher": _teacher, "aligner": _aligner,
    "strategy": _strategy, "settings": _settings, "prompting": _prompting, "decoding": _decoding, "output": _output,
    "confidence": _confidence, "metrics": _metrics, "compared": _compared, "performance": _performance,
    "subgroups": _subgroups, "unseen": _unseen, "compute": _compute, "software": _software, "again": _again,
    "model": _model, "conclusion": _conclusion, "limits": _limits, "use": _use,
}  # fmt: skip
"""What a checklist may ask of a run, by the names that its file uses."""
