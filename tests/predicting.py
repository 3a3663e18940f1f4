"""What the tests of `mint predict` share: an adapter of a real toy run, notes, and the command on both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
SECRET = "SECRET-PATIENT-TEXT"  # noqa: S105 - no password
NOTES = [{"id": f"n{i}", "text": f"{SECRET} of note {i}"} for i in range(6)]


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def adapter(install_plugin, run_folder: Path) -> Path:
    """Of one toy run, made by the first test that needs it; nobody changes it."""
    import mint_core
    from tests.tiny_students import LABELS, build

    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    if not (run_folder / "runs" / "t").exists():
        patients = [
            {"id": f"p{i}", "split": "train" if i % 3 else "test", "label": LABELS[i % 6], "group": None}
            for i in range(24)
        ]
        (run_folder / "patients.json").write_text(json.dumps(patients))
        data = str(run_folder / "patients.json")
        mint_core.run(
            {
                "task": {"name": "toy", "secret": "patient", "source": "file", "data": data},
                "student": {"model": str(build("llama", run_folder / "llama"))},
                "out": str(run_folder / "runs"),
                "name": "t",
                "aligner": {"name": "orpo", "epochs": 3, "warmup": 0, "lora_rank": 8, "learning_rate": 5e-3},
            },
            until="align",
        )
    return run_folder / "runs" / "t" / "adapter"


def write(path: Path, notes: list[dict]) -> Path:
    path.write_text("".join(json.dumps(note) + "\n" for note in notes))
    return path


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return write(tmp_path / "notes.jsonl", NOTES)


@pytest.fixture
def predict(mint, adapter: Path, notes: Path):
    """The command on the toy's adapter and notes."""

    def call(*options: object, source: Path = notes):
        return mint("predict", "--adapter", adapter, "--input", source, "--device", "cpu", *options)

    return call


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]
