"""One function per clause. Each raises AssertionError with a sentence that names the clause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mint_core.errors import ConfigError
from mint_core.interfaces import Context, EvaluationSample, Metric, PreferenceStrategy, Retriever, Task, Teacher
from mint_core.splits import check_samples
from mint_core.types import LabelSpace, Prediction, PreferenceGroup, Ranking, Sample

_LABELS = LabelSpace(("Colon", "Liver", "Lung", "Skin", "Testis", "Thyroid"))


def teacher_context(labels: LabelSpace, cache: Path, seed: int = 0) -> Context:
    """A context on the CPU that ignores progress."""
    return Context(labels=labels, seed=seed, cache=cache)


def ranking(labels: LabelSpace, seed: int = 0, sample_id: str = "sample") -> Ranking:
    """A ranking drawn at random."""
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.normal(0, 2, len(labels)))[::-1]
    log_probs = (scores - np.log(np.exp(scores).sum())).astype(np.float32)
    return Ranking(sample_id, tuple(str(name) for name in rng.permutation(labels.names)), log_probs)


def metric_sample(
    labels: LabelSpace, response: tuple[str, ...], truth: str, n: int, *, well_formed: bool = True
) -> EvaluationSample:
    """One answered sample whose teacher ranked the labels in their own order, the truth promoted."""
    order = (truth, *(name for name in labels.names if name != truth))
    half = max(1, min(n, len(labels) // 2))
    prediction = Prediction("sample", "aligned", "", tuple(dict.fromkeys(response)), len(response), well_formed)
    return EvaluationSample(prediction, truth, order[:half], order[-half:], n, labels)


def _require(condition: bool, clause: str, sentence: str) -> None:
    if not condition:
        raise AssertionError(f"{clause}: {sentence}")


def task_1_samples(task: Task) -> None:
    """Clauses 1 and 2: samples with unique ids, labels of the label space, groups on one side."""
    data = task.load()
    check_samples(data.samples, data.labels)


def task_3_deterministic(task: Task) -> None:
    """Clause 3: two calls of `load` agree."""
    first, second = task.load(), type(task)(task.config).load()

    def plain(samples: Any) -> list[tuple[Any, ...]]:
        return [(s.id, s.split, s.label, s.group, s.image.key if s.image else None, s.text) for s in samples]

    _require(plain(first.samples) == plain(second.samples), "task 3", "two calls of load() give different samples")


def task_4_prompts(task: Task) -> None:
    """Clause 4: prompts carry the student's modality."""
    sample = task.load().samples[0]
    for prompt in (task.training_prompt(sample, 2), task.inference_prompt(sample, 2)):
        words = " ".join(message.content for message in prompt.messages)
        seen = "image" not in task.modality or prompt.image is not None
        seen = seen and ("text" not in task.modality or bool(sample.text and sample.text in words))
        _require(seen, "task 4", f"a prompt does not show the sample's {task.modality}")
        _require(any(m.role == "user" for m in prompt.messages), "task 4", "a prompt has no user turn")
    _require(
        task.header in " ".join(m.content for m in task.inference_prompt(sample, 2).messages),
        "task 4",
        "the inference prompt does not name the header that the response must begin with",
    )


def task_5_header(task: Task) -> None:
    """Clause 5: the header is one line and ends with a colon."""
    _require(task.header.endswith(":") and "\n" not in task.header, "task 5", f"header {task.header!r}")


def task_6_phrases(task: Task) -> None:
    """Clause 6: phrases are parts of the text, in order and apart."""
    if "text" not in task.modality:
        return
    for sample in task.load().samples[:20]:
        blind = sample.for_student(task.modality)
        bounds = [place for span in task.phrases(blind) for place in span]
        inside = not bounds or (bounds[0] >= 0 and bounds[-1] <= len(blind.text or ""))
        apart = bounds == sorted(bounds) and all(one < two for one, two in zip(bounds[::2], bounds[1::2], strict=True))
        _require(inside and apart, "task 6", "phrases overlap, are empty, out of order or outside of the text")


def teacher_1_2_log_probs(teacher: Teacher, samples: list[Sample]) -> None:
    """Clauses 1 and 2: shape, type, and rows that are distributions."""
    rows = teacher.log_probs(samples)
    shape = (len(samples), len(teacher.labels))
    _require(rows.shape == shape, "teacher 1", f"shape {rows.shape}, expected {shape}")
    _require(rows.dtype == np.float32, "teacher 1", f"dtype {rows.dtype}, expected float32")
    _require(not (np.isnan(rows).any() or np.isposinf(rows).any()), "teacher 2", "a value is NaN or +inf")
    _require(
        bool(np.allclose(np.exp(rows.astype(np.float64)).sum(1), 1, atol=1e-3)), "teacher 2", "a row does not sum to 1"
    )


def teacher_3_independent_rows(teacher: Teacher, samples: list[Sample]) -> None:
    """Clause 3: deterministic, and a row does not depend on its neighbours."""
    whole = teacher.log_probs(samples)
    _require(bool(np.array_equal(whole, teacher.log_probs(samples))), "teacher 3", "two calls differ")
    backwards = teacher.log_probs(samples[::-1])[::-1]
    close = np.allclose(np.exp(whole), np.exp(backwards), atol=1e-2)
    _require(bool(close), "teacher 3", "a row depends on the samples beside it")


def _strategy(component: type[PreferenceStrategy], labels: LabelSpace = _LABELS, n: int = 2, **options: Any) -> Any:
    return component(component.Config(**options), Context(labels=labels, n=n))


def _groups(component: type[PreferenceStrategy]) -> Iterator[list[PreferenceGroup]]:
    """Groups of single samples: 20 rankings, each with every truth and with none."""
    for seed in range(20):
        for truth in (None, *_LABELS.names):
            yield _strategy(component).groups(ranking(_LABELS, seed), truth)


def strategy_1_2_groups(component: type[PreferenceStrategy]) -> None:
    """Clauses 1 and 2: non-empty responses, and no label on both sides."""
    for groups in _groups(component):
        _require(bool(groups), "strategy 1", "no group")
        for group in groups:
            _require(bool(group.chosen and group.rejected), "strategy 1", "a side is empty")
            _require(all((*group.chosen, *group.rejected)), "strategy 1", "a response is empty")
            chosen = {label for response in group.chosen for label in response}
            rejected = {label for response in group.rejected for label in response}
            _require(not chosen & rejected, "strategy 2", f"{chosen & rejected} chosen and rejected")


def strategy_3_4_truth(component: type[PreferenceStrategy]) -> None:
    """Clauses 3 and 4: a known truth is preferred, never rejected; top and bottom are disjoint."""
    for seed in range(20):
        for truth in _LABELS.names:
            strategy, ranked = _strategy(component), ranking(_LABELS, seed)
            groups = strategy.groups(ranked, truth)
            _require(
                any(truth in group.chosen[0] for group in groups), "strategy 3", "the truth is in no first response"
            )
            _require(not any(truth in r for g in groups for r in g.rejected), "strategy 3", "the truth is rejected")
            top, bottom = strategy.top(ranked, truth), strategy.bottom(ranked, truth)
            _require(truth in top, "strategy 4", "the truth is not in top")
            _require(not set(top) & set(bottom), "strategy 4", "top and bottom overlap")


def strategy_5_sizes(component: type[PreferenceStrategy]) -> None:
    """Clause 5: sizes larger than the label space are refused. Strategies without k and q pass."""
    if not {"k", "q"} <= set(component.Config.model_fields):
        return
    try:
        _strategy(component, k=len(_LABELS), q=1)
    except ConfigError:
        return
    raise AssertionError("strategy 5: k + q larger than the label space was accepted")


def strategy_6_weights(component: type[PreferenceStrategy]) -> None:
    """Clause 6: weights fit the responses and sum to 1."""
    for group in (group for groups in _groups(component) for group in groups):
        for responses, weights in ((group.chosen, group.chosen_weights), (group.rejected, group.rejected_weights)):
            _require(len(weights) in (0, len(responses)), "strategy 6", "not one weight per response")
            _require(all(weight >= 0 for weight in weights), "strategy 6", "a weight is below 0")
            _require(not weights or abs(sum(weights) - 1) < 1e-4, "strategy 6", "weights do not sum to 1")


def strategy_7_one_length(component: type[PreferenceStrategy]) -> None:
    """Clause 7: the groups of one sample ask for lists of one length."""
    for groups in _groups(component):
        lengths = {len(group.chosen[0]) for group in groups}
        _require(len(lengths) < 2, "strategy 7", f"first chosen responses of {sorted(lengths)} labels")


_RESPONSES: tuple[tuple[str, ...], ...] = ((), ("Colon",), ("Colon", "Liver"), ("Liver", "Colon"), ("Nothing", "Else"))


def metric_1_range(metric: Metric) -> None:
    """Clauses 1 and 3: values in [0, 1] or None, for empty and unknown responses too."""
    for response in _RESPONSES:
        for well_formed in (True, False):
            value = metric.score(metric_sample(_LABELS, response, "Colon", 2, well_formed=well_formed))
            _require(value is None or 0 <= value <= 1, "metric 1", f"{value} for the response {response}")


def metric_2_deterministic(metric: Metric) -> None:
    """Clause 2: the same sample scores the same."""
    sample = metric_sample(_LABELS, ("Colon", "Liver"), "Colon", 2)
    _require(metric.score(sample) == metric.score(sample), "metric 2", "two calls differ")


def metric_4_title(metric: Metric) -> None:
    """Clause 4: a title and a rule for the report."""
    _require(bool(metric.title(5)) and "\n" not in metric.title(5), "metric 4", "the title is not one line")
    _require(bool(metric.rule()), "metric 4", "there is no rule for the report")


def retriever_1_answers(retriever: Retriever, samples: list[Sample], _: LabelSpace) -> None:
    """Clause 1: one sequence of passages per sample."""
    _require(len(retriever.retrieve(samples)) == len(samples), "retriever 1", "not one answer per sample")


def retriever_2_blind(retriever: Retriever, samples: list[Sample], _: LabelSpace) -> None:
    """Clause 2: neither the label nor a privileged field is read."""
    blind = [replace(sample, label=None, privileged={}) for sample in samples]
    _require(retriever.retrieve(samples) == retriever.retrieve(blind), "retriever 2", "the result depends on the label")


def retriever_3_4_labels(retriever: Retriever, samples: list[Sample], labels: LabelSpace) -> None:
    """Clauses 3 and 4: scores of the right shape without NaN; passages tell of known labels."""
    scores = retriever.label_scores(samples)
    if scores is not None:
        _require(scores.shape == (len(samples), len(labels)), "retriever 3", f"scores of shape {scores.shape}")
        _require(not np.isnan(scores).any(), "retriever 3", "a score is NaN")
    for passage in (passage for found in retriever.retrieve(samples) for passage in found):
        _require(passage.label is None or passage.label in labels.names, "retriever 4", "an unknown label")


Check = Callable[..., None]
TASK_CHECKS: tuple[Check, ...] = (task_1_samples, task_3_deterministic, task_4_prompts, task_5_header, task_6_phrases)
TEACHER_CHECKS: tuple[Check, ...] = (teacher_1_2_log_probs, teacher_3_independent_rows)
STRATEGY_CHECKS: tuple[Check, ...] = (
    strategy_1_2_groups,
    strategy_3_4_truth,
    strategy_5_sizes,
    strategy_6_weights,
    strategy_7_one_length,
)
METRIC_CHECKS: tuple[Check, ...] = (metric_1_range, metric_2_deterministic, metric_4_title)
RETRIEVER_CHECKS: tuple[Check, ...] = (retriever_1_answers, retriever_2_blind, retriever_3_4_labels)
"""Each takes a retriever after `build`, samples and the label space."""
