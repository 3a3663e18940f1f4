"""How fast names are compared, against the published way, and that both decide alike.

    python benchmarks/metrics.py                      prints the ratios and writes benchmarks/results/metrics.json

published   as the authors' evaluator does it: difflib.SequenceMatcher of every generated name against every known one,
            both in lower case
mint        `mint_core.names.best_matches` on the same responses of ten names

Three times are taken of mint. Cold: nothing is known but the label space, every name is new. Warm: every name was seen
before. Evaluation: all four metrics on all responses in order, from nothing, as a run does it; names repeat there as
they do in the responses. Each is taken with Python's difflib alone and, where they are installed, with the packages of
`mint-metrics[fast]`.

The published way is timed on a few responses only, because it takes a third of a second each. The responses of an
aligned student hold mostly known names, those of a base student mostly others. `hard` responses hold no known name at
all: misspelt ones, ones with their words in another order, and other diseases. On the timed responses mint's nearest
label and its ratio are compared with plain difflib on all pairs, by mint's own rule (punctuation dropped, no autojunk).
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mint_core import names as similarity
from mint_core.interfaces import EvaluationSample
from mint_core.names import KNOWN, Match, best_matches
from mint_core.types import LabelSpace, Prediction, normalise_name
from mint_metrics.car import CAR
from mint_metrics.hfa import HFA
from mint_metrics.top_n import Top1, TopN

ROOT = Path(__file__).parents[1]
DATA = ROOT / ".." / "shared" / "data" / "rare_disease"
RESULT = ROOT / "benchmarks" / "results" / "metrics.json"
NAMES_PER_RESPONSE = 10
Response = tuple[str, ...]
MIXES = {
    # Known names, misspelt ones, ones with their words in another order, other diseases.
    "aligned": (8, 1, 0, 1),
    "base": (3, 2, 2, 3),
    "hard": (0, 3, 3, 4),
}
WORDS = (
    "congenital", "hereditary", "familial", "juvenile", "infantile", "progressive", "spastic", "autosomal", "recessive",
    "dominant", "X-linked", "muscular", "skeletal", "renal", "cardiac", "ocular", "neural", "cerebellar", "dystrophy",
    "dysplasia", "atrophy", "ataxia", "deficiency", "syndrome", "disease", "anomaly", "myopathy", "neuropathy",
    "retinopathy", "cardiomyopathy", "epilepsy", "intellectual", "developmental", "disorder", "type", "1", "2", "3",
)  # fmt: skip


def label_names() -> tuple[list[str], str]:
    """528 names and what they are."""
    file = DATA / "gmdb_label_names.json"
    if not file.exists():
        return drawn_names(528, random.Random(1)), "drawn names"
    names: dict[str, str] = {}
    for text in json.loads(file.read_text()).values():
        names.setdefault(normalise_name(text), text)
    return list(names.values()), "the labels of GMDB"


def other_names(known: LabelSpace) -> list[str]:
    """Diseases that are no label."""
    file = DATA / "omim_summaries.json"
    names = list(json.loads(file.read_text())) if file.exists() else drawn_names(400, random.Random(2))
    return [name for name in names if known.find(name) is None]


def drawn_names(count: int, draw: random.Random) -> list[str]:
    """Names made of the words of real ones."""
    names: dict[str, str] = {}
    while len(names) < count:
        name = " ".join(draw.sample(WORDS, draw.randint(2, 6)))
        names.setdefault(normalise_name(name), name)
    return list(names.values())


def responses(mix: Sequence[int], count: int, labels: LabelSpace, others: Sequence[str]) -> list[Response]:
    """Responses of ten names each."""
    draw = random.Random(3)
    known, misspelt, permuted, made_up = mix
    made = []
    for _ in range(count):
        drawn = draw.sample(labels.names, known + misspelt + permuted)
        names = drawn[:known]
        names += [misspell(draw, name) for name in drawn[known : known + misspelt]]
        names += [permute(draw, name) for name in drawn[known + misspelt :]]
        made.append(tuple(names + draw.sample(list(others), made_up)))
    return made


def misspell(draw: random.Random, name: str) -> str:
    """Three characters replaced, dropped or put in."""
    characters = list(name)
    for _ in range(3):
        place = draw.randrange(len(characters))
        characters[place : place + 1] = draw.choices("aeiorst", k=draw.randint(0, 2))
    return "".join(characters)


def permute(draw: random.Random, name: str) -> str:
    """The words in another order, with another word."""
    words = [*name.split(), draw.choice(WORDS)]
    return " ".join(draw.sample(words, len(words)))


def published(response: Response, labels: LabelSpace) -> list[float]:
    """The best ratio of every name, as the authors compute it."""
    return [
        max(difflib.SequenceMatcher(None, name.lower(), known.lower()).ratio() for known in labels.names)
        for name in response
    ]


def plain(name: str, labels: LabelSpace) -> Match | None:
    """The nearest label by mint's rule and difflib alone."""
    best = None
    for known in labels.names:
        a, b = normalise_name(name), normalise_name(known)
        value = difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()
        if value >= KNOWN and (best is None or value > best.ratio):
            best = Match(known, value)
    return best


@contextmanager
def engine(name: str) -> Iterator[None]:
    """`plain`: difflib alone; `fast`: with what `mint-metrics[fast]` installs."""
    before = similarity.SequenceMatcher, similarity.cdist
    similarity.SequenceMatcher, similarity.cdist = difflib.SequenceMatcher, None
    if name == "fast":
        similarity.SequenceMatcher = importlib.import_module("cydifflib").SequenceMatcher
        similarity.cdist = importlib.import_module("rapidfuzz.process").cdist
    similarity._matcher.cache_clear()
    yield
    similarity.SequenceMatcher, similarity.cdist = before
    similarity._matcher.cache_clear()


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call; all of it runs in one thread, and other processes do not count."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def cold(asked: Sequence[Response], labels: LabelSpace) -> float:
    """Seconds per response when no name was ever seen."""
    matcher = similarity._matcher(labels)
    spent = 0.0
    for response in asked:
        matcher._found.clear()
        spent += seconds(lambda r=response: best_matches(r, labels))  # type: ignore[misc]
    return spent / len(asked)


def warm(asked: Sequence[Response], labels: LabelSpace) -> float:
    """Seconds per response when every name was seen."""
    for response in asked:
        best_matches(response, labels)
    return seconds(lambda: [best_matches(response, labels) for response in asked]) / len(asked)


def evaluation(asked: Sequence[Response], labels: LabelSpace) -> float:
    """Seconds per response of all four metrics, from nothing."""
    similarity._matcher.cache_clear()
    samples = [
        EvaluationSample(
            Prediction(str(number), "aligned", "", response, NAMES_PER_RESPONSE, well_formed=True),
            labels.names[number % len(labels)], labels.names[:10], labels.names[-10:], NAMES_PER_RESPONSE, labels,
        )
        for number, response in enumerate(asked)
    ]  # fmt: skip
    metrics = (HFA(), TopN(), Top1(), CAR())
    return seconds(lambda: [metric.score(sample) for sample in samples for metric in metrics]) / len(asked)


def measure(count: int, timed: int) -> dict[str, Any]:
    """All figures."""
    names, source = label_names()
    labels = LabelSpace(tuple(names))
    others = other_names(labels)
    engines = ["plain", *(["fast"] if installed("cydifflib") and installed("rapidfuzz") else [])]
    mixes: dict[str, Any] = {}
    for mix, shares in MIXES.items():
        asked = responses(shares, count, labels, others)
        slow = seconds(lambda a=asked: [published(response, labels) for response in a[:timed]]) / timed  # type: ignore[misc]
        expected = [[plain(name, labels) for name in response] for response in asked[:timed]]
        figures: dict[str, Any] = {"published_seconds": slow, "seconds": {}, "ratio": {}}
        for one in engines:
            with engine(one):
                same = [best_matches(response, labels) for response in asked[:timed]] == expected
                found = {
                    "cold": cold(asked, labels), "warm": warm(asked, labels), "evaluation": evaluation(asked, labels)
                }  # fmt: skip
            figures["seconds"][one] = found
            figures["ratio"][one] = {key: slow / value for key, value in found.items()}
            figures.setdefault("identical", {})[one] = same
        mixes[mix] = figures
    with engine("plain"):
        index = seconds(lambda: similarity._Matcher(labels))
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: installed(name) for name in ("numpy", "cydifflib", "rapidfuzz", "mint-metrics")},
        },
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "labels": {"source": source, "n": len(labels)},
        "responses": {"n": count, "names_each": NAMES_PER_RESPONSE, "timed_by_the_published_way": timed},
        "index_seconds": index,
        "mixes": mixes,
    }


def installed(name: str) -> str | None:
    """Version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=1000, help="responses per mix")
    parser.add_argument("--timed", type=int, default=10, help="of these, by the published way too")
    parser.add_argument("--out", type=Path, default=RESULT, help="where the figures go")
    options = parser.parse_args()
    result = measure(options.responses, options.timed)
    for mix, figures in result["mixes"].items():
        print(f"{mix}: published {figures['published_seconds']:.3f} s per response")
        for one, ratio in figures["ratio"].items():
            times = ", ".join(f"{name} {value:,.0f} x" for name, value in ratio.items())
            print(f"  {one}: {times}; identical: {figures['identical'][one]}")
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
