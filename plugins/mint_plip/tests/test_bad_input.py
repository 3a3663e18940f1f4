"""Bad input through the real CLI: one sentence, the documented exit code, no half-written stage."""

import csv
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mint_core.cli import main

LABELS = ("Colon", "Liver", "Lung")


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """A folder of 12 patches with a manifest: two per label and split."""
    rng = np.random.default_rng(0)
    rows = []
    for split in ("train", "val"):
        for label in LABELS:
            for number in range(2):
                name = f"{split}-{label}-{number}.png"
                Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / name)
                rows.append({"image": name, "label": label, "group": name, "split": split})
    write_manifest(tmp_path, rows)
    return tmp_path


def write_manifest(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def bomb() -> bytes:
    """A PNG of a few bytes whose header declares 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def truncated_jpeg() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()[:-400]


def fails(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and last line of stderr of a run that must fail, leaving no stage behind."""
    out = folder / "runs"
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "run",
                "--teacher",
                "plip",
                "--source",
                "folder",
                "--data",
                str(folder),
                "--out",
                str(out),
                "--until",
                "align",
                "--name",
                "r",
                *arguments,
            ]
        )
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert not (out / "r" / "adapter").exists()
    lines = said.err.strip().splitlines()
    assert lines[-1].startswith("mint: ")
    assert sum(line.startswith("mint: ") for line in lines) == 1
    return int(stop.value.code or 0), lines[-1]


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (truncated_jpeg(), "train-Colon-0.png", ("train-Colon-0.png",)),
        (b"<!doctype html><html><body>Not found</body></html>", "train-Colon-0.png", ("train-Colon-0.png",)),
        (bomb(), "val-Liver-1.png", ("val-Liver-1.png", "pixels")),
        (b"", "val-Liver-1.png", ("val-Liver-1.png",)),
    ],
    ids=["truncated", "html", "bomb", "empty"],
)
def test_images_that_are_none(patches: Path, capsys, content: bytes, name: str, words: tuple[str, ...]) -> None:
    (patches / name).write_bytes(content)
    code, sentence = fails(capsys, patches)
    assert code == 4
    assert all(word in sentence for word in words)
    assert not (patches / "runs" / "r" / "rankings").exists()


def test_a_missing_column(patches: Path, capsys) -> None:
    rows = [{"image": r["image"], "lable": r["label"], "split": r["split"]} for r in read_manifest(patches)]
    write_manifest(patches, rows)
    code, sentence = fails(capsys, patches)
    assert code == 4
    assert "label" in sentence
    assert "lable" in sentence


def test_a_label_outside_the_label_space(patches: Path, capsys) -> None:
    rows = read_manifest(patches)
    rows[0]["label"] = "Colom"
    write_manifest(patches, rows)
    code, sentence = fails(capsys, patches, "--set", "task.labels=[Colon, Liver, Lung]")
    assert code == 4
    assert "Colom" in sentence
    assert "Colon" in sentence


def test_a_split_of_no_rows(patches: Path, capsys) -> None:
    write_manifest(patches, [row for row in read_manifest(patches) if row["split"] == "train"])
    code, sentence = fails(capsys, patches)
    assert code == 4
    assert "0 samples" in sentence
    write_manifest(patches, [{**row, "split": "val"} for row in read_manifest(patches)])
    code, sentence = fails(capsys, patches)
    assert code == 4
    assert "train" in sentence


def test_k_plus_q_larger_than_the_label_space(patches: Path, capsys) -> None:
    code, sentence = fails(capsys, patches, "--set", "strategy.k=2", "--set", "strategy.q=2")
    assert code == 2
    assert "k + q = 2 + 2" in sentence


def test_a_group_in_two_splits(patches: Path, capsys) -> None:
    write_manifest(patches, [{**row, "group": "one patient"} for row in read_manifest(patches)])
    code, sentence = fails(capsys, patches)
    assert code == 4
    assert "one patient" in sentence


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--aligner", "orbo"), "did you mean 'orpo'"),
        (("--metric", "top-m"), "did you mean 'top-n'"),
        (("--set", "teacher.haed=probe"), "did you mean 'head'"),
        (("--set", "task.labls=[a]"), "did you mean 'labels'"),
    ],
)
def test_names_that_do_not_exist(patches: Path, capsys, arguments: tuple[str, ...], word: str) -> None:
    code, sentence = fails(capsys, patches, *arguments)
    assert code == 2
    assert word in sentence
    assert not (patches / "runs").exists()


def test_an_empty_hub_cache_without_network(patches: Path, capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty-cache"))
    code, sentence = fails(capsys, patches, "--teacher-model", "vinid/plip")
    assert code == 6
    assert "vinid/plip" in sentence
    code, sentence = fails(capsys, patches, "--student", "some-lab/some-student", "--set", "aligner.warmup=0")
    assert code == 6
    assert "some-lab/some-student" in sentence
