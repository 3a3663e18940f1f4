"""How well and how fast each method of the retriever `hpo` ranks the diseases of real patients.

    python benchmarks/retrieval.py                                  phenotype, bm25, fusion
    python benchmarks/retrieval.py --model ID_OR_FOLDER             embeddings beside them
    python benchmarks/retrieval.py --choices                        what was chosen on the training patients, and why

The patients are phenopackets, read by the task rare-disease (at least 15 patients per disease, 12 diseases held out).
The retriever is never trained, so seen and unseen only name the groups that students are compared on. A patient whose
disease the knowledge base does not have counts as not found. Every label is ranked; of equal scores the truth comes
last.

Curators make annotations of HPO from the same publications as phenopackets. The table therefore tells apart the
diseases of which nearly every phenotype of their patients is annotated (`annotated`) from the others (`less
annotated`).

Clinical notes in free text are ranked beside them; what names the disease is masked by the task, but they were written
by a language model that knew it.

Speed: an index is built into an empty folder, then loaded by another process, hpo3 included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mint_core.interfaces import Context
from mint_core.plugins import registry
from mint_core.types import Sample, TaskData
from mint_rag import knowledge
from mint_rag.finder import TermFinder
from mint_rag.hpo import Hpo, HpoConfig
from mint_rag.naming import DiseaseNames
from mint_rag.ranking import best_per_label, fuse
from mint_rag.similarity import PIVOT, phenotype_scores

ROOT = Path(__file__).parents[1]
PATIENTS = ROOT / ".." / "shared" / "data" / "rare_disease" / "phenopackets.zip"
NOTES = PATIENTS.with_name("clinical_notes.jsonl")
RESULT = ROOT / "benchmarks" / "results" / "retrieval.json"
METHODS = ("phenotype", "bm25", "fusion")
ANNOTATED = 0.95
"""Share of the distinct phenotypes of a disease's patients that its annotation must hold to count as annotated."""
DRAWS = 2000


def load(place: Path) -> TaskData:
    """The patients of the phenopackets, their labels and splits."""
    return _read(source="phenopackets", data=place, min_patients=15, unseen=12)


def load_notes(place: Path) -> TaskData:
    """The notes of `clinical_notes.jsonl`; all diseases, none held out."""
    columns = {"text": "clinical_note", "label": "disease"}
    settings = {"min_patients": 1, "min_groups": 1, "shared_aliases": "drop", "on_error": "skip", "privileged": ()}
    return _read(source="jsonl", data=place, columns=columns, **settings)


def _read(**options: Any) -> TaskData:
    task = registry().get("task", "rare-disease").component
    data: TaskData = task(task.Config(**options)).load()  # type: ignore[attr-defined]
    return data


def ranks_of_truth(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of the true label from 1; of equal scores it comes last. Where it is not known the rank is very large.

    Args:
        scores: Shape (n_samples, n_labels).
        truth: Shape (n_samples,).
    """
    own = scores[np.arange(len(truth)), truth]
    ranks = (scores >= own[:, None]).sum(1)
    return np.where(np.isneginf(own), np.iinfo(np.int64).max, ranks)


def measure(data: TaskData, config: HpoConfig, samples: Sequence[Sample]) -> dict[str, Any]:
    """Builds, loads and asks one retriever."""
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch)
        context = Context(labels=data.labels, cache=cache)
        begin = time.perf_counter()
        retriever = Hpo(config)
        retriever.context = context
        retriever.build()
        built = time.perf_counter() - begin
        size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        loaded = seconds_to_load(data, config, cache)
        begin = time.perf_counter()
        scores = retriever.label_scores(samples)
        asked = time.perf_counter() - begin
    assert scores is not None  # noqa: S101 - the labels are diseases
    return {"build_s": built, "load_s": loaded, "index_mb": size / 1e6, "ask_s": asked, "scores": scores}


def seconds_to_load(data: TaskData, config: HpoConfig, cache: Path) -> float:
    """Seconds of `build` in a new process where the index is there; imports of Python are not counted."""
    given = {"labels": [data.labels.names, data.labels.aliases], "config": config.model_dump(mode="json")}
    command = [sys.executable, __file__, "--load-from", str(cache)]
    done = subprocess.run(command, input=json.dumps(given), check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)


def load_again(cache: Path) -> float:
    """What `seconds_to_load` runs."""
    from mint_core.types import LabelSpace

    given = json.loads(sys.stdin.read())
    names, aliases = given["labels"]
    labels = LabelSpace(tuple(names), tuple(tuple(one) for one in aliases))
    retriever = Hpo(HpoConfig.model_validate(given["config"]))
    begin = time.perf_counter()
    retriever.context = Context(labels=labels, cache=cache)
    retriever.build()
    return time.perf_counter() - begin


class Overlap(NamedTuple):
    """How much of what patients have stands word for word in the annotation of their disease."""

    by_label: dict[str, float]
    """Share of the distinct phenotypes of a label's patients."""
    by_patient: dict[str, float]
    """Share of a patient's phenotypes, by sample id."""


def overlap(data: TaskData, samples: Sequence[Sample]) -> Overlap:
    """Compares patients with the annotations of hpo3."""
    with tempfile.TemporaryDirectory() as scratch:
        knowledge.build(Path(scratch), None, lambda _: None)
        known = knowledge.load(Path(scratch))
        finder, names = TermFinder(known.names), DiseaseNames(data.labels, known.diseases)
        own: dict[str, set[int]] = defaultdict(set)
        for disease, name in enumerate(known.diseases):
            label = names.find(name)
            if label is not None:
                own[label] |= set(known.phenotypes(disease).tolist())
        told: dict[str, set[int]] = defaultdict(set)
        patients: dict[str, float] = {}
        for sample in samples:
            label, found = str(sample.label), set(finder.find(sample.text or ""))
            told[label] |= found
            if found and label in own:
                patients[sample.id] = len(found & own[label]) / len(found)
    return Overlap({label: len(told[label] & own[label]) / len(told[label]) for label in own if told[label]}, patients)


def summary(ranks: NDArray[np.int64], groups: Sequence[str], n: int) -> dict[str, Any]:
    """Share of ranks up to n in percent, with a 95 % bootstrap interval that draws whole publications."""
    hits = (ranks <= n).astype(float)
    _, member = np.unique(np.array(groups), return_inverse=True)
    sums, counts = np.bincount(member, hits), np.bincount(member)
    drawn = np.random.default_rng(0).integers(0, len(counts), (DRAWS, len(counts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"value": round(100 * hits.mean(), 1), "interval": [round(100 * low, 1), round(100 * high, 1)]}


def rows(data: TaskData, samples: Sequence[Sample]) -> dict[str, NDArray[np.bool_]]:
    """Which patients each row of the table is about."""
    seen = {sample.label for sample in data.split("train")}
    shares = overlap(data, [sample for sample in data.samples if sample.label]).by_label
    is_seen = np.array([sample.label in seen for sample in samples])
    known = np.array([sample.label in shares for sample in samples])
    full = np.array([shares.get(str(sample.label), 0) >= ANNOTATED for sample in samples])
    return {
        "seen": is_seen,
        "unseen": ~is_seen,
        "seen, disease known": is_seen & known,
        "unseen, disease known": ~is_seen & known,
        "annotated": full,
        "less annotated": known & ~full,
    }


def run(place: Path, methods: Mapping[str, HpoConfig]) -> dict[str, Any]:
    """The whole result."""
    data = load(place)
    test = data.split("test")
    told = {"hpo": knowledge.release(), "machine": machine()}
    shares = list(overlap(data, test).by_patient.values())
    told["annotated word for word"] = {"test patients": len(shares), "mean share": round(float(np.mean(shares)), 3)}
    return {**told, **ranked(data, test, methods, rows)}


def run_notes(place: Path, methods: Mapping[str, HpoConfig]) -> dict[str, Any]:
    """The same of all notes."""
    data = load_notes(place)
    samples = [sample for sample in data.samples if sample.label]
    return ranked(data, samples, methods, lambda _, all_of: {"notes": np.full(len(all_of), True)})


def ranked(
    data: TaskData,
    test: Sequence[Sample],
    methods: Mapping[str, HpoConfig],
    rows: Callable[[TaskData, Sequence[Sample]], dict[str, NDArray[np.bool_]]],
) -> dict[str, Any]:
    """Every method on the same samples, and a ranking drawn at random."""
    asked = [sample.for_student("text") for sample in test]
    truth = np.array([data.labels.index(str(sample.label)) for sample in test])
    groups = [sample.group or sample.id for sample in test]
    chosen = rows(data, test)
    found: dict[str, Any] = {}
    for name, config in methods.items():
        measured = measure(data, config, asked)
        ranks = ranks_of_truth(measured.pop("scores"), truth)
        found[name] = {key: round(value, 3) for key, value in measured.items()}
        for row, mask in chosen.items():
            part = [group for group, inside in zip(groups, mask, strict=True) if inside]
            found[name][row] = {f"top{n}": summary(ranks[mask], part, n) for n in (1, 10)}
    rng = np.random.default_rng(0)
    ranks = ranks_of_truth(rng.random((len(test), len(data.labels)), np.float32), truth)
    found["random"] = {
        row: {f"top{n}": summary(ranks[mask], [g for g, i in zip(groups, mask, strict=True) if i], n) for n in (1, 10)}
        for row, mask in chosen.items()
    }
    return {
        "patients": {row: int(mask.sum()) for row, mask in chosen.items()},
        "labels": len(data.labels),
        "methods": found,
    }


# --- what was chosen on the training patients


def choices(place: Path) -> dict[str, dict[str, float]]:
    """Top-1 and Top-10 of other scores of phenotype similarity, and of other ways to fuse."""
    data = load(place)
    train = [sample for sample in data.split("train") if sample.label]
    texts = [sample.text or "" for sample in train]
    truth = np.array([data.labels.index(str(sample.label)) for sample in train])
    with tempfile.TemporaryDirectory() as scratch:
        retriever = Hpo(HpoConfig(method="fusion"))
        retriever.context = Context(labels=data.labels, cache=Path(scratch))
        retriever.build()
        known, label_of = retriever._known, retriever._label_of
        finder = TermFinder((name, phenotype) for name, phenotype in known.names)
        asked = [finder.find(text) for text in texts]
        found: dict[str, NDArray[np.float32]] = {}
        for pivot in (0.0, 0.15, PIVOT, 0.25, 0.35, 0.5):
            found[f"shared, pivot {pivot}"] = np.stack([phenotype_scores(known, one, pivot) for one in asked])
        shared = found["shared, pivot 0.0"]
        whole = np.array([known.information[closure(known, one)].sum() for one in asked])[:, None]
        found["simGIC"] = shared / np.maximum(whole + known.content - shared, 1e-6)
        labelled = np.flatnonzero(label_of >= 0)
        one_way, both_ways = best_matches(known, asked, labelled)
        scores = {name: best_per_label(rows, label_of, len(data.labels)) for name, rows in found.items()}
        for name, part in (("Resnik, patient to disease", one_way), ("Resnik, both ways", both_ways)):
            scores[name] = best_per_label(part, label_of[labelled], len(data.labels))
        methods = [method.scores(texts) for method in retriever._methods]
        scores["fusion among all diseases"] = best_per_label(fuse(methods), label_of, len(data.labels))
        few = fuse([method[:, labelled] for method in methods])
        scores["fusion among the labels"] = best_per_label(few, label_of[labelled], len(data.labels))
    ranks = {name: ranks_of_truth(rows, truth) for name, rows in scores.items()}
    return {name: {f"top{n}": round(100 * float((r <= n).mean()), 1) for n in (1, 10)} for name, r in ranks.items()}


def closure(known: knowledge.Knowledge, phenotypes: Sequence[int]) -> NDArray[np.int32]:
    """Everything at or above some phenotypes."""
    rows = [known.above[known.above_start[one] : known.above_start[one + 1]] for one in phenotypes]
    return np.unique(np.concatenate([*rows, np.empty(0, np.int32)])).astype(np.int32)


def best_matches(
    known: knowledge.Knowledge, asked: Sequence[Sequence[int]], diseases: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean best match of Resnik's similarity, from patient to disease, and the mean of both directions."""
    terms = sorted({term for one in asked for term in one})
    row_of = {term: row for row, term in enumerate(terms)}
    above = np.zeros((len(terms), len(known.information)), bool)
    for term, row in row_of.items():
        above[row, closure(known, [term])] = True
    there, both = (np.zeros((len(asked), len(diseases)), np.float32) for _ in range(2))
    for column, disease in enumerate(diseases):
        own = known.phenotypes(int(disease)).tolist()
        pairs = np.stack([(above[:, (at := closure(known, [term]))] * known.information[at]).max(1) for term in own], 1)
        for patient, one in enumerate(asked):
            if one:
                rows = pairs[[row_of[term] for term in one]]
                there[patient, column] = rows.max(1).mean()
                both[patient, column] = (rows.max(1).mean() + rows.max(0).mean()) / 2
    return there, both


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "python": platform.python_version(), "hpo3": version("hpo3"), "bm25s": version("bm25s"),
        "cores": os.cpu_count(), "load_at_start": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def table(result: Mapping[str, Any]) -> str:
    """Markdown."""
    counts = result["patients"]
    head = ["method", *(f"{row} (n = {count})" for row, count in counts.items()), "build s", "load s", "ask s", "MB"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, measured in result["methods"].items():
        cells = [f"{measured[row]['top1']['value']:.1f} / {measured[row]['top10']['value']:.1f}" for row in counts]
        speed = [
            f"{measured[key]:.1f}" if key in measured else "" for key in ("build_s", "load_s", "ask_s", "index_mb")
        ]
        lines.append("| " + " | ".join([name, *cells, *speed]) + " |")
    return "\n".join(["Top-1 / Top-10 in percent", "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=PATIENTS, help="phenopackets: a folder or zip archive")
    parser.add_argument("--notes", type=Path, default=NOTES, help="clinical notes; left out where there are none")
    parser.add_argument("--model", help="a sentence-transformers folder or id: adds the rows with embeddings")
    parser.add_argument("--choices", action="store_true", help="compare other scores on the training patients")
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON file")
    parser.add_argument("--load-from", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load_from:
        print(load_again(options.load_from))
        return
    if options.choices:
        result = json.loads(options.out.read_text()) if options.out.exists() else {}
        result["choices on training patients"] = choices(options.data)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(result["choices on training patients"], indent=2))
        return
    methods = {method: HpoConfig(method=method) for method in METHODS}  # type: ignore[arg-type]
    if options.model:
        methods["embeddings"] = HpoConfig(method="embeddings", model=options.model)
        every = ("phenotype", "bm25", "embeddings")
        methods["fusion of three"] = HpoConfig(method="fusion", fused=every, model=options.model)
    result = run(options.data, methods)
    if options.notes.exists():
        result["notes"] = run_notes(options.notes, methods)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(options.out.read_text()) if options.out.exists() else {}
    result |= {key: before[key] for key in before if key.startswith("choices")}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for part in filter(None, (result, result.get("notes"))):
        print(table(part), end="\n\n")


if __name__ == "__main__":
    main()
