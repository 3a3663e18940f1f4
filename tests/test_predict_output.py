"""`mint predict`: what is read and written, what goes on after an interruption, and samples that fail."""

import csv
import io
import json
import os
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mint_core.answering.formats import Csv, JsonLines, Written
from mint_core.answering.outcome import Outcome
from mint_core.answering.page import Heading, HtmlPage
from mint_core.answering.standard_input import as_file
from mint_core.files import digest_of_adapter
from tests.predicting import NOTES, SECRET, lines, write


def test_an_interrupted_output_is_continued(predict, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert predict("--output", whole).code == 0
    assert predict("--output", out).code == 0
    text = whole.read_text()
    assert out.read_text() == text
    ends = [position for position, sign in enumerate(text) if sign == "\n"]
    out.write_text(text[: ends[3] + 20])  # killed in the middle of the fifth line
    answer = predict("--output", out)
    assert "6 samples, 2 answered, 4 there already" in answer.err
    assert out.read_text() == text
    assert "6 there already" in predict("--output", out).err
    assert out.read_text() == text
    assert {path.name for path in tmp_path.glob("out*")} == {"out.jsonl", "out.jsonl.meta.json"}
    assert not list(tmp_path.glob(".out*"))


def test_ctrl_c_loses_no_answer(predict, tmp_path: Path, monkeypatch) -> None:
    from mint_core.cli.progress import Terminal

    def press(self, done, total, unit, figures=None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr(Terminal, "progress", press)
        answer = predict("--output", out, "--batch-size", 1)
    assert (answer.code, "goes on from there" in answer.err) == (130, True)
    before = lines(out.read_text())
    assert len(before) == 3
    assert "3 answered, 3 there already" in predict("--output", out, "--batch-size", 1).err
    after = lines(out.read_text())
    assert [record["id"] for record in after] == [note["id"] for note in NOTES]
    assert after[:3] == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--decode", "score"), "decode"),
        (("--echo-text",), "echo_text"),
        (("--set", "task.n=3"), "task"),
    ],
)
def test_an_output_of_other_settings_is_refused(predict, tmp_path: Path, options, named: str) -> None:
    out = tmp_path / "out.jsonl"
    assert predict("--output", out).code == 0
    before = out.read_text()
    answer = predict("--output", out, *options)
    assert (answer.code, f"another {named};" in answer.err) == (2, True), answer.err
    assert out.read_text() == before


def test_an_output_of_another_adapter_or_program_is_refused(
    predict, mint, adapter: Path, notes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    assert predict("--output", out).code == 0
    other = shutil.copytree(adapter, tmp_path / "other")
    (other / "README.md").write_text("A card that tells more.")
    again = mint("predict", "--adapter", other, "--input", notes, "--output", out)
    assert (again.code, "6 there already" in again.err) == (0, True), again.err
    (other / "trained-anew.json").write_text("{}")
    assert digest_of_adapter(other) != digest_of_adapter(adapter)
    answer = mint("predict", "--adapter", other, "--input", notes, "--output", out)
    assert (answer.code, "another adapter;" in answer.err) == (2, True), answer.err
    moved = notes.rename(tmp_path / "other.jsonl")
    assert "another input;" in predict("--output", out, source=moved).err
    foreign = tmp_path / "thesis.csv"
    foreign.write_text("precious\n")
    answer = predict("--output", foreign, source=moved)
    assert (answer.code, "no thesis.csv.meta.json" in answer.err) == (2, True)
    assert foreign.read_text() == "precious\n"
    assert predict("--output", tmp_path / "out.xlsx", source=moved).code == 2


def test_a_damaged_line_in_the_middle_is_named_and_kept(predict, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert predict("--output", out).code == 0
    text = out.read_text().replace('{"id": "n2"', "{", 1)
    out.write_text(text)
    answer = predict("--output", out)
    assert (answer.code, "Line 3" in answer.err) == (4, True)
    assert out.read_text() == text


def test_a_table_has_a_column_per_label_and_is_continued(predict, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert predict("--output", out, "--decode", "score", "--top", 3).code == 0
    text = out.read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["id"] for row in rows] == [note["id"] for note in NOTES]
    kinds = ("label", "probability", "normalised")
    assert list(rows[0])[6:] == ["missing_mass", *(f"{kind}_{place}" for place in (1, 2, 3) for kind in kinds)]
    assert all(0 < float(row["missing_mass"]) < 1 and 0 < float(row["normalised_1"]) <= 1 for row in rows)
    assert all(float(row["probability_1"]) >= float(row["probability_3"]) > 0 for row in rows)
    out.write_text(text[:-10])
    assert "1 answered, 5 there already" in predict("--output", out, "--decode", "score", "--top", 3).err
    assert out.read_text() == text


def test_cells_are_no_formulas_and_ids_are_found_again() -> None:
    form = Csv(width=2, scored=False, response=True)
    ids = ["=1+1", "@a", "+1", "-1", "\ttab", " =x", "＝wide", 'quote"d, id', "two\nlines", "ünï", "\udcff"]  # noqa: RUF001
    for sample_id in ids:
        line = form.line(Outcome(sample_id, "free", labels=("=cmd()", "fine", "third"), response="-x\ny"))
        assert line.count("\n") == 1
        cells = next(csv.reader([line]))
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "＝")) for cell in cells)  # noqa: RUF001
        assert cells[6:] == ["'=cmd()", "fine", "'-x y"]
        assert form.read(line).key == form.key(sample_id)
    json_lines = JsonLines()
    assert all(json_lines.read(json_lines.line(Outcome(one, "free"))).key == one for one in ids)


class Reader(HTMLParser):
    """What a browser would make of a page: elements, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements, self.attributes, self.words, self.articles = set(), set(), [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.articles += [dict(attributes)["data-sample"]] if tag == "article" else []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_shows_every_answer_and_is_continued(predict, tmp_path: Path) -> None:
    out = tmp_path / "answers.html"
    scored = ("--output", out, "--decode", "score", "--threshold", 0.3)
    answer = predict(*scored)
    assert answer.code == 0, answer.err
    text = out.read_text()
    page = Reader(text)
    assert page.articles == [note["id"] for note in NOTES]
    assert {"article", "ol", "meter", "h1"} <= page.elements and not {"script", "img", "link", "a"} & page.elements
    words = " ".join(page.words)
    assert (
        "The adapter was trained on simulated data" in words
        and "no answer on this page may decide about a patient" in words
    )
    assert "It abstains below a probability of 0.3" in words
    assert words.count("of the student's probability lies on no label") == 6
    assert SECRET not in text
    out.write_text(text[:-30])
    assert "1 answered, 5 there already" in predict(*scored).err
    assert out.read_text() == text
    assert "another threshold" in predict("--output", out, "--decode", "score").err
    asked = predict("--output", tmp_path / "asked.html", "--echo-text", "--response")
    assert asked.code == 0, asked.err
    page = Reader((tmp_path / "asked.html").read_text())
    assert sum(SECRET in words for words in page.words) == 6
    assert "This page shows what the student wrote and what the student read" in " ".join(" ".join(page.words).split())


def test_a_page_escapes_everything_and_its_ids_are_found_again() -> None:
    bad = "<script>alert(1)</script>\"'><img src=x onerror=y>&amp;{{ 7*7 }}</pre></article>\n\x1b[31m\u202e\x00"
    form = HtmlPage(Heading(bad, bad, ("<b>Simulated data.</b>",)), response=True, echo=True, passages=True)
    whole = Outcome(
        bad, "score", (bad, "Colon"), (None, bad), (0.2, 0.1), (-1.6, -2.3), (0.6, 0.3), 0.66, response=bad, input=bad,
        passages=(bad,), truncated=True,
    )  # fmt: skip
    failed = Outcome(bad, "free", error=bad)
    lines = [form.head, form.line(whole), form.line(failed)]
    assert [line.count("\n") for line in lines] == [1, 1, 1]
    page = Reader("".join(lines))
    assert not {"script", "img", "b"} & page.elements and "onerror" not in page.attributes
    assert len(page.articles) == 2
    assert not any(mark in "".join(lines) for mark in "\x1b\x00\u202e")
    assert "{{ 7*7 }}" in "".join(page.words)
    assert form.read(lines[1]) == Written(form.key(bad), failed=False)
    assert form.read(lines[2]) == Written(form.key(bad), failed=True)
    for line in (lines[0], lines[1][:-5], "<p>\n"):
        with pytest.raises(ValueError, match="no article"):
            form.read(line)


def feed(monkeypatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_standard_input_is_read_as_json_lines(predict, notes: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    expected = predict()
    feed(monkeypatch, notes.read_text())
    answer = predict(source="-")
    assert (answer.code, answer.out) == (0, expected.out), answer.err
    feed(monkeypatch, notes.read_text() + json.dumps({"id": "x", "text": "", "broken": SECRET}) + "\n")
    failed = predict(source="-")
    assert (failed.code, SECRET in failed.err) == (4, False)
    assert list((tmp_path / "tmp").iterdir()) == []  # nothing of the patients stays
    feed(monkeypatch, "")
    assert predict(source="-").code == 4


@pytest.mark.parametrize(
    ("content", "suffix"),
    [(b"id,text\na,x\n", ".csv"), (b"\xef\xbb\xbf\n {}", ".jsonl"), (b"[{}]", ".jsonl"), (b"", ".csv")],
)
def test_the_format_of_standard_input_is_told_by_its_first_sign(content: bytes, suffix: str) -> None:
    with as_file(io.BytesIO(content)) as file:
        assert (file.suffix, file.read_bytes()) == (suffix, content)
        assert file.parent.stat().st_mode & 0o077 == 0
    assert not file.exists()


def test_two_processes_cannot_write_one_output(predict, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".out.jsonl.lock"):
        answer = predict("--output", tmp_path / "out.jsonl")
    assert (answer.code, "Another process" in answer.err) == (8, True)


def test_a_full_disk_is_one_sentence(predict, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.symlink_to("/dev/full")
    answer = predict("--output", out)
    assert (answer.code, "is full" in answer.err) == (8, True), answer.err


def test_a_reader_that_has_seen_enough_is_no_error(predict, monkeypatch) -> None:
    """As `mint predict … | head -0` does."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        answer = predict()
    assert (answer.code, "mint:" in answer.err) == (0, False), answer.err


# --- samples that fail

BAD = [
    NOTES[0],
    {"id": "empty", "text": "  "},
    {"id": "long", "text": "word " * 900},
    {"id": "b", "broken": True},
    NOTES[1],
    NOTES[0],
]


@pytest.mark.parametrize(
    ("position", "said"),
    [(1, "has no text"), (2, "context holds"), (3, "Note b is broken"), (5, "Two samples have the id 'n0'")],
)
def test_a_bad_sample_stops_and_what_was_answered_stays(predict, tmp_path: Path, position: int, said: str) -> None:
    out = tmp_path / "out.jsonl"
    source = write(tmp_path / "bad.jsonl", [*NOTES[2:4], BAD[0], BAD[position]])
    answer = predict("--output", out, source=source)
    assert (answer.code, said in answer.err, "--on-error skip" in answer.err) == (4, True, True), answer.err
    assert SECRET not in answer.err
    assert len(lines(out.read_text())) == (3 if position == 2 else 0)  # only the model can tell what is too long


def test_bad_samples_are_skipped_named_and_tried_again(predict, tmp_path: Path) -> None:
    out, source = tmp_path / "out.jsonl", write(tmp_path / "bad.jsonl", BAD)
    answer = predict("--output", out, "--on-error", "skip", source=source)
    assert answer.code == 9
    assert "4 of 6 samples failed" in answer.err
    records = lines(out.read_text())
    assert [record["id"] for record in records] == ["n0", "empty", "long", "b", "n1", "n0 (2)"]
    assert [bool(record["error"]) for record in records] == [False, True, True, True, False, True]
    assert all(record["labels"] == [] for record in records if record["error"])
    write(source, [*BAD[:1], {"id": "empty", "text": "filled"}, *BAD[2:5]])
    again = predict("--output", out, "--on-error", "skip", source=source)
    assert (again.code, "1 answered, 2 there already, 2 failed" in again.err) == (9, True), again.err
    assert [record["id"] for record in lines(out.read_text())] == ["n0", "n1", "empty", "long", "b"]


def test_nothing_to_read(predict, tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.jsonl", [])
    answer = predict("--output", tmp_path / "out.jsonl", source=empty)
    assert (answer.code, "holds no sample" in answer.err) == (4, True)
    assert not (tmp_path / "out.jsonl").exists()
