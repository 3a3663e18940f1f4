"""Where trials happen: a toy task, a tiny student, three commands, and what a sound result is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from mint_core.files import intact
from tests.robustness.forks import Answer, Forks

TOY = Path(__file__).parents[1] / "toy_plugin.py"
MODULE = "toy_plugin_under_test"
CANARY = "zyxquartz"
"""A word in every patient's text; it must stand nowhere else."""
RUN = ("run", "-c", "mint.yaml", "--quiet")
COMPARE = ("compare", "-c", "compare.yaml", "--quiet")
PREDICT = (
    "predict", "--adapter", "runs/t/adapter", "--input", "notes.jsonl", "--output", "answers.jsonl", "--device", "cpu",
    "--decode", "score", "--quiet",
)  # fmt: skip
COMMANDS = {"run": RUN, "compare": COMPARE, "predict": PREDICT}
DOCUMENTED = frozenset({2, 3, 4, 5, 6, 7, 8, 9, 10})
"""Exit codes that name a cause; 1 is an error that nobody foresaw."""
_VOLATILE = re.compile(r"run\.json|log\.jsonl|report\.html|stages/[a-z]+\.json|(.*/)?\.lock|(.*/)?\..*\.lock")
"""What two runs of one config may differ in: times, sizes of memory, locks."""


@dataclass(eq=False)
class World:
    """A folder with all that trials need.

    Args:
        path: An empty folder.
    """

    path: Path

    def __post_init__(self) -> None:
        from tests.tiny_students import build

        site = self.path / "site"
        site.mkdir()
        (site / f"{MODULE}.py").write_text(TOY.read_text(encoding="utf-8"), encoding="utf-8")
        info = site / "mint_toy-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mint-toy\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mint]\n{MODULE} = {MODULE}\n")
        self.student = build("llama", self.path / "student")
        self.forks = Forks(site)
        self._count = 0
        self._points: dict[str, list[tuple[str, str]]] = {}

    def close(self) -> None:
        """Ends the forking process."""
        self.forks.close()

    # --- trials

    def config(self) -> dict:
        """Of the toy run: 4 training steps with a checkpoint at each, 2 reported samples."""
        return {
            "task": {"name": "toy", "count": 6, "secret": CANARY},
            "student": {"model": str(self.student), "device": "cpu"},
            "out": "runs",
            "name": "t",
            "aligner": {
                "name": "orpo", "epochs": 1, "warmup": 0, "lora_rank": 2, "save_steps": 1, "batch_size": 1,
                "learning_rate": 5e-3,
            },
            "predict": {"batch_size": 1, "max_new_tokens": 12, "decode": "score"},
            "evaluate": {"bootstrap": 100},
            "metrics": ["top-1", "top-n"],
        }  # fmt: skip

    def folder(self, template: Path | None = None) -> Path:
        """A new trial folder with the configs and the new samples.

        Args:
            template: A trial folder to begin from.
        """
        self._count += 1
        folder = self.path / f"trial-{self._count}"
        if template is not None:
            shutil.copytree(template, folder, symlinks=True)
            return folder
        folder.mkdir()
        config = self.config()
        (folder / "mint.yaml").write_text(yaml.safe_dump(config))
        without = {key: value for key, value in config.items() if key != "aligner"}
        rows = [{"name": "base", "aligner": "none"}, {"name": "orpo", "aligner": config["aligner"]}]
        comparison = {**without, "name": "c", "compare": {"rows": rows, "seeds": 1}}
        (folder / "compare.yaml").write_text(yaml.safe_dump(comparison))
        notes = [{"id": f"n{number}", "text": f"{CANARY} of note {number}"} for number in range(3)]
        (folder / "notes.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))
        return folder

    def done(self, folder: Path) -> None:
        """Removes a trial folder."""
        shutil.rmtree(folder, ignore_errors=True)

    # --- what is right

    @cached_property
    def finished(self) -> Path:
        """A trial folder in which all commands ended well, uninterrupted. Nobody changes it."""
        folder = self.folder()
        for name, command in COMMANDS.items():
            answer = self.forks.call(folder, command)
            assert answer.code == 0, f"{name}: {answer.err}"
        return folder

    @cached_property
    def ran(self) -> Path:
        """A trial folder after `mint run` alone."""
        folder = self.folder(self.finished)
        shutil.rmtree(folder / "runs" / "c")
        for file in folder.glob("*answers*"):
            file.unlink()
        return folder

    def start(self, command: str) -> Path:
        """A new trial folder in which a command can be given."""
        return self.folder(self.ran if command == "predict" else None)

    def points(self, command: str) -> list[tuple[str, str]]:
        """What the file layer counts in an uninterrupted command."""
        if command not in self._points:
            self._points[command] = self._counted(command)
        return self._points[command]

    def _counted(self, command: str) -> list[tuple[str, str]]:
        folder = self.start(command)
        answer = self.forks.call(folder, COMMANDS[command], count=True)
        assert answer.code == 0, answer.err
        assert not self.differences(folder, command)
        self.done(folder)
        return answer.points

    def differences(self, folder: Path, command: str) -> list[str]:
        """How a trial's results differ from the uninterrupted ones; empty where they are equal.

        Args:
            folder: The trial folder, after the command has ended well.
            command: run, compare or predict.
        """
        found = []
        for part in {"run": ("runs/t",), "compare": ("runs/c",), "predict": ("answers.jsonl",)}[command]:
            right, mine = _files(self.finished / part), _files(folder / part)
            found += [
                f"{part}/{name} is missing" for name in sorted(set(right) - set(mine)) if not name.endswith("log.jsonl")
            ]
            found += [f"{part}/{name} is left over" for name in sorted(set(mine) - set(right))]
            for name in sorted(set(right) & set(mine)):
                if not _is_volatile(name) and not _equal(right[name], mine[name]):
                    found.append(f"{part}/{name} differs")
        if command != "predict":
            cache = {path.name.split(".")[0] for path in (self.finished / "runs" / ".cache").rglob("*")}
            found += [
                f"{path.relative_to(folder)} is left over"
                for path in (folder / "runs" / ".cache").rglob("*")
                if path.name.split(".")[0] not in cache or path.name.endswith(".tmp")
            ]
        found += half_states(folder)
        return found


def _files(place: Path) -> dict[str, Path]:
    if place.is_file():
        return {".": place}
    return {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}


def _equal(right: Path, mine: Path) -> bool:
    """Equal bytes; in JSON equal content, because the order of keys has no meaning."""
    if right.read_bytes() == mine.read_bytes():
        return True
    try:
        return right.suffix == ".json" and json.loads(right.read_text()) == json.loads(mine.read_text())
    except ValueError:
        return False


def _is_volatile(name: str) -> bool:
    """Whether two runs may differ in a file; a run of a comparison lies one folder deeper."""
    return any(_VOLATILE.fullmatch(one) for one in (name, name.partition("/")[2]))


def half_states(folder: Path) -> list[str]:
    """What a reader could take for complete and is not.

    Args:
        folder: A trial folder, at any time.
    """
    found = []
    for manifest in folder.glob("runs/**/stages/*.json"):
        run = manifest.parent.parent
        try:
            files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        except (ValueError, KeyError, TypeError):
            found.append(f"{manifest.relative_to(folder)} is half-written")
            continue
        if not files or not intact(run, files):
            found.append(f"{manifest.relative_to(folder)} names files that are not as it says")
    for record in folder.glob("runs/*/*.json"):
        if record.name in ("compare.json", "sweep.json", "run.json"):
            try:
                json.loads(record.read_text(encoding="utf-8"))
            except ValueError:
                found.append(f"{record.relative_to(folder)} is half-written")
    answers = folder / "answers.jsonl"
    if answers.exists():
        lines = answers.read_bytes().split(b"\n")
        found += [f"line {number} of answers.jsonl" for number, line in enumerate(lines[:-1], 1) if not _is_json(line)]
    return found


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def is_told(answer: Answer, codes: Sequence[int] | frozenset[int] = DOCUMENTED) -> bool:
    """Whether a command that failed said why: one sentence, a documented exit code, no traceback."""
    return answer.code in codes and answer.told.startswith("mint: ") and not is_a_bug(answer)


def is_a_bug(answer: Answer) -> bool:
    """Whether a command ended in an error that nobody foresaw."""
    return answer.code == 1 or "Traceback (most recent call last)" in answer.err or "Unexpected " in answer.err
