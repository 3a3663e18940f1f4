"""The suite `local`: tasks of mint over JSON lines that the user names, for machines without a hub.

Each task is a YAML file beside this one, in the harness's own form; `metadata.files` names its files by split, and
`metadata.fields` what a line holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mint_core.documents import parse_json, parse_yaml
from mint_core.errors import ConfigError, DataError, did_you_mean
from mint_core.files import read_utf8

_NUMBERS = {"four": 4}


@cache
def local_tasks() -> dict[str, Mapping[str, Any]]:
    """The harness's configs of the local tasks, by name; what takes longest, answers that are written, comes last."""
    folder = files("mint_core.preservation") / "tasks"
    found = [parse_yaml(one.read_text(encoding="utf-8")) for one in folder.iterdir() if one.name.endswith(".yaml")]
    found.sort(key=lambda one: (one["output_type"] == "generate_until", one["task"]))
    return {one["task"]: one for one in found}


def with_data(name: str, data: Sequence[str]) -> dict[str, Any]:
    """A local task's config with what the harness needs to find its items.

    Args:
        name: Key of `local_tasks`.
        data: What the user names: folders that hold the files under their own names, and `FILE_NAME=PATH` for a file
            that has another one, for example `pubmedqa_test=/data/questions.jsonl`.

    Raises:
        ConfigError: Nothing is named, or a name is none of a local task's files.
        DataError: A file is not there, or a line of it is damaged.
    """
    task = deepcopy(dict(local_tasks()[name]))
    about = task.pop("metadata")
    splits = {split: _read(_place(name, file, data), about["fields"]) for split, file in about["files"].items()}
    if "process_results" in task:
        task["process_results"] = correct_share
    return {**task, "custom_dataset": _Splits(splits)}


class _Splits:
    """Items by split, as the harness asks for them.

    Args:
        splits: One mapping per item.
    """

    def __init__(self, splits: Mapping[str, list[dict[str, Any]]]) -> None:
        self.splits = splits

    def __call__(self, **_: Any) -> Any:
        """The data set, which lies in memory: nothing is written into a cache of the home folder."""
        from datasets import Dataset, DatasetDict

        return DatasetDict({split: Dataset.from_list(items) for split, items in self.splits.items()})

    def __deepcopy__(self, memo: Any) -> _Splits:
        """The harness copies its configs; the items are never changed."""
        return self


def correct_share(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """The probability of the correct answers, divided by that of all (TruthfulQA's MC2, Lin et al. 2022).

    Args:
        doc: An item; its correct answers come first.
        results: Log-likelihood of every answer, and whether it is the likeliest text at all.
    """
    logs = [log for log, _ in results]
    highest = max(logs)
    weights = [math.exp(log - highest) for log in logs]
    return {"acc": sum(weights[: len(doc["correct_answers"])]) / sum(weights)}


def _place(task: str, file: str, data: Sequence[str]) -> Path:
    known = {Path(name).stem for one in local_tasks().values() for name in one["metadata"]["files"].values()}
    folders = []
    for given in data:
        name, equals, path = given.partition("=")
        if equals and not Path(given).exists():
            if name not in known:
                raise ConfigError(f"--data {given}: '{name}' is no file of a local task{did_you_mean(name, known)}.")
            if name == Path(file).stem:
                return Path(path)
        else:
            folders.append(Path(given))
    if not folders:
        raise ConfigError(f"The task {task} needs {file}; name the folder that holds it with --data FOLDER.")
    found = [folder / file for folder in folders if (folder / file).exists()]
    if not found:
        raise DataError(
            f"The task {task} needs {file}, which is not in {', '.join(map(str, folders))}; put it there, name it with "
            f"--data {Path(file).stem}=PATH, or choose other tasks with --suite."
        )
    return found[0]


def _read(path: Path, fields: Mapping[str, str]) -> list[dict[str, Any]]:
    """The items of a file, one JSON object per line, with the fields that the task reads."""
    try:
        lines = read_utf8(path).split("\n")  # not splitlines: a text may hold any other line separator
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; copy the file again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path.") from None
    items = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = parse_json(line)
        except ValueError:
            raise DataError(f"Line {number} of {path} is no JSON; copy the file again.") from None
        wrong = next((f for f, kind in fields.items() if not isinstance(item, dict) or not _fits(item, f, kind)), None)
        if wrong is not None:
            raise DataError(f"Line {number} of {path}: `{wrong}` must be {_ARTICLE.get(fields[wrong], fields[wrong])}.")
        items.append({field: item[field] for field in fields})
    if not items:
        raise DataError(f"{path} holds no item; copy the file again.")
    return items


_ARTICLE = {"text": "a text", "texts": "a list of texts", "four texts": "a list of four texts"}


def _fits(item: Mapping[str, Any], field: str, kind: str) -> bool:
    value = item.get(field)
    if kind == "text":
        return isinstance(value, str)
    if kind.endswith("texts"):
        count = _NUMBERS.get(kind.partition(" ")[0])
        if not isinstance(value, list) or len(value) != (count or max(len(value), 1)):
            return False
        return all(isinstance(one, str) and one for one in value)
    if kind.startswith("position of "):
        choices = item.get(kind.removeprefix("position of "))
        return type(value) is int and isinstance(choices, list) and 0 <= value < len(choices)
    return value in re.split(r", | or ", kind)
