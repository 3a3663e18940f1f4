"""The exit codes of docs, `--help`, the error tree and the tests are one list."""

import re
from pathlib import Path

import pytest

from mint_core import errors
from mint_core.errors import EXIT_CODES, MintError

ROOT = Path(__file__).parents[1]


def test_every_error_has_a_code_and_a_meaning_of_its_own() -> None:
    tree = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, MintError)]
    assert len(tree) >= 10
    assert len({error.exit_code for error in tree}) == len({error.meaning for error in tree}) == len(tree)
    assert set(EXIT_CODES) == {0, 130} | {error.exit_code for error in tree}
    assert all(EXIT_CODES[error.exit_code] == error.meaning for error in tree)


def test_help_and_docs_say_the_same(mint) -> None:
    said = mint("--help").out.partition("Exit codes:")[2]
    assert {int(code): meaning.strip() for code, meaning in re.findall(r"^ +(\d+) +(.+)$", said, re.M)} == EXIT_CODES
    page = (ROOT / "docs" / "reference" / "config.md").read_text(encoding="utf-8")
    config = page.partition("| exit code | meaning |")[2]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", config.partition("\n\n")[0], re.M)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


def test_no_page_names_a_code_that_there_is_not(mint) -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    for command in ("run", "plan", "compare", "predict", "export", "plugins", "doctor"):
        text += mint(command, "--help").out
    named = {int(code) for code in re.findall(r"[Ee]xit\s+codes?\s+(\d+)", text)}
    assert len(named) >= 4
    assert named <= set(EXIT_CODES)


@pytest.mark.parametrize("code", [0, 1, 4, 130, 77, None, "x"])
def test_a_plugins_own_error_ends_with_a_documented_code(install_plugin, mint, code: object) -> None:
    install_plugin("mint-odd", "odd_error", ODD.replace("CODE", repr(code)))
    answer = mint("config", "show", "--teacher", "odd", "--task", "tissue-type")
    assert answer.code == (code if code in (1, 4) else 5)
    assert "mint: own words" in answer.err


ODD = '''
from mint_core.plugin import ComponentConfig, MintError, Teacher, hookimpl
from pydantic import Field, field_validator

class Odd(MintError):
    exit_code = CODE

class OddConfig(ComponentConfig):
    a: int = Field(1, description="A.", validate_default=True)

    @field_validator("a")
    @classmethod
    def refuse(cls, value):
        raise Odd("own words")

class OddTeacher(Teacher):
    """Raises."""
    name = "odd"
    Config = OddConfig
    def log_probs(self, samples): ...

@hookimpl
def mint_teachers():
    return [OddTeacher]
'''
BEHAVIOUR = {
    0: ("plugins",),
    2: ("run", "--task", "no-such-task"),
    4: ("run", "--task", "tissue-type", "--source", "folder", "--data", "{empty}"),
    6: ("run", "--task", "tissue-type", "--student", "{empty}/missing", "--aligner", "none"),
}


@pytest.mark.parametrize("code", BEHAVIOUR)
def test_commands_end_with_the_code_that_is_documented(mint, tmp_path: Path, monkeypatch, code: int) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    given = [part.replace("{empty}", str(tmp_path / "empty")) for part in BEHAVIOUR[code]]
    answer = mint(*given)
    assert answer.code == code, answer.err
