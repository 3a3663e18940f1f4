"""Every sample of the documentation is tried.

Commands and Python are given up to the first stage, or the first answer, the quick ones wholly; configs are resolved.
What needs a finished run, and examples/, are run by test_examples.py.
"""

import csv
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import mint_core
from mint_core.cli import cli
from mint_core.comparison.schedule import Schedule
from mint_core.config import Resolved, resolve
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.runs import checks
from mint_core.runs.pipeline import stages_of
from mint_core.stages.run import Run
from mint_core.testing import LABELS, TEACHER_CHECKS, teacher_context
from mint_core.types import Sample, TaskData
from tests import stand_ins

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "plugins").glob("*/README.md")),
]
MINT = r"(?:\.venv/bin/)?mint|python -m mint_core|torchrun [^|]*? -m mint_core"
NOT_CHECKED = {
    "pip": "it fetches packages, from an index or from this repository",
    "make": "its targets set up whole environments; tests of their own call mint as they do",
    "python": "scripts of this project for measurements, which take minutes to hours",
    "transformers": "the server of another program",
    "vllm": "the server of another program",
}
"""Commands that no test gives, by their first word, with the reason."""
REAL_DATA = re.compile(r"experiments/")
"""Commands on thousands of real patients, of which no stand-in is small: their configs are resolved, no data read."""


class Command(NamedTuple):
    """A line of the documentation, its continuation lines joined; or a whole fenced block."""

    page: str
    line: int
    text: str


def fenced(language: str) -> list[Command]:
    """The fenced blocks of one language, with the line behind the fence."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.M | re.S):
            found.append(Command(str(page.relative_to(REPOSITORY)), text.count("\n", 0, block.start()) + 2, block[1]))
    return found


def code_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of code blocks, fenced for a shell or indented, with their numbers; continuation lines joined."""
    fence, begun = "", None
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("```"):
            fence = "" if fence else line
            continue
        shell = fence.removeprefix("```") in ("bash", "sh", "shell", "console") if fence else line.startswith("    ")
        if begun is not None:
            begun = (begun[0], f"{begun[1][:-1].rstrip()} {line.strip()}")
        elif shell:
            begun = (number, line.strip().removeprefix("$ "))
        if begun is not None and not begun[1].endswith("\\"):
            yield begun
            begun = None


def written() -> list[Command]:
    """All command lines of the documentation."""
    first = re.compile(rf"(?:{MINT}|{'|'.join(NOT_CHECKED)})(?= |$)")
    return [
        Command(str(page.relative_to(REPOSITORY)), number, text)
        for page in PAGES
        for number, text in code_lines(page.read_text(encoding="utf-8"))
        if first.match(text)
    ]


COMMANDS = [command for command in written() if re.match(MINT, command.text)]
CONFIGS = fenced("yaml")
OF_A_RUN = {
    "README.md", "docs/explanation/aligners.md", "docs/how-to/compare.md", "docs/how-to/inference.md",
    "docs/how-to/report.md", "docs/reference/run-folder.md",
}  # fmt: skip
"""Pages whose Python needs a finished run, or makes one: test_examples.py runs it."""
PYTHON = [block for block in fenced("python") if block.page not in OF_A_RUN]


def arguments(text: str) -> list[list[str]]:
    """What mint is given; several lists where a line names several commands. What stands far behind explains it."""
    text = re.sub(rf"^(?:{MINT}) ", "", re.split(r" {3,}| +#| [<>] ", text)[0])
    names, *alternatives = text.split(" | ")
    if alternatives:
        return [[name] for name in (names, *alternatives)]
    return [shlex.split(text.removesuffix("--teacher …").replace("…", ""))]


def filled(given: list[str]) -> list[str]:
    """With names of the stand-ins where the documentation writes a placeholder."""
    joined = " ".join(given)
    named = next((name for name in ("folder", "pannuke") if f"--source {name}" in joined), "phenopackets")
    source = {"folder": "patches", "pannuke": "pannuke"}.get(named, "phenopackets.zip")
    words = {
        "FOLDER": "runs/NAME",
        "PATH": source, "~/pannuke": "pannuke", "~/patches": "patches", "~/gmdb": "gmdb", "patches/": "patches",
        "ID_OR_FOLDER": "some-lab/a-student",
        "student.model=ID_OR_FOLDER": "student.model=some-lab/a-student", "https://HOST/v1": "https://example.org/v1",
        "task.min_patients=60": "task.min_patients=2",  # the stand-ins are few
        "retriever.path=FOLDER": "retriever.path=passages", "runs/<name>/run.json": "runs/NAME/run.json",
        "aligner.sft_adapter=runs/my-sft-run/adapter": "aligner.sft_adapter=runs/NAME/adapter",
    }  # fmt: skip
    if given[:2] == ["plugin", "check"]:
        words["my-words"] = "listwise"
    given = [words.get(word, word) for word in given]
    alone = given[0] in ("run", "label", "prefer", "align", "evaluate", "report", "plan")
    alone = alone and given[:2] != ["report", "runs/NAME"]
    named = {"--teacher", "--config", "-c", "--task"}.intersection(given)
    return [*given, "--teacher", "plip"] if alone and not named else given


class Reached(Exception):
    """The command came to where its work begins."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("documented")
    stand_ins.build(root, REPOSITORY)
    return root


DATA: dict[str, TaskData] = {}
"""What was read for an earlier command."""


@pytest.fixture
def stopped(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything before the first stage, or the first answer, is the real thing."""

    def stop(*_: object, **__: object) -> None:
        raise Reached

    def run(resolved: Resolved, *, until: str = "report", coming: Sequence[Path] = (), **_: object) -> None:
        stages = [stage.name for stage in stages_of(resolved, until)]
        folder = place / "runs" / "x"
        checks.check_run(Run(resolved, folder, Observer(), place / "runs" / ".cache", DATA), stages, coming)
        raise Reached

    def compare(made: Schedule, *_: object, **__: object) -> None:
        for one in (*made.runs, *made.baseline_runs):
            coming = [one.first_adapter] if one.first_adapter else []
            with pytest.raises(Reached):
                run(one.resolved, until="label" if one.baseline else "report", coming=coming)
        raise Reached

    monkeypatch.setattr("mint_core.comparison.compare.carry_out", compare)
    monkeypatch.setattr("mint_core.comparison.parts.make_part", compare)
    monkeypatch.setattr("mint_core.runs.pipeline.run_resolved", run)  # behind the imports of those above
    monkeypatch.setattr("mint_core.planning.plan.make_plan", lambda resolved, **_: run(resolved))
    monkeypatch.setattr("mint_core.answering.new_samples.predict", stop)
    monkeypatch.setattr("mint_core.runs.export.export_to_trl", stop)
    monkeypatch.setattr("mint_core.runs.again.report_again", stop)
    monkeypatch.setattr("mint_core.runs.again.fill_checklist", stop)
    monkeypatch.setattr("mint_core.runs.export_student.export_student", stop)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"id": "a", "text": "tall"}')))
    monkeypatch.setattr("mint_core.runs.preserve.preserve_run", stop)
    monkeypatch.setattr("mint_core.runs.preserve.measure", stop)
    monkeypatch.setattr("mint_core.runs.explain.of_adapter", stop)
    monkeypatch.setattr("mint_core.runs.explain.of_run", stop)
    monkeypatch.setattr("mint_core.scaffold.project.write_project", stop)
    monkeypatch.setattr("mint_core.testing.installed.judge", stop)
    monkeypatch.setattr("mint_core.aligners.trackers.check", lambda _: None)  # nor are all trackers
    monkeypatch.setattr("mint_core.answering.vllm.check_options", lambda _: None)  # vLLM is not in this environment
    monkeypatch.chdir(place)


def identity(command: Command) -> str:
    """For the list of tests."""
    return f"{command.page}:{command.line}"


@pytest.mark.parametrize("command", COMMANDS, ids=identity)
def test_a_documented_command_comes_to_its_work(command: Command, stopped, place: Path) -> None:
    for given in arguments(command.text):
        words = filled(given)
        quick = words[0] in ("plugins", "doctor", "config", "runs", "submit")
        try:
            with pytest.MonkeyPatch.context() as patch:
                if REAL_DATA.search(command.text):
                    patch.setattr("mint_core.runs.checks.check_run", lambda *_: [])
                cli.main(args=words, prog_name="mint", standalone_mode=False, obj=words)
        except Reached:
            assert not quick, words
        except SystemExit:  # what doctor says of this machine is no fault of the page
            assert words == ["doctor"]
        else:
            assert quick, words


@pytest.mark.parametrize("block", CONFIGS, ids=identity)
def test_a_documented_config_is_one(block: Command, stopped) -> None:
    given = yaml.safe_load(block.text)
    given = given if "task" in given else {"teacher": "plip", **given}
    if "compare" in given:
        with pytest.raises(Reached):
            mint_core.compare(given)
    else:
        assert resolve(given, registry())


@pytest.fixture(scope="module")
def my_teacher() -> dict[str, object]:
    """The teacher of the page about plugins, and what its contract test is given."""
    (code,) = (block.text for block in PYTHON if "class MyWords(" in block.text)
    names: dict[str, object] = {"__name__": "my_words"}
    exec(code, names)  # noqa: S102
    samples = [Sample(f"p{number}", "train", label, text=label) for number, label in enumerate(LABELS.names)]
    kit = {"pytest": pytest, "TEACHER_CHECKS": TEACHER_CHECKS, "teacher_context": teacher_context}
    return {**names, **kit, "LABELS": LABELS, "SAMPLES": samples}


@pytest.mark.parametrize("block", PYTHON, ids=identity)
def test_documented_python_works(block: Command, stopped, place: Path, my_teacher, tmp_path: Path) -> None:
    names = {**my_teacher, "adapter": place / "runs" / "NAME" / "adapter"}
    try:
        exec(block.text, names)  # noqa: S102
    except Reached:
        return
    for name, value in names.items():
        if name.startswith("test_"):
            for check in TEACHER_CHECKS:
                value(check, tmp_path)


def test_documented_tables_are_even() -> None:
    for block in fenced("csv"):
        assert len({len(row) for row in csv.reader(block.text.splitlines())}) == 1, block


def test_every_fenced_block_is_of_a_kind_that_is_tried() -> None:
    assert (len(CONFIGS), len(PYTHON)) >= (5, 4)
    for page in PAGES:
        opened = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.M)[::2]
        assert set(opened) <= {"bash", "python", "yaml", "csv"}, page
        for number, line in code_lines(page.read_text(encoding="utf-8")):
            assert not re.match(r"(import \w+|from [\w.]+ import )", line), (
                f"{page}:{number}: fence it, so that it is run"
            )


def test_every_line_that_looks_like_a_command_is_known() -> None:
    """A floor, so that the list cannot become empty, and a reason for everything that is left out."""
    assert len(COMMANDS) >= 60
    pages = {"README.md", "docs/how-to/data.md", "plugins/mint_gestalt/README.md"}
    assert {command.page for command in COMMANDS} >= pages
    others = {command.text.split()[0] for command in written()} - {command.text.split()[0] for command in COMMANDS}
    assert others == set(NOT_CHECKED), others


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--device", "cuda:77"), "device 'cuda:77' cannot be used"),
        (("--retriever", "documents", "--set", "retriever.path=nowhere"), "retriever.path: nowhere does not exist"),
    ],
)
def test_predict_refuses_what_is_not_here_before_it_reads_a_sample(mint, stopped, options, sentence: str) -> None:
    answer = mint("predict", "--adapter", "runs/NAME/adapter", "--input", "notes.jsonl", *options)
    assert (answer.code, sentence in answer.err) == (2, True), answer.err


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("    mint run \\\n        --seed 1\ntext mint run\n", [(1, "mint run --seed 1")]),
        ("```bash\nmint plan\n```\n```python\nmint = 1\n```\n", [(2, "mint plan")]),
    ],
)
def test_lines_are_read_as_a_shell_would(page: str, found: list[tuple[int, str]]) -> None:
    assert [(number, line) for number, line in code_lines(page) if line] == found
