"""Drawn faces: the geometry shows the phenotype, and identity does not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from PIL import Image

from mint_gestalt import faces, ontology

MICROGNATHIA, HYPERTELORISM, SYNOPHRYS, LOW_SET_EARS = "HP:0000347", "HP:0000316", "HP:0000664", "HP:0000369"


def drawn(terms: tuple[str, ...], seed: int) -> np.ndarray:
    """Another person for every seed; grey values in 0..1, shape (SIZE, SIZE)."""
    rng = np.random.default_rng([5, seed])
    face = faces.draw_face(faces.geometry(terms), faces.draw_identity(rng), rng)
    return np.asarray(face.convert("L"), dtype=float) / 255


def test_a_face_is_rgb_and_the_same_again() -> None:
    def once() -> Image.Image:
        rng = np.random.default_rng(3)
        return faces.draw_face(faces.geometry([SYNOPHRYS]), faces.draw_identity(rng), rng)

    assert once().mode == "RGB"
    assert once().size == (faces.SIZE, faces.SIZE)
    assert once().tobytes() == once().tobytes()


@pytest.mark.parametrize(
    "term", [MICROGNATHIA, HYPERTELORISM, SYNOPHRYS, LOW_SET_EARS, "HP:0000508", "HP:0000343", "HP:0000154"]
)
def test_a_linear_probe_reads_the_phenotype_from_the_edges_in_faces_of_other_people(term: str) -> None:
    """Half of the people show it. Edges, because the colours of skin and hair are noise to a linear probe."""
    from sklearn.linear_model import RidgeClassifier

    present = np.arange(400) % 2 == 1
    features = np.stack(
        [edges(drawn((term,), seed)) if shown else plain_edges(seed) for seed, shown in enumerate(present)]
    )
    probe = RidgeClassifier(alpha=100).fit(features[:300], present[:300])
    assert probe.score(features[300:], present[300:]) > 0.75


@cache
def plain_edges(seed: int) -> np.ndarray:
    """Of a face without a finding; the same people stand beside every term."""
    return edges(drawn((), seed))


def edges(grey: np.ndarray) -> np.ndarray:
    """How strong the horizontal and the vertical edges are, per block of 3 x 3 pixels."""
    steps = np.stack([np.abs(np.diff(grey, axis=axis))[:95, :95] for axis in (0, 1)])
    blocks = steps[:, :93, :93].reshape(2, 31, 3, 31, 3).mean((2, 4))
    return np.log(blocks / blocks.mean() + 0.1).ravel()


def test_a_small_jaw_ends_higher() -> None:
    """Measured on the pixels: the mean over people, where the lowest skin meets the background."""

    def lower_quarter(terms: tuple[str, ...]) -> float:
        change = []
        for seed in range(24):
            face = drawn(terms, seed)
            background = np.median(face[:8, :8])
            change.append((np.abs(face[60:, 44:52] - background).mean(1) > 0.08).mean())
        return float(np.mean(change))

    assert lower_quarter((MICROGNATHIA,)) < lower_quarter(()) - 0.05


def test_identity_says_nothing_about_the_disease() -> None:
    rng = np.random.default_rng(0)
    shapes = np.array([faces.draw_identity(rng).shape for _ in range(400)])
    assert shapes.shape == (400, len(faces.PARAMETERS))
    assert np.abs(shapes.mean(0)).max() < 0.06
    assert np.abs(np.corrcoef(shapes.T) - np.eye(len(faces.PARAMETERS))).max() < 0.25


def test_every_drawn_term_is_in_force_and_moves_pixels() -> None:
    assert len(faces.drawn_terms()) > 70
    plain = [drawn((), seed) for seed in range(3)]
    for term in faces.drawn_terms():
        assert ontology.resolve(term) == term
        assert max(np.abs(drawn((term,), seed) - face).max() for seed, face in enumerate(plain)) > 0.06, term


def test_a_term_below_a_drawn_one_does_the_same() -> None:
    assert faces.effect("HP:0000537") == faces.effect("HP:0000286")  # Epicanthus inversus, Epicanthus
    assert not faces.effect("HP:0001250")  # Seizure
    assert not faces.effect("HP:0000271")  # the whole face asks for nothing


def test_opposites_cancel_and_nothing_runs_away() -> None:
    assert not faces.geometry([HYPERTELORISM, "HP:0000601"]).any()
    assert np.abs(faces.geometry(faces.drawn_terms() * 3)).max() <= 1.4


def test_what_a_face_tells_is_more_than_hpo_files_under_it() -> None:
    assert faces.visible("HP:0000668")  # Hypodontia: below the face, though not drawn
    assert faces.visible(HYPERTELORISM)
    assert not ontology.is_facial(HYPERTELORISM)
    assert not faces.visible("HP:0001250")
