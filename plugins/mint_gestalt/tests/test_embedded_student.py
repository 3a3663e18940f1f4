"""The embedded student: honest, small, and built by a script that links no disease to a phenotype."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from mint_core.answering.generate import generate
from mint_core.answering.score import score
from mint_core.config import StudentConfig, resolve
from mint_core.plugins import registry
from mint_core.students.load import load_student
from mint_core.students.prompts import parse_response
from mint_gestalt import wording
from mint_gestalt.embedded import exercises
from mint_gestalt.embedded.build_student import arguments, build_tokenizer, fixed_phrases, main
from mint_gestalt.embedded.exercises import EXERCISES, Knowledge, Lexicon
from mint_gestalt.task import RareDisease


@pytest.fixture(scope="module")
def task():
    return RareDisease(RareDisease.Config(train_per_label=2, test_per_label=2))


@pytest.fixture(scope="module")
def data(task):
    return task.load()


@pytest.fixture(scope="module")
def words(data):
    return Lexicon(data.labels.names)


@pytest.fixture(scope="module")
def student(task):
    return load_student(StudentConfig(device="cpu"), str(task.embedded_student().path))


def drawn(words, count: int = 400) -> list[exercises.Exercise]:
    rng = random.Random(3)
    return [kind.draw(rng, words) for kind in EXERCISES for _ in range(count)]


def test_the_shipped_weights_are_small_and_not_pickled(task) -> None:
    files = [path for path in task.embedded_student().path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8 * 2**20
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert [path.name for path in files if path.suffix == ".safetensors"] == ["model.safetensors"]


def test_the_base_student_writes_lists_of_known_names_and_ranks_at_chance(task, data, student) -> None:
    """It names the true disease as often as chance does: 1 of 30 first, 10 of 30 in the list."""
    samples = data.split("test")
    prompts = {s.id: task.inference_prompt(s, 10) for s in samples}
    answers = dict(generate(student, prompts, max_new_tokens=120, batch_size=60))
    parsed = {i: parse_response(text, task.header) for i, text in answers.items()}
    right = [p for p in parsed.values() if p.well_formed and p.n_listed == len(p.labels) == 10]
    assert len(right) > 0.95 * len(samples)
    assert all(data.labels.find(name) for p in right for name in p.labels)
    assert sum(parsed[s.id].labels[:1] == (s.label,) for s in samples) / len(samples) < 0.15
    assert sum(s.label in parsed[s.id].labels for s in samples) / len(samples) < 0.5


def test_the_base_student_knows_no_disease(task, data, student) -> None:
    """The likelihood of the true name is no higher beside its own patient than beside the others.

    Chance puts the truth in the middle of the 30 patients' likelihoods of one name: mean share above 0.5, with a
    standard error of 0.289 / sqrt(60) = 0.037 for 60 patients; a linked base student would stand near 0.
    """
    samples = data.split("test")
    prompts = {s.id: task.inference_prompt(s, 10) for s in samples}
    rows = np.stack([row for _, row in score(student, prompts, data.labels, task.header, batch_size=30)])
    above = []
    for at, sample in enumerate(samples):
        column = rows[:, data.labels.index(sample.label)]
        others = [column[i] for i, other in enumerate(samples) if other.label != sample.label]
        above.append(np.mean(np.array(others) > column[at]))
    assert 0.38 < np.mean(above) < 0.62
    assert np.exp(rows).sum(1).min() > 0.5  # its likelihood does lie on the names


def test_no_exercise_holds_a_patient_of_the_cohort_or_names_a_disease_for_a_patient(words, data) -> None:
    """Rare diseases are listed for random patients only."""
    patients = {str(sample.text) for sample in data.samples}
    real = {name.lower() for name in words.names}
    assert len(patients) == 120
    for exercise in drawn(words):
        user = exercise.prompt.messages[1]
        assert not any(text in user.content for text in patients)
        listed = [line.partition(". ")[2] for line in exercise.answer.splitlines()[1:]]
        assert real >= {name.lower() for name in listed}


def test_the_order_of_the_pool_has_nothing_to_do_with_its_diseases(words) -> None:
    """Other diseases in the same places stand in the same order; other phenotypes change it."""
    others = Lexicon([name for name in words.names if name not in words.pool][: len(words.pool)])

    def places(lexicon: Lexicon) -> list[list[int]]:
        drawn = [exercises.whole_list(random.Random(seed), lexicon) for seed in range(50)]
        lists = [[line.partition(". ")[2] for line in exercise.answer.splitlines()[1:]] for exercise in drawn]
        return [[lexicon.pool.index(name) for name in names] for names in lists]

    assert places(words) == places(others)
    one, two = (words.votes(words.meaning(words.draw_terms(random.Random(seed), 4))) for seed in (1, 2))
    assert np.abs(one - two).mean() > 1


def test_the_variant_with_knowledge_does_link_diseases_to_their_phenotypes(words) -> None:
    """It names first a disease that has the patient's phenotypes; the shipped exercises do not contain it."""
    knowledge = Knowledge()
    row = next(at for at, disease in enumerate(knowledge.diseases) if disease.name == "Kabuki syndrome 2")
    nearest = knowledge.nearest(knowledge.diseases[row].phenotypes, row, 5)
    assert nearest[0] == "Kabuki syndrome 2" and "Kabuki Syndrome 1" in nearest
    assert not [kind for kind in EXERCISES if kind.draw.__qualname__.startswith("Knowledge")]
    texts = {knowledge.draw(random.Random(seed), words).answer.splitlines()[0] for seed in range(20)}
    assert texts == {exercises.PHENOTYPES, wording.HEADER}


def test_the_tokenizer_spells_every_name_and_knows_the_prompts_of_today(student, words) -> None:
    """A wording that changed after the build would fall apart into many tokens."""
    tokenizer = student.tokenizer
    assert all(len(tokenizer(phrase)["input_ids"]) == 1 for phrase in fixed_phrases())
    for name in [*words.pool, *random.Random(0).sample(words.names, 300)]:
        assert tokenizer.decode(tokenizer(name)["input_ids"]) == name


def test_the_script_builds_the_same_student_when_it_is_interrupted(tmp_path: Path) -> None:
    small = ["--steps=3", "--batch=2", "--hidden=32", "--layers=1", "--tokens=300"]
    main(arguments().parse_args([str(tmp_path / "whole"), *small]))
    for _ in range(3):
        main(arguments().parse_args([str(tmp_path / "parts"), *small, f"--work={tmp_path / 'work'}", "--seconds=0"]))
    whole, parts = (load_student(StudentConfig(device="cpu"), str(tmp_path / name)) for name in ("whole", "parts"))
    for one, two in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_tokenizer_is_the_same_in_every_build(student, words) -> None:
    again = build_tokenizer(words, arguments().get_default("tokens"))
    assert again.get_vocab() == student.tokenizer.get_vocab()


def test_each_aligner_gets_what_the_small_student_needs() -> None:
    """DPO moves more slowly than the SFT phase before it; what the user says wins."""

    def options(aligner: dict[str, object]):
        layer = {"task": "rare-disease", "teacher": "regression", "aligner": aligner}
        return resolve(layer, registry()).aligner.config

    sft, dpo, orpo = (options({"name": name}) for name in ("sft", "dpo", "orpo"))
    assert sft.lora_rank == dpo.lora_rank == orpo.lora_rank == 32
    assert sft.learning_rate == orpo.learning_rate == dpo.sft_learning_rate > 5 * dpo.learning_rate
    assert options({"name": "dpo", "sft_epochs": 1}).sft_epochs == 1
