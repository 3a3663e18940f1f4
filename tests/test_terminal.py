"""Nothing from outside commands the terminal or looks like a line of mint's."""

import ast
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import unicodedata
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from rich.table import Table
from rich.text import Text

import mint_core
from mint_core.characters import visible
from mint_core.cli.progress import Terminal
from mint_core.cli.say import own_terminal, say, say_json, say_lines
from mint_core.cli.screen import Screen
from mint_core.report.table import result_table

CORE = Path(mint_core.__file__).parent
COMMANDS = {
    "colour": "\x1b[31mred", "title": "\x1b]0;owned\x07", "clear": "\x1b[2J\x1b[1;1H", "c1": "\x9b31m",
    "delete": "a\x7f\x08", "line": "x\nmint: run complete", "return": "x\rmint: run complete",
    "next line": "x\x85y", "separator": "x\u2028y\u2029z", "override": "\u202egpj.exe", "isolate": "\u2066a\u2069",
    "marks": "\u200e\u200f\u061c", "no width": "a\u200bb\ufeff", "null": "a\x00b",
    "link": "\x1b]8;;http://x\x1b\\here\x1b]8;;\x1b\\", "no text": "caf\udce9", "tag": "\U000e0041",
}  # fmt: skip


def _commands(text: str) -> list[str]:
    """What in a text a terminal would obey; line breaks do not count."""
    bad = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return [mark for mark in text if unicodedata.category(mark) in bad and mark not in "\n\u200c\u200d"]


@pytest.mark.parametrize("text", COMMANDS.values(), ids=COMMANDS)
def test_a_command_is_written_out(text: str) -> None:
    shown = visible(text)
    assert not _commands(shown) and "\n" not in shown and "\\" in shown


def test_ordinary_text_stays_as_it_is() -> None:
    text = "Ménière (μ ≥ 5 %), 日本語, नमस्\u200dते, 👩‍⚕️ a\\b"
    assert visible(text) == text
    assert visible("caf\udce9") == "caf\\xe9"


@pytest.mark.parametrize("text", COMMANDS.values(), ids=COMMANDS)
def test_every_way_to_the_terminal_writes_it_out(text: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with own_terminal():
        say(text)
        say(text, err=True)
        with Terminal() as terminal:
            terminal.message(text)
            terminal.stage(text, reused=False, reason=text)
            terminal.progress(1, 2, text)
            terminal.finished(text, 1.0)
            terminal.line(text)
            table = Table(title=text)
            table.add_column(text.replace("[", "\\["))
            table.add_row(text.replace("[", "\\["))
            table.add_row(Text(text))
            terminal.print_tables([table])
    said = capsys.readouterr()
    assert not _commands(said.out + said.err)
    assert said.out.count("\n") >= 8
    beginnings = [line for line in (said.out + said.err).splitlines() if line.startswith("mint: run complete")]
    assert not beginnings


@pytest.mark.parametrize("text", COMMANDS.values(), ids=COMMANDS)
def test_a_bar_on_a_terminal_writes_it_out_and_reads_no_markup(text: str, monkeypatch) -> None:
    stream = io.StringIO()
    terminal = Terminal()
    terminal.console = Screen(file=stream, force_terminal=True, width=200, color_system=None, emoji=False)
    with terminal:
        terminal.stage(text, reused=False, reason=text + "[/red] [bold]x")
        terminal.progress(1, 2, text)
        terminal.bar.refresh()
    # what is left is rich's own: moving the cursor, hiding it, erasing its bar
    own = re.sub(r"\x1b\[[?]?[0-9;]*[A-Za-z]", "", stream.getvalue()).replace("\r", "")
    assert not _commands(own)
    assert "\x1b[31m" not in stream.getvalue() and "\x1b]" not in stream.getvalue()
    assert "mint: run complete" not in [line.strip() for line in own.splitlines()]


@pytest.mark.parametrize("text", [COMMANDS["line"], "".join(COMMANDS.values())], ids=["line", "all"])
def test_errors_quote_what_was_given_on_one_line(text: str, mint, tmp_path: Path) -> None:
    tried = [
        ("config", "show", "--task", text),
        ("config", "show", f"--{text}"),
        ("config", "show", "--set", text),
        ("config", "show", "--task", "tissue-type", "--set", f"student.{text.replace('.', '')}=1"),
        ("config", "show", "--config", str(tmp_path / text.replace("/", "").replace("\x00", ""))),
        ("predict", "--decode", text),
        (text,),
    ]
    for given in tried:
        answer = mint(*given)
        assert answer.code == 2, answer
        assert not _commands(answer.out + answer.err)
        assert len(answer.err.splitlines()) == 1, answer.err


def test_a_traceback_cannot_look_like_a_line_of_mint(mint, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("x\nmint: done\x1b[2J")

    monkeypatch.setattr("mint_core.config.resolve", broken)
    answer = mint("config", "show", "--debug")
    assert answer.code == 1
    lines = answer.err.splitlines()
    assert [line for line in lines if line.startswith("mint:")] == lines[-1:]
    assert "\\x1b[2J" in answer.err and not _commands(answer.err)
    assert "x\n" not in mint("config", "show").err


def test_reasons_of_broken_plugins_and_findings_of_doctor(install_plugin, mint, monkeypatch) -> None:
    install_plugin("mint-evil", "evil_reason", 'raise RuntimeError("\\x1b[31m\\nmint: all is well")')
    for given in (["plugins"], ["plugins", "--json"], ["doctor"], ["doctor", "--json"]):
        monkeypatch.setattr(sys.modules["mint_core.cli.doctor"], "_device", lambda: 1 / 0)
        answer = mint(*given)
        assert answer.code in (1, 3)
        assert not _commands(answer.out + answer.err)
        assert "mint: all is well" not in (answer.out + answer.err).splitlines()
    assert "mint: all is well" in json.loads(mint("doctor", "--json").out)[-1]["fact"]


def test_a_config_is_shown_so_that_it_is_read_back(mint) -> None:
    for text in COMMANDS.values():
        if "\udce9" in text or "\x00" in text or "\U000e0041" in text:
            continue  # what YAML cannot hold
        answer = mint("config", "show", "--task", "tissue-type", "--set", f"student.model={json.dumps(text)}")
        assert not _commands(answer.out)
        assert yaml.safe_load(answer.out)["student"]["model"] == text


def test_json_is_read_back(capsys) -> None:
    text = "".join(COMMANDS.values())
    say_json({"a": text})
    out = capsys.readouterr().out
    assert not _commands(out) and json.loads(out)["a"] == text


def test_warnings_log_lines_and_threads_follow_the_same_rules(capsys) -> None:
    text = "x\nmint: done\x1b[2J"
    logger, handler = logging.getLogger("a.library"), None
    with own_terminal():
        handler = logging.StreamHandler(sys.stderr)
        logger.addHandler(handler)
        logger.warning("%s", text)
        sys.stderr.write(warnings.formatwarning(text, UserWarning, "file.py", 1))
        threading.excepthook(SimpleNamespace(exc_type=ValueError, exc_value=ValueError(text)))
        say_lines("two\nlines")
    logger.removeHandler(handler)
    said = capsys.readouterr()
    assert "mint: done" not in said.err.splitlines() and not _commands(said.err)
    assert said.err.count("\\x1b[2J") == 2 and "a thread failed (ValueError)" in said.err
    assert said.out == "two\nlines\n"
    with own_terminal():
        assert warnings.formatwarning("look", UserWarning, "lib/mint_core/images.py", 1) == "Warning: look\n"
        assert warnings.formatwarning("look", UserWarning, "lib/else.py", 1) == "lib/else.py:1: UserWarning: look\n"
    assert logging.getLogRecordFactory() is logging.LogRecord


def test_the_table_of_a_run_shows_names_of_cohorts_and_metrics() -> None:
    numbers = {"mean": 0.5, "low": 0.4, "high": 0.6, "unscored": 0}
    text = "\x1b[31mx\nmint: done [bold]"
    rows = [{"variant": "base", "subset": subset, "n": 3, "metrics": {"m": numbers}} for subset in ("all", text)]
    asked = {"engine": "endpoint", "model": text, "endpoint": text, "shots": 0, "reason": False}
    content = {
        "rows": rows, "titles": {"m": text}, "simulated": False, "confidence": 0.95, "split": text, "n": 3,
        "aligned_minus_base": {}, "asked": asked,
    }  # fmt: skip
    stream = io.StringIO()
    Screen(file=stream, width=300, emoji=False, highlight=False).print(result_table(content))
    assert not _commands(stream.getvalue())
    assert not any(line.strip().startswith("mint: done") for line in stream.getvalue().splitlines())


def _estimate(mean: float, low: float, high: float) -> dict[str, float]:
    return {"mean": mean / 100, "low": low / 100, "high": high / 100, "unscored": 0}


def _drawn(width: int, subsets: tuple[str, ...]) -> str:
    """The table of a run, on a terminal of that width."""
    keys = ("hfa", "top-n", "top-1", "car")
    values = {key: _estimate(33.9, 25.1, 38.3) for key in keys} | {"hfa": _estimate(100, 100, 100)}
    rows = [
        {"variant": variant, "subset": subset, "n": 380, "metrics": values}
        for subset in subsets
        for variant in ("base", "aligned", "aligned-shuffled", "teacher", "chance")
    ]
    content = {
        "rows": rows, "titles": dict(zip(keys, ("HFA", "Top-5", "Top-1", "CAR"), strict=True)), "simulated": True,
        "confidence": 0.95, "split": "test", "n": 380, "aligned_minus_base": dict.fromkeys(subsets, values),
        "asked": {"engine": "transformers", "shots": 0, "reason": False},
    }  # fmt: skip
    stream = io.StringIO()
    Screen(file=stream, width=width, force_terminal=True, color_system=None).print(result_table(content))
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())


@pytest.mark.parametrize("subsets", [("all",), ("all", "unseen")])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_of_a_run_keeps_names_and_intervals(width: int, subsets: tuple[str, ...]) -> None:
    shown = _drawn(width, subsets)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width and "…" not in shown
    assert shown.count("[100.0, 100.0]") == 6 * len(subsets) and shown.count("[25.1, 38.3]") == 18 * len(subsets)
    words = re.sub(r"[│┃]", " ", shown).split()
    for name in ("student", "(paired)", "shuffled", "teacher", "random", "HFA", "Top-5", "Top-1", "CAR"):
        assert name in words, name
    if width == 80 and len(subsets) == 1:
        assert len(lines) == 14  # still a table: a title, the names of columns, two lines per row


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_of_plugins_is_not_cut(width: int, mint, monkeypatch) -> None:
    monkeypatch.setattr(Screen, "is_terminal", True)
    monkeypatch.setenv("COLUMNS", str(width))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", mint("plugins").out)
    assert max(map(len, shown.splitlines())) <= width and "…" not in shown
    assert {"rare-disease", "mint-gestalt", "distribution"} <= {*shown.split()}


def test_a_row_with_a_long_sentence_breaks_between_words() -> None:
    table = Table("name", "status")
    table.add_row("one", "broken: " + "the reason is told at length " * 4)
    stream = io.StringIO()
    Screen(file=stream, width=60).print(table)
    assert "┃ name" in stream.getvalue()
    assert stream.getvalue().split().count("length") == 4


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 120])
def test_sentences_break_between_words(width: int, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = _Tty()
    monkeypatch.setattr(sys, "stderr", stream)
    path = "/a/very/long/path/" + "folder/" * 20
    sentence = "The config cannot be read although everything else was as it should have been; check the path " + path
    say(sentence, err=True)
    terminal = Terminal()
    terminal.console = Screen(file=stream, force_terminal=True, width=width, color_system=None)
    terminal.message(sentence)
    lines = stream.getvalue().splitlines()
    assert " ".join(lines).split() == 2 * sentence.split()
    assert {len(line) > width for line in lines if path not in line} == {False}


def test_where_there_is_no_terminal_a_sentence_is_one_line(capsys) -> None:
    say("word " * 100)
    with Terminal() as terminal:
        terminal.message("word " * 100)
    said = capsys.readouterr()
    assert (len(said.out.splitlines()), len(said.err.splitlines())) == (1, 1)


def test_a_terminal_without_utf_8_is_no_error(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    given = [sys.executable, "-m", "mint_core", "config", "show", "--task", "日本"]
    done = subprocess.run(given, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "\\u65e5\\u672c" in done.stderr) == (2, True), done.stderr


def test_there_are_two_modules_that_write_to_the_terminal() -> None:
    """Everything else says what it has to say through them."""
    writers, files = set(), 0
    for path in CORE.rglob("*.py"):
        files += 1
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("print", "Console", "click.echo", "click.secho", "sys.stderr.write", "sys.stdout.write"):
                    writers.add(path.relative_to(CORE).as_posix())
            if isinstance(node, ast.ClassDef) and "Console" in map(ast.unparse, node.bases):
                writers.add(path.relative_to(CORE).as_posix())
    assert files > 100
    assert writers == {"cli/say.py", "cli/screen.py"}
