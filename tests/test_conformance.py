"""The conformance kit: a check for every clause, each tried with an implementation that breaks just this clause."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field

from mint_core.errors import DataError, TrainingError
from mint_core.interfaces import (
    Aligner,
    AlignmentResult,
    ComponentConfig,
    Context,
    Metric,
    Passage,
    PreferenceStrategy,
    Retriever,
    Task,
    Teacher,
    TrainingPhase,
)
from mint_core.phrases import Span
from mint_core.plugins import SEAMS, registry
from mint_core.preferences.topk import Listwise
from mint_core.testing import CHECKS, LABELS, clauses_of, number_of, samples
from mint_core.types import Message, PreferenceGroup, Prompt, TaskData

pytestmark = pytest.mark.usefixtures("one_thread")


class Organs(Task):
    """Keeps all clauses."""

    name, header, modality, default_teacher, sources = "organs", "ORGANS:", "text", "none", ("simulated",)

    def load(self) -> TaskData:
        return TaskData(samples(), LABELS, "drawn")

    def list_length(self, n_labels):
        return 2

    def training_prompt(self, sample, n):
        return Prompt((Message("user", f"{sample.text} Name {n}."),))

    def inference_prompt(self, sample, n):
        return Prompt((Message("user", f"{sample.text} Name {n} below {self.header}"),))


class OneIdTwice(Organs):
    def load(self):
        first, *others = samples()
        return TaskData([first, replace(others[0], id=first.id), *others[1:]], LABELS, "drawn")


class TornGroup(Organs):
    def load(self):
        return TaskData([replace(one, group=one.label) for one in samples()], LABELS, "drawn")


class AnotherOrder(Organs):
    calls = 0

    def load(self):
        AnotherOrder.calls += 1
        return TaskData(samples()[:: 1 if self.calls % 2 else -1], LABELS, "drawn")


class NoText(Organs):
    def training_prompt(self, sample, n):
        return Prompt((Message("user", f"Name {n}."),))


class NoColon(Organs):
    header = "ORGANS"


class Overlapping(Organs):
    def phrases(self, sample):
        return [Span(0, 4), Span(2, 6)]


class Signs(Teacher):
    """Keeps all clauses: as sure as the lengths of the texts tell."""

    name = "signs"

    def log_probs(self, samples):
        return np.stack([self.row(sample) for sample in samples])

    def row(self, sample):
        logits = -np.abs(len(sample.text) - 40.0 - np.arange(len(self.labels)))
        return (logits - np.log(np.exp(logits).sum())).astype(np.float32)


class Wide(Signs):
    def row(self, sample):
        return super().row(sample).astype(np.float64)


class Probabilities(Signs):
    def row(self, sample):
        return np.exp(super().row(sample))


class NotFinite(Signs):
    def row(self, sample):
        return np.where(np.arange(len(self.labels)), super().row(sample), np.float32("nan"))


class Neighbours(Signs):
    def log_probs(self, samples):
        row = self.row(samples[0])
        return np.stack([np.roll(row, place) for place in range(len(samples))])


class Peeks(Signs):
    def row(self, sample):
        row = super().row(sample)
        return row if sample.label is None else np.roll(row, self.labels.index(sample.label))


class EmptySide(Listwise):
    def group(self, ranking, truth):
        return replace(super().group(ranking, truth), rejected=())


class BothSides(Listwise):
    def group(self, ranking, truth):
        top = self.top(ranking, truth)
        rejected = top if truth is None else (top[-1],)
        return PreferenceGroup(ranking.sample_id, (top,), (rejected,))


class TruthForgotten(Listwise):
    def group(self, ranking, truth):
        return super().group(ranking, None) if truth in ranking.labels[2:3] else super().group(ranking, truth)


class Overlap(PreferenceStrategy):
    name = "overlap"

    def groups(self, ranking, truth):
        return Listwise(None, self.context).groups(ranking, truth)

    def top(self, ranking, truth):
        return ranking.labels

    def bottom(self, ranking, truth):
        return ranking.labels[-1:]


class SizesConfig(ComponentConfig):
    k: int = Field(2, description="Chosen.")
    q: int = Field(2, description="Rejected.")


class AnySize(Overlap):
    Config = SizesConfig

    def top(self, ranking, truth):
        return Listwise(None, self.context).top(ranking, truth)

    def bottom(self, ranking, truth):
        return Listwise(None, self.context).bottom(ranking, truth)


class Overweight(Listwise):
    def group(self, ranking, truth):
        return replace(super().group(ranking, truth), chosen_weights=(0.7,))


class TwoLengths(Listwise):
    def groups(self, ranking, truth):
        (group,) = super().groups(ranking, truth)
        return [group, replace(group, chosen=(group.chosen[0][:1],))]


class Steps(Aligner):
    """Keeps all clauses: it looks at the loss of one group per step, and trains nothing."""

    name = "steps"

    def phases(self, parameters):
        return (TrainingPhase("look", 1, 1),)

    def align(self, job):
        import torch

        from mint_core.students.adapter import add_lora, target_modules

        self.refuse_empty(job)
        model, loss = job.student.model, 0.0
        for step, group in enumerate(job.groups, 1):
            ids = job.student.tokenizer(", ".join(group.chosen[0]) or "-", return_tensors="pt")["input_ids"]
            with torch.no_grad():
                loss = float(model(input_ids=ids, labels=ids).loss)
            self.refuse_loss(loss, group)
            self.tell(job, step)
        model = add_lora(model, target_modules(model, "attention", vision=False), 4, 4, 0.0)
        model.save_pretrained(str(job.adapter), save_embedding_layers=False)
        self.also_saves(job.adapter)
        return AlignmentResult(len(job.groups), loss, (), {})

    def refuse_empty(self, job):
        if not all(response for group in job.groups for response in (*group.chosen, *group.rejected)):
            raise DataError("A response is empty.")

    def refuse_loss(self, loss, group):
        if not np.isfinite(loss):
            raise TrainingError(f"The loss of {group.sample_id} is not finite.")

    def tell(self, job, step):
        job.advance(step, len(job.groups), {})

    def also_saves(self, adapter):
        pass


class Pickles(Steps):
    def also_saves(self, adapter):
        import torch

        torch.save({"lr": 1}, adapter / "settings.bin")


class SavesAnyLoss(Steps):
    def refuse_loss(self, loss, group):
        pass


class SavesBefore(Steps):
    def align(self, job):
        job.adapter.mkdir()
        (job.adapter / "adapter_model.safetensors").touch()
        return super().align(job)


class TakesEmpty(Steps):
    def refuse_empty(self, job):
        pass


class CountsWrong(Steps):
    def tell(self, job, step):
        job.advance(step - 1, len(job.groups), {})


class Library(Retriever):
    """Keeps all clauses."""

    name = "library"

    def retrieve(self, samples):
        return [(Passage("book:1", "An organ.", self.about(sample)),) for sample in samples]

    def about(self, sample):
        return self.labels.names[len(sample.text) % len(self.labels)]

    def label_scores(self, samples):
        return np.array([[len(sample.text)] * len(self.labels) for sample in samples], np.float32)


class Unsorted(Library):
    def retrieve(self, samples):
        return [(Passage(f"book:{place}", "An organ."),) for place, _ in enumerate(samples)]


class Tells(Library):
    def about(self, sample):
        return sample.label


class Nan(Library):
    def label_scores(self, samples):
        return super().label_scores(samples) * np.float32("nan")


class OtherLabels(Library):
    def about(self, sample):
        return "Heart"


class Hit(Metric):
    """Keeps all clauses."""

    name = "hit"

    def score(self, sample):
        return float(sample.truth in sample.prediction.labels)

    def why(self, sample):
        return None if sample.prediction.well_formed else "not well formed"

    def title(self, n):
        return f"Hit@{n}"

    def rule(self):
        return "1 where the truth is listed, else 0."

    def claim(self, n):
        return "names the truth"


class Percent(Hit):
    def score(self, sample):
        return 100 * super().score(sample)

    def ceiling(self, sample):
        return 100

    def claim(self, n):
        return ""


class Drawn(Hit):
    numbers: Iterator[int] = iter(range(10**9))

    def score(self, sample):
        return float(next(self.numbers) % 2)


class FirstLetter(Hit):
    def score(self, sample):
        return float(bool(sample.prediction.labels[0]))


class Quotes(Hit):
    def why(self, sample):
        return f"{sample.prediction.labels[:1]} is wrong"


class NoRule(Hit):
    def rule(self):
        return ""


class LowCeiling(Hit):
    def ceiling(self, sample):
        return 0.5


class Half(Hit):
    def score(self, sample):
        return 0.5


KINDS: dict[str, tuple[type[Any], dict[str, list[type[Any]]]]] = {
    "task": (
        Organs,
        {
            "task_1_samples": [OneIdTwice],
            "task_2_splits": [TornGroup],
            "task_3_deterministic": [AnotherOrder],
            "task_4_prompts": [NoText],
            "task_5_header": [NoColon],
            "task_6_phrases": [Overlapping],
        },
    ),
    "teacher": (
        Signs,
        {
            "teacher_1_shape": [Wide],
            "teacher_2_distributions": [Probabilities, NotFinite],
            "teacher_3_independent_rows": [Neighbours],
            "teacher_4_labels_through_fit_alone": [Peeks],
        },
    ),
    "strategy": (
        Listwise,
        {
            "strategy_1_responses": [EmptySide],
            "strategy_2_one_side": [BothSides],
            "strategy_3_truth": [TruthForgotten],
            "strategy_4_top_and_bottom": [Overlap],
            "strategy_5_sizes": [AnySize],
            "strategy_6_weights": [Overweight],
            "strategy_7_one_length": [TwoLengths],
        },
    ),
    "aligner": (
        Steps,
        {
            "aligner_1_files": [Pickles],
            "aligner_2_not_finite": [SavesAnyLoss, SavesBefore],
            "aligner_3_empty_response": [TakesEmpty],
            "aligner_4_steps": [CountsWrong],
        },
    ),
    "retriever": (
        Library,
        {
            "retriever_1_in_order": [Unsorted],
            "retriever_2_blind": [Tells],
            "retriever_3_scores": [Nan],
            "retriever_4_labels": [OtherLabels],
        },
    ),
    "metric": (
        Hit,
        {
            "metric_1_range": [Percent],
            "metric_2_deterministic": [Drawn],
            "metric_3_empty": [FirstLetter],
            "metric_4_why": [Quotes],
            "metric_5_words": [NoRule],
            "metric_6_claim": [Half],
            "metric_7_ceiling": [LowCeiling],
        },
    ),
}


def given(kind: str, component: type[Any], place: Path) -> Callable[[Any], Any]:
    """Calls a check with what it takes."""
    made = component(None, Context(labels=LABELS, n=2, cache=place))
    arguments: dict[str, tuple[Any, ...]] = {
        "teacher": (made, samples()),
        "strategy": (component,),
        "aligner": (made, place),
        "retriever": (made, samples(), LABELS),
    }
    return lambda check: check(*arguments.get(kind, (made,)))


def broken(kind: str, component: type[Any], place: Path) -> set[str]:
    """The names of the checks that fail."""
    found = set()
    for check in CHECKS[kind]:
        try:
            given(kind, component, place / check.__name__)(check)
        except AssertionError as error:
            assert str(error).startswith(f"{kind} {number_of(check)}: ")
            found.add(check.__name__)
    return found


@pytest.mark.parametrize("kind", SEAMS)
def test_every_clause_has_a_check_and_every_check_a_clause(kind: str) -> None:
    clauses = clauses_of(SEAMS[kind][1])
    assert list(clauses) == list(range(1, len(clauses) + 1)) and len(clauses) >= 4
    assert [number_of(check) for check in CHECKS[kind]] == list(clauses)
    assert list(KINDS[kind][1]) == [check.__name__ for check in CHECKS[kind]]
    assert all(check.__name__.startswith(f"{kind}_") for check in CHECKS[kind])


@pytest.mark.parametrize("kind", SEAMS)
def test_who_keeps_all_clauses_passes(kind: str, tmp_path: Path) -> None:
    assert broken(kind, KINDS[kind][0], tmp_path) == set()


@pytest.mark.parametrize(
    ("kind", "check", "component"),
    [
        pytest.param(kind, check, component, id=f"{check}-{component.__name__}")
        for kind, (_, checks) in KINDS.items()
        for check, components in checks.items()
        for component in components
    ],
)
def test_who_breaks_one_clause_fails_its_check_alone(kind: str, check: str, component, tmp_path: Path) -> None:
    assert broken(kind, component, tmp_path) == {check}


def test_an_aligner_on_mints_engine_keeps_them(tmp_path: Path) -> None:
    assert broken("aligner", registry().get("aligner", "orpo").component, tmp_path) == set()


def test_what_does_not_apply_says_why(tmp_path: Path) -> None:
    class Pictures(Organs):
        modality = "image"

    class Mute(Steps):
        def phases(self, parameters):
            return ()

    by_name = {check.__name__: check for checks in CHECKS.values() for check in checks}
    silent = type("Silent", (Hit,), {"claim": lambda self, n: ""})
    unranked = type("Unranked", (Library,), {"label_scores": Retriever.label_scores})
    asked = partial(given, place=tmp_path)
    assert asked("task", Pictures)(by_name["task_6_phrases"]) == "its student reads no text"
    assert asked("aligner", Mute)(by_name["aligner_4_steps"]) == "it names no phases"
    assert asked("strategy", Overlap)(by_name["strategy_5_sizes"]) == "it has no options k and q"
    assert asked("metric", silent)(by_name["metric_6_claim"]) == "it makes no claim"
    assert asked("retriever", unranked)(by_name["retriever_3_scores"]) == "it ranks no labels"


def test_fit_is_given_the_training_split_alone(install_plugin, mint, tmp_path: Path) -> None:
    toy = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
    anchor = "    def log_probs(self, samples):\n"
    code = "    def fit(self, samples):\n        self.fitted_on = {one.split for one in samples}\n\n"
    code += f"{anchor}        assert self.fitted_on == {{'train'}}\n"
    install_plugin("mint-toy", "toy_that_fits", toy.replace(anchor, code, 1))
    given = ["label", "--task", "toy", "--metric", "top-1", "--out", tmp_path, "--aligner", "none"]
    answer = mint(*given, "--student", tmp_path)
    assert answer.code == 0, answer.err
