"""`mint plugin new`: six projects that work as they are written; `mint plugin check` judges them clause by clause."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from copier import run_copy
from setuptools.glob import glob

import mint_core
from mint_core.plugins import SEAMS, discover, registry
from mint_core.scaffold import project
from mint_core.testing import CHECKS, clauses_of
from tests.tiny_students import build

KINDS = tuple(SEAMS)
PAGE = next((Path(__file__).parents[1] / "docs").rglob("plugins.md"))
pytestmark = pytest.mark.usefixtures("one_thread")


def written(kind: str, name: str, into: Path, licence: str = "MIT", author: str = "") -> Path:
    return project.write_project(project.names_of(kind, name, registry()), into, licence=licence, author=author)


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A new project of each kind, by its kind."""
    into = tmp_path_factory.mktemp("new")
    return {kind: written(kind, f"own-{kind}", into) for kind in KINDS}


@pytest.fixture
def installed(projects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All six as an editable installation leaves them, with the entry points of their own pyproject.toml."""
    for folder in projects.values():
        about = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        info = tmp_path / "site" / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
        points = "".join(f"{name} = {module}\n" for name, module in about["entry-points"]["mint"].items())
        (info / "entry_points.txt").write_text(f"[mint]\n{points}")
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    registry.cache_clear()
    assert not registry().broken
    yield
    registry.cache_clear()


def test_all_are_clean_whatever_they_are_called(projects, tmp_path: Path) -> None:
    long = [written(kind, "abcdefghij-abcdefghij-abcde-" + kind[:2], tmp_path, "Apache-2.0") for kind in KINDS]
    folders = [*projects.values(), *long]
    ruff = Path(sys.executable).with_name("ruff")
    for arguments in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *arguments, *folders], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    for folder in folders:
        for path in folder.rglob("*.py"):
            modules = {
                node.module
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mint_core")
            }
            assert modules <= (
                {"mint_core.plugin", "mint_core.testing"} if "test" in path.name else {"mint_core.plugin"}
            )


def test_their_own_tests_are_green(projects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the aligner's in one process of their own, with pytest as their authors call it."""
    folders = [folder for kind, folder in projects.items() if kind != "aligner"]
    path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-W", "error",
         "--import-mode=importlib", *folders],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    count = sum(len(checks) for kind, checks in CHECKS.items() if kind != "aligner")
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > count
    monkeypatch.syspath_prepend(str(projects["aligner"]))
    monkeypatch.syspath_prepend(str(projects["aligner"] / "tests"))
    tests = importlib.import_module("test_aligner")
    for check in CHECKS["aligner"]:
        tests.test_contract(check, tmp_path / check.__name__)
    tests.test_the_loss_by_hand()


def test_pip_installs_one_without_an_index_and_mint_finds_it(projects, tmp_path: Path, monkeypatch) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", site, projects["task"]], check=True, capture_output=True)
    monkeypatch.syspath_prepend(str(site))
    (info,) = site.glob("*.dist-info")
    found = discover(PathDistribution(info).entry_points, None)
    assert (found.broken, found.names("task")) == ([], ["own-task"])
    data = found.get("task", "own-task").make().load()
    assert (len(data.samples), len(data.labels), data.simulated) == (24, 4, True)
    assert {path.name for path in info.rglob("*")} >= {"LICENSE", "entry_points.txt"}


def test_all_six_make_a_run_together(installed, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    aligner = {"name": "own-aligner", "epochs": 1, "warmup": 0, "lora_rank": 4}
    config = {
        "task": "own-task", "teacher": "own-teacher", "strategy": {"name": "own-strategy", "k": 1, "q": 2},
        "aligner": aligner, "name": "t", "student": {"model": str(build("llama", tmp_path / "llama")), "device": "cpu"},
        "retriever": "own-retriever", "metrics": ["own-metric"], "predict": {"decode": "score"},
        "evaluate": {"bootstrap": 100},
    }  # fmt: skip
    run = mint_core.run(config)
    assert {row["variant"] for row in run.metrics["rows"]} >= {"base", "aligned", "teacher"}
    assert mint_core.run(config).reused == ("label", "prefer", "align", "predict", "evaluate", "report")


def test_check_prints_every_clause(installed, mint, tmp_path: Path) -> None:
    answer = mint("plugin", "check", "mint-own-teacher")
    assert answer.code == 0, answer.err
    head, *lines = answer.out.splitlines()
    assert head == "teacher own-teacher of mint-own-teacher"
    clauses = clauses_of(SEAMS["teacher"][1])
    assert [line.split()[:2] for line in lines] == [[str(number), "pass"] for number in clauses]
    assert all(text in line for text, line in zip(clauses.values(), lines, strict=True))
    cases = tmp_path / "cases.csv"
    cases.write_text("id,split,label,text\n1,train,Cut,bleeds\n1,test,Bite,by a dog\n", encoding="utf-8")
    answer = mint("plugin", "check", "own-task", "--data", cases, "--set", "task.val_fraction=0.1")
    assert answer.code == 5
    assert re.search("1  fail +.*(id|'1')", answer.out), answer.out
    (told,) = json.loads(mint("plugin", "check", "own-metric", "--json").out)
    claim = told["clauses"][5]
    assert (claim["status"], claim["reason"]) == ("not applicable", "it makes no claim")
    assert {one["status"] for one in told["clauses"]} == {"pass", "not applicable"}


def test_check_says_which_clause_is_broken(install_plugin, mint, projects) -> None:
    source = (projects["teacher"] / "mint_own_teacher" / "teacher.py").read_text(encoding="utf-8")
    assert "return log_softmax(scores)" in source
    install_plugin(
        "mint-off", "off_teacher", source.replace("return log_softmax(scores)", "return 2 * log_softmax(scores)")
    )
    answer = mint("plugin", "check", "own-teacher")
    assert answer.code == 5
    assert answer.err.strip() == "mint: 1 clauses are broken: own-teacher 2."
    assert re.search(r"2  fail +the exponentials of a row add up to 0\.\d+, not to 1; return natural", answer.out)
    install_plugin(
        "mint-exits",
        "exiting",
        source.replace("return log_softmax(scores)", "raise SystemExit(0)").replace("own-", "an-"),
    )
    answer = mint("plugin", "check", "an-teacher")
    assert answer.code == 5
    assert "of mint-exits failed in log_probs (SystemExit)" in answer.out


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("file", "needs rankings; name them with --set teacher.path"), ("mint-core", ""), ("fyle", "did you mean 'file'")],
)
def test_check_of_what_cannot_be_tried(mint, monkeypatch, name: str, sentence: str) -> None:
    if name == "mint-core":
        monkeypatch.setattr("mint_core.testing.installed.judge", lambda *_: [])
    answer = mint("plugin", "check", name)
    assert answer.code == (2 if name == "fyle" else 0)
    assert sentence in answer.out + answer.err
    assert answer.out.count("not applicable") == (4 if name == "file" else 0)


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("teacher", "My Words", "did you mean 'my-words'?"),
        ("teacher", "3d", "begin with a letter"),
        ("teacher", "a" * 31, "30 characters at most"),
        ("aligner", "orpo", "The aligner 'orpo' is there already, of mint-core"),
        ("task", "core", "mint-core is installed already"),
        ("teacher", "teacher", "would be the class Teacher"),
        ("metric", "true", "would be the class True"),
        ("techer", "words", "'techer' is not one of"),
    ],
)
def test_names_that_cannot_be_are_refused_and_nothing_is_written(mint, tmp_path, kind, name, sentence) -> None:
    answer = mint("plugin", "new", kind, name, "--into", tmp_path)
    assert answer.code == 2
    assert sentence in answer.err and len(answer.err.splitlines()) == 1, answer.err
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays_as_it_is(mint, tmp_path: Path) -> None:
    (tmp_path / "mint-words").mkdir()
    (tmp_path / "file").touch()
    answer = mint("plugin", "new", "teacher", "words", "--into", tmp_path)
    assert (answer.code, "is there already" in answer.err) == (2, True)
    answer = mint("plugin", "new", "teacher", "words", "--into", tmp_path / "file")
    assert (answer.code, "is no folder" in answer.err) == (8, True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mint-words"]


def test_an_error_halfway_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    real = project._rendered

    def halfway(facts):
        yield next(real(facts))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(project, "_rendered", halfway)
    with pytest.raises(mint_core.errors.StorageError):
        written("teacher", "words", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_what_it_is_told(mint, tmp_path: Path) -> None:
    """Under pytest there is no terminal, so that nothing is asked."""
    given = ["plugin", "new", "metric", "mint-mrr", "--into", tmp_path / "code", "--licence", "BSD-3-Clause"]
    answer = mint(*given, "--author", 'Ada "L"\nLovelace')
    assert answer.code == 0, answer.err
    folder = tmp_path / "code" / "mint-mrr"
    assert f"cd {folder}" in answer.out and "mint plugin check mint-mrr" in answer.out
    about = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (about["license"], about["authors"]) == ("BSD-3-Clause", [{"name": 'Ada "L" Lovelace'}])
    assert 'Ada "L" Lovelace' in (folder / "LICENSE").read_text(encoding="utf-8").splitlines()[0]
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        ".github/workflows/test.yml", ".gitignore", "LICENSE", "README.md", "mint_mrr/__init__.py",
        "mint_mrr/metric.py", "pyproject.toml", "tests/test_metric.py",
    }  # fmt: skip


def test_copier_makes_the_same_project_and_runs_nothing(tmp_path: Path) -> None:
    template = Path(project.__file__).with_name("template")
    assert not {"_tasks", "_migrations", "_jinja_extensions"} & set(
        re.findall(r"^\w+", (template / "copier.yaml").read_text(encoding="utf-8"), flags=re.M)
    )
    folder = written("task", "other-task", tmp_path / "by mint")
    year = (folder / "LICENSE").read_text(encoding="utf-8").splitlines()[2].split()[2]
    data = {"kind": "task", "name": "other-task", "licence": "MIT", "year": int(year)}
    run_copy(str(template), tmp_path / "by copier", data=data, defaults=True, quiet=True)

    def files(root: Path) -> dict[str, bytes]:
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert files(tmp_path / "by copier") == files(folder)


def test_the_wheel_holds_the_whole_template() -> None:
    """As setuptools finds package data, by patterns that must name hidden files and folders."""
    core = Path(mint_core.__file__).parent
    about = tomllib.loads((core.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = about["tool"]["setuptools"]["package-data"]["mint_core"]
    packed = {Path(path) for pattern in patterns for path in glob(str(core / pattern), recursive=True)}
    template = {path for path in (core / "scaffold" / "template").rglob("*") if path.is_file()}
    assert template <= packed and len(template) > 30


def test_what_the_command_offers_is_what_there_is() -> None:
    command = importlib.import_module("mint_core.cli.plugin")
    assert command._KINDS == KINDS
    assert command._LICENCES == project.LICENCES
    licences = Path(project.__file__).with_name("template") / "licences"
    assert {path.stem for path in licences.iterdir()} == set(project.LICENCES)


def test_the_page_lists_every_clause_and_shows_what_is_written(projects) -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = " ".join(page.split())
    for _, seam in SEAMS.values():
        clauses = clauses_of(seam)
        assert all(listed.count(f"{number}. {text}") == 1 for number, text in clauses.items()), seam
    code = (projects["teacher"] / "mint_own_teacher" / "teacher.py").read_text(encoding="utf-8")
    renamed = code.replace("own-teacher", "my-words").replace("OwnTeacher", "MyWords")
    assert f"```python\n{renamed}```" in page
