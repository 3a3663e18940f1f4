"""Source `simulated`: what goes into the face, what into the text, families, determinism, difficulty."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest

from mint_core.errors import ConfigError
from mint_core.testing import TASK_CHECKS
from mint_core.types import TaskData, normalise_name
from mint_gestalt import faces, ontology
from mint_gestalt.sources import simulated
from mint_gestalt.task import RareDisease


def load(**options) -> TaskData:
    return RareDisease(RareDisease.Config(**options)).load()


def words(text: str) -> list[str]:
    """The phenotypes that a text names."""
    return text.partition("Phenotypes: ")[2].rstrip(".").split(", ")


@pytest.mark.parametrize("check", TASK_CHECKS)
def test_the_task_keeps_its_contract(check) -> None:
    check(RareDisease(RareDisease.Config(diseases=10, train_per_label=3, test_per_label=2)))


def test_defaults() -> None:
    data = load()
    assert Counter(sample.split for sample in data.samples) == {"train": 720, "test": 180}
    assert set(Counter((sample.split, sample.label) for sample in data.samples).values()) == {24, 6}
    assert len(data.labels) == 30
    assert data.simulated
    assert "no real patient" in data.source
    assert data.subgroups == ("sex", "age", "ethnicity")
    for sample in data.samples[:20]:
        told = ", ".join(f"{field} {sample.subgroups[field]}" for field in data.subgroups)
        assert (sample.text or "").lower().startswith(told.lower())


def test_no_text_names_what_a_face_shows() -> None:
    by_name = {ontology.name(term): term for term in _all_terms()}
    facial = {name for name, term in by_name.items() if faces.visible(term)}
    assert len(facial) > 300
    named = [name for sample in load().samples for name in words(sample.text or "")]
    assert len(named) > 1500
    assert set(named) <= set(by_name)
    assert not set(named) & facial


def _all_terms() -> set[str]:
    terms = {term for disease in ontology.diseases() for term in disease.phenotypes}
    return terms | {above for term in terms for above in ontology.ancestors(term)}


def test_faces_are_drawn_from_drawn_terms_and_can_be_left_out() -> None:
    data, blind = load(), load(faces=False)
    shown = {term for sample in data.samples for term in sample.image.phenotypes}
    assert len(shown) > 40
    assert all(faces.effect(term) for term in shown)
    assert not any(sample.image for sample in blind.samples)
    assert [sample.text for sample in blind.samples] == [sample.text for sample in data.samples]


def test_families_share_a_person_and_never_leave_their_split() -> None:
    members = defaultdict(list)
    for sample in load().samples:
        members[sample.group].append(sample)
    sizes = Counter(map(len, members.values()))
    assert set(sizes) == {1, 2}
    assert 0.08 < sizes[2] / len(members) < 0.3
    for family in members.values():
        assert len({(sample.split, sample.label, sample.image.identity) for sample in family}) == 1
        assert len({sample.image.key for sample in family}) == len(family)


def test_loading_twice_gives_the_same_pixels() -> None:
    first, second = (load(diseases=5, train_per_label=2, test_per_label=1) for _ in range(2))
    assert first == second
    one, other = first.samples[3].image, second.samples[3].image
    simulated._draw.cache_clear()
    pixels = np.asarray(one.open())
    simulated._draw.cache_clear()
    assert np.array_equal(pixels, np.asarray(other.open()))


def test_more_patients_do_not_change_the_others() -> None:
    def facts(data: TaskData) -> dict[str, tuple]:
        return {s.id: (s.text, s.image.key, s.group) for s in data.samples}

    few, many = facts(load(train_per_label=3, test_per_label=1)), facts(load(train_per_label=8, test_per_label=5))
    assert few.items() <= many.items()
    val = load(train_per_label=3, val_per_label=2, test_per_label=1)
    assert few.items() <= facts(val).items()
    assert Counter(s.split for s in val.samples) == {"train": 90, "val": 60, "test": 30}


def test_another_seed_gives_another_cohort() -> None:
    assert set(load(sample_seed=1).labels.names) != set(load().labels.names)


def test_names_cannot_be_taken_for_each_other() -> None:
    from difflib import SequenceMatcher

    names = [normalise_name(name) for name in load().labels.names]
    assert max(SequenceMatcher(None, a, b, False).ratio() for a, b in combinations(names, 2)) < 0.8


def test_circles_resemble_each_other_in_the_text_and_differ_in_the_face() -> None:
    candidates, alike = simulated._candidates(), simulated._resemblance()
    rows = [candidates.index(disease) for disease in simulated.choose_diseases(30, 0)]
    near = np.sort(alike[np.ix_(rows, rows)] - np.eye(30), axis=1)[:, -1]
    assert np.median(near) > 3 * np.median(alike)
    shapes = [faces.geometry(simulated.split_terms(candidates[row])[0]) for row in rows]
    assert np.median([np.linalg.norm(a - b) for a, b in combinations(shapes, 2)]) > simulated._FACE_DISTANCE


def test_texts_are_noisy_imprecise_and_incomplete() -> None:
    data = load()
    terms = {disease.name: set(disease.phenotypes) for disease in simulated.choose_diseases(30, 0)}
    own = {name: {ontology.name(term) for term in ids} for name, ids in terms.items()}
    above = {
        name: {ontology.name(up) for term in ids for up in ontology.parents(term)} - own[name]
        for name, ids in terms.items()
    }
    kinds = Counter(
        "own" if name in own[s.label] else "parent" if name in above[s.label] else "foreign"
        for s in data.samples
        for name in words(s.text or "")
    )
    share = {kind: count / kinds.total() for kind, count in kinds.items()}
    assert 0.35 < share["own"] < 0.7
    assert 0.08 < share["parent"] < 0.35
    assert 0.15 < share["foreign"] < 0.45
    assert np.mean([len(own[s.label] & set(words(s.text or ""))) / len(own[s.label]) for s in data.samples]) < 0.3


def test_the_text_alone_is_ambiguous_and_the_face_decides() -> None:
    """Logistic regression on the words, and on the words and the geometry that the face shows."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    data = load(train_per_label=12)
    train, test = data.split("train"), data.split("test")
    bag = CountVectorizer(analyzer=lambda sample: words(sample.text or "")).fit(train)

    def features(samples, face: bool) -> np.ndarray:
        counts = bag.transform(samples).toarray()
        shapes = [faces.geometry(s.image.phenotypes) + np.array(s.image.identity.shape) for s in samples]
        return np.hstack([counts, np.array(shapes)]) if face else counts

    def accuracy(face: bool) -> float:
        model = LogisticRegression(C=0.3, max_iter=2000).fit(features(train, face), [s.label for s in train])
        return float(model.score(features(test, face), [s.label for s in test]))

    assert 0.4 < accuracy(face=False) < 0.7
    assert accuracy(face=True) > 0.9


def test_as_many_diseases_as_promised_and_no_more() -> None:
    assert len(simulated.choose_diseases(simulated.MOST, 3)) == simulated.MOST
    with pytest.raises(ConfigError, match=r"at most 300 diseases, not 5000; lower task\.diseases"):
        load(diseases=5000)


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_any_seed(seed: int) -> None:
    data = load(sample_seed=seed, diseases=7, train_per_label=1, test_per_label=1)
    assert len(data.labels) == 7
    assert f"seed {seed}" in data.source
    data.samples[0].image.open()


def test_scarce_labels_are_taken_evenly_and_from_training_patients_only() -> None:
    whole, scarce = (
        load(diseases=5, train_per_label=4, test_per_label=2),
        load(diseases=5, train_per_label=4, test_per_label=2, labelled=12),
    )
    left = Counter(sample.label for sample in scarce.split("train"))
    assert left.pop(None) == 8 and sorted(left.values()) == [2, 2, 2, 3, 3]
    assert scarce.split("test") == whole.split("test")
    assert [s.text for s in scarce.split("train")] == [s.text for s in whole.split("train")]
    with pytest.raises(ConfigError, match="more than the 20 training patients"):
        load(diseases=5, train_per_label=4, test_per_label=2, labelled=21)


def test_what_only_other_sources_read_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"does not read task\.unseen"):
        load(unseen=3)
