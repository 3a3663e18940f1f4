"""`mint predict --target-precision`: a threshold from the val split, kept in the adapter's folder, told with its n."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import mint_core
from mint_core.answering.confidence import NAME, Confidences, choose, how_asked, write_confidences
from mint_core.answering.record import read_record
from mint_core.answering.scores import ScoreTable
from mint_core.config import PredictConfig, merge, parse_override, read_config, resolve
from mint_core.errors import ConfigError, ModelError
from mint_core.evaluation.statistics import least_share
from mint_core.files import digest_of_path
from mint_core.plugins import registry
from mint_core.stages.run import Run
from tests.tiny_students import LABELS, build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
VAL = 24
SCORED = ("--target-precision", 0.9, "--decode", "score")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def adapter(install_plugin, made: Path) -> Path:
    """Of one run that scored 24 val samples in 12 groups; made by the first test that needs it."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    if not (made / "runs").exists():
        splits = ["train"] * 18 + ["test"] * 6 + ["val"] * VAL
        patients = [
            {"id": f"p{i}", "split": split, "label": LABELS[i % 6], "group": f"g{i // 2}"}
            for i, split in enumerate(splits)
        ]
        (made / "patients.json").write_text(json.dumps(patients))
        mint_core.run(
            {
                "task": {"name": "toy", "secret": "patient", "source": "file", "data": str(made / "patients.json")},
                "student": {"model": str(build("llama", made / "llama"))},
                "out": str(made / "runs"),
                "name": "t",
                "aligner": {"name": "sft", "epochs": 2, "warmup": 0, "lora_rank": 8, "learning_rate": 5e-3},
                "predict": {"decode": "score"},
                "evaluate": {"bootstrap": 100},
            }
        )
    return made / "runs" / "t" / "adapter"


@pytest.fixture
def moved(adapter: Path, tmp_path: Path) -> Path:
    """The folder alone, elsewhere."""
    return shutil.copytree(adapter, tmp_path / "moved")


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.jsonl"
    path.write_text("".join(json.dumps({"id": f"n{i}", "text": f"patient number n{i}"}) + "\n" for i in range(6)))
    return path


def test_the_run_keeps_how_sure_it_was_of_the_val_split_and_reports_nothing_of_it(adapter: Path) -> None:
    run = adapter.parent
    table = ScoreTable.read(run / "scores")
    val = [f"p{i}" for i in range(24, 48)]
    logs = table.rows("aligned", val).astype(float)
    shares = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    expected = sorted(((round(row.max(), 6), LABELS[row.argmax()] == LABELS[i % 6]) for i, row in enumerate(shares)))
    kept = json.loads((adapter / NAME).read_text())
    assert sorted(zip(kept["confidence"], kept["right"], strict=True)) == [
        (pytest.approx(sure, abs=2e-6), right) for sure, right in expected
    ]
    assert (kept["groups"], kept["asked"]) == (12, how_asked(2, PredictConfig(), None))
    assert not any(f'"p{i}"' in (adapter / NAME).read_text() for i in range(48))
    answers = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert {one["sample_id"] for one in answers} == {f"p{i}" for i in range(18, 24)}
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["n"] == 6
    assert {name: one["n"] for name, one in metrics["calibration"]["variants"].items()} == {
        "base": 6, "aligned": 6, "teacher": 6,
    }  # fmt: skip
    assert not table.rows("base", val).any()  # the base student was not asked
    page = (run / "report.html").read_text()
    assert "How far probabilities can be believed" in page and ">Preferences</h2>" in page
    assert "Teacher, before the truth is placed: right label first in 100.0" in page


def test_the_file_makes_no_stage_again_and_changes_no_digest(adapter: Path, made: Path) -> None:
    before = digest_of_path(adapter)
    (adapter / NAME).unlink()
    assert digest_of_path(adapter) == before
    again = mint_core.run(made / "runs" / "t" / "run.json", overrides=(f"out={made / 'runs'}",))
    assert set(again.reused) == {"label", "prefer", "align", "predict", "evaluate", "report"}
    assert (adapter / NAME).is_file()
    other = mint_core.run(made / "runs" / "t" / "run.json", overrides=(f"out={made / 'runs'}", "name=u"))
    assert (other.path / "adapter" / NAME).read_bytes() == (adapter / NAME).read_bytes()
    (other.path / "adapter" / NAME).write_text("{}")
    assert "align" in mint_core.run(other.path / "run.json", overrides=(f"out={made / 'runs'}",)).reused


def target_of(adapter: Path) -> tuple[float, float]:
    """The best share of right answers that ten or more val answers reach, and the least confidence for it."""
    kept = json.loads((adapter / NAME).read_text())
    found = []
    for level in set(kept["confidence"]):
        given = [right for sure, right in zip(kept["confidence"], kept["right"], strict=True) if sure >= level]
        if len(given) >= 10:
            found.append((sum(given) / len(given), -level))
    best, least = max(found)
    return best, -least


def test_a_moved_adapter_says_not_sure_in_every_format_and_changes_nothing_else(
    mint, moved: Path, notes: Path, tmp_path: Path
) -> None:
    best, level = target_of(moved)
    options = ("predict", "--adapter", moved, "--input", notes, "--decode", "score", "--device", "cpu")
    plain = [json.loads(line) for line in mint(*options).out.splitlines()]
    answer = mint(*options, "--target-precision", best)
    assert answer.code == 0, answer.err
    assert f'"Not sure" below a confidence of {level:.3g}: of 24 val samples (in 12 groups)' in answer.err
    judged = [json.loads(line) for line in answer.out.splitlines()]
    unsure = [one["normalised_probabilities"][0] < level for one in plain]
    assert [one["abstained"] for one in judged] == unsure
    assert [{**one, "abstained": False} for one in judged] == plain
    for form in ("csv", "html"):
        assert mint(*options, "--target-precision", best, "--output", tmp_path / f"a.{form}").code == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert [row["abstained"] == "true" for row in rows] == unsure
    page = (tmp_path / "a.html").read_text()
    assert page.count("(not sure: abstained)") == sum(unsure)
    assert "val samples (in 12 groups)" in page
    other = mint(*options, "--output", tmp_path / "a.csv")
    assert (other.code, "another target_precision" in other.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--target-precision", 0), "0.0 is not in the range"),
        (("--target-precision", 1.5), "1.5 is not in the range"),
        (("--target-precision", "nan"), "no finite number"),
        (("--target-precision", 0.9), "--target-precision needs the labels' probabilities; add --decode score."),
        ((*SCORED, "--threshold", 0.5), "leave one out"),
        (("--target-precision", 1, "--decode", "score"), "lower --target-precision to 0."),
        ((*SCORED, "--set", "predict.normalise=tokens"), "normalise=tokens out"),
        ((*SCORED, "--retriever", "echo"), "passages of 'echo'; ask in the"),
        (
            (*SCORED, "--retriever", "library", "--fuse", "weighted", "--set", "retrieval.weight=1"),
            "leave --fuse out",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(mint, adapter: Path, notes: Path, tmp_path, monkeypatch, options, said) -> None:
    monkeypatch.chdir(tmp_path)
    answer = mint("predict", "--adapter", adapter, "--input", notes, *options)
    assert (answer.code, said in answer.err, answer.err.count("\n")) == (2, True, 1), answer.err


def test_an_adapter_without_val_scores_says_how_to_get_them(mint, moved: Path, notes: Path) -> None:
    (moved / NAME).unlink()
    answer = mint("predict", "--adapter", moved, "--input", notes, "--decode", "score", "--target-precision", 0.9)
    assert (answer.code, "make the run with --set predict.decode=score and a labelled val split" in answer.err) == (
        2,
        True,
    ), answer.err


def test_an_adapter_that_was_changed_has_no_val_split_of_its_own(mint, moved: Path, notes: Path) -> None:
    config = moved / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_dropout": 0.05', '"lora_dropout": 0.06'))
    options = ("--input", notes, *SCORED, "--allow-changed")
    answer = mint("predict", "--adapter", moved, *options)
    assert (answer.code, "leave --target-precision out" in answer.err) == (2, True), answer.err


def test_who_is_asked_about_the_val_split(adapter: Path, made: Path) -> None:
    """The aligned student alone, where it scores labels by likelihood; a sample that is reported too is asked once."""

    def asked(*overrides: str) -> tuple[int, int]:
        layer = merge(read_config(made / "runs" / "t" / "run.json"), *map(parse_override, overrides))
        run = Run(resolve(layer, registry()), made / "nowhere", mint_core.Observer(), made / "nowhere")
        return len(run.held_out), len(run.asked)

    assert asked() == (VAL, 6 + VAL)
    assert asked("evaluate.split=val") == (VAL, VAL)
    for without in ("predict.val=false", "predict.decode=free", "predict.normalise=tokens", "aligner=none"):
        assert asked(without) == (0, 6), without


def test_a_file_that_was_changed_or_is_anothers_is_refused(moved: Path) -> None:
    record, asked = read_record(moved), how_asked(2, PredictConfig(), None)
    kept = (moved / NAME).read_text()
    weights = record.files["adapter_model.safetensors"].digest
    for changed in (kept.replace("0.", "0.0", 1), "{", "[]", "{}", kept.replace(weights, "0" * 32)):
        (moved / NAME).write_text(changed)
        with pytest.raises(ModelError, match="copy the adapter/ folder"):
            choose(moved, record, 0.5, asked)


def test_the_smallest_confidence_by_hand(moved: Path) -> None:
    """Right are 12 of the 13 most sure, 13 of the 16 and 13 of all 20; the 14th and the 15th are equally sure."""
    record, asked = read_record(moved), how_asked(2, PredictConfig(), None)
    right = [True] * 9 + [False] + [True] * 3 + [False] * 2 + [True] + [False] * 4
    sure = [0.95 - 0.01 * i for i in range(20)]
    sure[14] = sure[13]

    def threshold(target: float, confidences=sure, hits=right):
        weights = record.files["adapter_model.safetensors"].digest
        found = Confidences(weights=weights, asked=asked, groups=20, confidence=confidences, right=hits)
        write_confidences(moved, found)
        return choose(moved, record, target, asked)

    assert [(one.answered, one.right) for one in (threshold(0.9), threshold(0.8), threshold(0.65))] == [
        (13, 12), (16, 13), (20, 13),
    ]  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"the best is 92\.3 % \(12 of 13, at a confidence of 0\.83\); lower .* 0\.923"
    ):
        threshold(0.95)
    with pytest.raises(ConfigError, match="needs at least 10 labelled val samples, and the run of this adapter had 9"):
        threshold(0.5, sure[:9], right[:9])


def test_the_lower_bound_by_hand() -> None:
    """All of n right: the n-th root of 0.05; none: 0; one of two: p with 2p - p^2 = 0.05; 12 of 13 as in tables."""
    assert least_share(10, 10) == pytest.approx(0.05**0.1)
    assert least_share(0, 5) == 0
    assert least_share(1, 2) == pytest.approx(1 - 0.95**0.5)
    assert least_share(12, 13) == pytest.approx(0.6837, abs=1e-3)
