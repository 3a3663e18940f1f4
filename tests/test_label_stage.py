"""Rankings come some at a time, so that memory does not grow with the number of samples."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import mint_core
from mint_core.stages import label
from mint_core.teachers.accuracy import Top1, top_1
from mint_core.types import LabelSpace, Sample

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
COUNTED = (
    TOY
    + """

CALLS = []


class Counted(Oracle):
    name = "counted"

    def log_probs(self, samples):
        CALLS.append(len(samples))
        numbers = np.array([int(sample.id[1:]) for sample in samples])
        scores = 0.1 * numbers[:, None] * np.arange(6)
        return (scores - np.log(np.exp(scores).sum(1, keepdims=True))).astype(np.float32)


class Whole(Counted):
    name = "whole"
    together = True


@hookimpl
def mint_teachers():
    return [Oracle, Counted, Whole]
"""
)


@pytest.fixture
def ranked(install_plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install_plugin("mint-toy", "toy_plugin_under_test", COUNTED)
    monkeypatch.chdir(tmp_path)

    def run(teacher: str, at_once: int):
        import toy_plugin_under_test as toy

        monkeypatch.setattr(label, "SIZE", at_once)
        toy.CALLS.clear()
        made = mint_core.run({"task": "toy", "teacher": teacher, "out": f"{teacher}-{at_once}"}, until="label")
        return pq.read_table(made.path / "rankings" / "rankings.parquet"), toy.CALLS.copy()

    return run


def test_pieces_give_the_rankings_of_the_whole(ranked) -> None:
    pieces, calls = ranked("counted", 7)
    whole, once = ranked("counted", 8192)
    assert (calls, once) == ([7, 7, 7, 3], [24])
    assert pieces.equals(whole)
    assert pieces.schema.metadata == whole.schema.metadata


def test_a_teacher_may_ask_for_all_of_them_together(ranked) -> None:
    assert ranked("whole", 7)[1] == [24]


def test_hits_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = LabelSpace(("Colon", "Liver"))
    samples = [
        Sample("a", "train", "Colon"),
        Sample("b", "train", "Liver"),
        Sample("c", "train"),
        Sample("d", "test", "Colon"),
        Sample("e", "test", "Liver", cohort="elsewhere"),
    ]
    log_probs = np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5], [0.7, 0.3], [0.1, 0.9]], np.float32))
    count = Top1(labels)
    count.add(samples[:2], log_probs[:2])
    count.add(samples[2:], log_probs[2:])
    assert count.by_split() == {"train": {"top_1": 0.5, "n": 2}, "test": {"top_1": 1.0, "n": 1}}
    assert top_1(samples, labels, log_probs) == count.by_split()
