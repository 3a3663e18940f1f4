"""Every command of examples/ is given, on a few samples: plugins installed, batch scripts made, notebooks executed.

And Python of the docs that needs a finished run, because here is one.
"""

import importlib
import json
import os
import re
import runpy
import shlex
import sys
import tomllib
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import yaml

import mint_core
from mint_core.comparison.rows import parse_ratios, parse_row
from mint_core.plugins import registry
from tests.test_documented_commands import OF_A_RUN, code_lines, fenced
from tests.tiny_students import build

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
FOLDERS = sorted(folder.name for folder in EXAMPLES.iterdir() if (folder / "README.md").exists())
SMALL = {
    "quickstart": ["--student", "llava"],
    "pathology": ["--student", "llava"],
    "rare_disease": ["--student", "llama", "--set", "task.diseases=6", "--set", "teacher.epochs=1"],
    "own_task": ["--student", "llama"],
    "own_teacher": ["--student", "llava", "--until", "prefer"],
    "own_aligner": ["--student", "llava"],
    "slurm": [],
}
"""What makes an example's run tiny, beside `--quick`: a student of a few thousand weights."""


def commands(folder: str) -> list[str]:
    """The command lines of an example's README."""
    lines = code_lines((EXAMPLES / folder / "README.md").read_text(encoding="utf-8"))
    return [line for _, line in lines if line]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the commands are given, as if it were the repository; the example plugins are installed."""
    root = tmp_path_factory.mktemp("examples")
    (root / "examples").symlink_to(EXAMPLES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        modules = []
        for file in EXAMPLES.glob("*/pyproject.toml"):
            project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
            info = root / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
            points = project["entry-points"]["mint"]
            (info / "entry_points.txt").write_text("[mint]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
            patch.syspath_prepend(str(file.parent))
            modules += points.values()
        patch.syspath_prepend(str(root / "site"))
        importlib.invalidate_caches()
        registry.cache_clear()
        assert len(modules) >= 2 and not registry().broken
        yield root
    registry.cache_clear()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("students")
    return {family: str(build(family, root / family)) for family in ("llama", "llava")}


@pytest.mark.filterwarnings("ignore:The number of unique classes:UserWarning")  # of scikit-learn, for 24 patches
@pytest.mark.parametrize("folder", SMALL)
def test_every_command_of_an_example_works(folder: str, place: Path, tiny, mint, monkeypatch, capsys) -> None:
    given = [shlex.split(line)[1:] for line in commands(folder) if line.startswith("mint ")]
    assert given
    for words in given:
        if words[0] in ("run", "compare"):
            words += ["--quick", *(tiny.get(word, word) for word in SMALL[folder])]
        if words[0] == "compare":
            words += ["--name", folder]
        answer = mint(*words)
        assert answer.code == 0, answer.err
        if words[0] == "run":
            (path,) = re.findall(r"^run: (.+)$", answer.out + answer.err, re.M)
            assert json.loads(Path(path, "run.json").read_text())["status"].startswith("complete")
    if folder == "quickstart":
        monkeypatch.setattr(mint_core, "run", partial(mint_core.run, student=tiny["llava"]))
        runpy.run_path(str(EXAMPLES / folder / "quickstart.py"))
        assert re.search(r"^aligned .*'top-1': '[0-9.]+ %'", capsys.readouterr().out, re.M)
    if folder == "own_teacher":
        assert json.loads(Path(path, "rankings", "teacher.json").read_text())["top_1"]["test"]["top_1"] >= 0.25
    if folder == "own_aligner":
        rows = [row["name"] for row in json.loads(Path("runs", folder, "compare.json").read_text())["rows"]]
        assert rows[:2] == ["orpo", "squared-gap"]


def test_the_list_of_examples_is_whole(place: Path) -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| \[([^\]]+)\].*\| `([^`]+)` \|$", page, re.M))
    assert sorted(listed) == FOLDERS
    assert all(command in commands(folder) for folder, command in listed.items())


@pytest.fixture(scope="module")
def scored(place: Path, tiny) -> str:
    """A finished run of the pathology example under a name of its own; what it shares with others is computed once."""
    config = yaml.safe_load((EXAMPLES / "pathology" / "mint.yaml").read_text(encoding="utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of scikit-learn, for 24 patches
        mint_core.run({**config, "quick": True, "student": {"model": tiny["llava"]}, "name": "scored"})
    return "runs/scored"


@pytest.mark.parametrize("page", sorted(OF_A_RUN))
def test_python_that_needs_a_run_works(page: str, place: Path, tiny, scored: str, mint, monkeypatch) -> None:
    small = {"quick": True, "student": {"model": tiny["llava"]}}
    made = {name: getattr(mint_core, name) for name in ("run", "compare", "sweep")}

    def run(*, seed: int, **given: object) -> object:  # seed 0, as other runs here, whose stages are taken over
        return made["run"]({"seed": 0 * seed, **small}, **given)

    def compare(config: dict, *, rows: list[str], **given: object) -> object:
        assert [parse_row(row).name for row in rows] == ["soft"]  # one more training, which would show nothing more
        return made["compare"]({**config, **small}, **{**given, "seeds": 1})

    def sweep(config: dict, *, aor: list[str], **given: object) -> object:
        assert [row.name for row in parse_ratios(aor)] == ["5/5", "5/8"]
        return made["sweep"]({**config, **small}, aor=aor[:1], **given)

    for function in (run, compare, sweep):
        monkeypatch.setattr(mint_core, function.__name__, function)
    folder = Path(page).stem
    if folder == "aligners":
        assert mint("export", scored, "--to", "trl", "--out", folder).code == 0
    trained: list[dict] = []
    trl = SimpleNamespace(DPOTrainer=lambda **given: trained.append(given))  # mint_trl's own tests train
    blocks = [block for block in fenced("python") if block.page == page]
    assert blocks
    for block in blocks:
        code = block.text.replace("runs/NAME", scored).replace("FOLDER", folder)
        exec(code, {"datasets": datasets, "trl": trl})  # noqa: S102
    if folder == "report":
        assert Path(folder, "config.json").exists()
    if folder == "aligners":
        assert {"prompt", "chosen", "rejected", "images"} == set(trained[0]["train_dataset"].column_names)


def test_the_notebooks_run_from_top_to_bottom(place: Path, tiny) -> None:
    """One after the other in one kernel: the second reads the run that the first makes, with a tiny student."""
    nbformat = pytest.importorskip("nbformat", reason="executing notebooks needs nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="executing notebooks needs nbclient and ipykernel")
    books = {path.stem: nbformat.read(path, as_version=4) for path in (EXAMPLES / "notebooks").glob("*.ipynb")}
    assert sorted(books) == ["quickstart", "reading_a_run"]
    for book in books.values():
        nbformat.validate(book)
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in book.cells)  # kept without
    student = (
        f"import functools, mint_core\nmint_core.run = functools.partial(mint_core.run, student={tiny['llava']!r})"
    )
    first = nbformat.v4.new_code_cell(student)
    both = nbformat.v4.new_notebook(cells=[first, *books["quickstart"].cells, *books["reading_a_run"].cells])
    client = nbclient.NotebookClient(both, timeout=240, resources={"metadata": {"path": str(place)}})
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    shown = json.dumps(both.cells)
    assert "aligned" in shown and "'label', 'prefer', 'align'" in shown
