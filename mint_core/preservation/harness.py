"""The one file that knows lm-evaluation-harness: from a task's name to a value for every item.

Its own paths are used as they are: it writes the prompts, asks the model, and judges the answers.
"""

from __future__ import annotations

import difflib
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mint_core.errors import ConfigError, DataError, MintError, ModelError
from mint_core.faults import explained
from mint_core.files import digest_of
from mint_core.interfaces import Student
from mint_core.preservation.local import local_tasks, with_data
from mint_core.preservation.wanted import SEED_BENCH, Wanted, task_names

_SEED = 1234
"""Draws the solved examples; the harness's own default."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_OFFLINE = (
    "ConnectionError",
    "OfflineModeIsEnabled",
    "LocalEntryNotFoundError",
    "DatasetNotFoundError",
    "HfHubHTTPError",
)
"""Names of what is raised where a hub cannot be reached."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One task of the harness, ready to be asked."""

    name: str
    row: str
    """The name that the user gave: a group's, or its own."""
    task: Any = field(repr=False)
    shots: int
    total: int
    """Items that the task has."""
    asked: int
    """Those of them that are asked."""
    metrics: tuple[str, ...]
    """Metrics that are means over items."""
    lower_is_better: tuple[str, ...]
    identity: str
    """Digest of all that is asked and how it is judged."""


@dataclass(frozen=True, slots=True)
class Values:
    """What one model scored, item by item."""

    items: tuple[str, ...]
    """Digest of each item: the same prompt and answer have the same one."""
    metrics: Mapping[str, tuple[float | None, ...]]


def harness_version() -> str:
    """Version of the harness.

    Raises:
        ConfigError: It is not installed.
    """
    if find_spec("lm_eval") is None:
        raise ConfigError(
            "`mint preserve` needs lm-evaluation-harness, which is not installed here; `pip install "
            "'mint-core[preserve]'`."
        )
    return version("lm_eval")


def load_tasks(wanted: Wanted) -> list[Asked]:
    """All tasks of a wish, their data loaded, in order; of a group each of its tasks.

    Raises:
        ConfigError: The harness is not installed or knows no task of that name, or the task cannot be used.
        DataError: The data are not there, damaged, or on a hub that cannot be reached.
    """
    harness_version()
    for folder in wanted.include_path:
        if not Path(folder).is_dir():
            raise ConfigError(f"--include-path {folder} is no folder; name the one that holds the tasks' YAML files.")
    found: dict[str, Asked] = {}
    with _seeded():
        for name, shots in task_names(wanted.suite).items():
            for task in _load(name, wanted):
                asked = _prepared(task, name, wanted, shots if wanted.shots is None else wanted.shots)
                if asked.name in found:
                    first = found[asked.name].row
                    raise ConfigError(f"The task {asked.name} is named twice, by {first} and by {name}; leave one out.")
                found[asked.name] = asked
    return list(found.values())


@contextmanager
def _seeded() -> Iterator[None]:
    """Tasks that shuffle what they ask do so in the same way each time; the process's own dice are as before."""
    before = (random.getstate(), np.random.get_state())
    random.seed(_SEED)
    np.random.seed(_SEED)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


class Model:
    """A student as the harness asks it; with an adapter it answers with and without.

    Args:
        student: The student; an adapter is on it already, or there is none.
        batch_size: Prompts per batch.
    """

    def __init__(self, student: Student, batch_size: int) -> None:
        from lm_eval.models.huggingface import HFLM

        self.student = student
        self._model = HFLM(
            pretrained=student.model, tokenizer=student.tokenizer, batch_size=batch_size, backend="causal"
        )

    def ask(self, asked: Asked, wanted: Wanted, *, adapter: bool) -> Values:
        """The value of every item.

        Args:
            asked: The task.
            wanted: How many items.
            adapter: Whether the adapter answers, where there is one.

        Raises:
            ModelError: The harness cannot ask this student.
        """
        from lm_eval.evaluator import evaluate

        drawn = _drawn(asked.task, wanted.limit)
        asked.task.set_fewshot_seed(_SEED)
        with self._answering(adapter=adapter), _told(asked.name, asking=True):
            judged = evaluate(
                lm=self._model,
                task_dict={"tasks": {asked.name: asked.task}},
                samples=drawn and {asked.name: drawn},
                bootstrap_iters=0,
                log_samples=True,
            )
        return _values(judged["samples"][asked.name], asked.metrics)

    @contextmanager
    def _answering(self, *, adapter: bool) -> Iterator[None]:
        if adapter or not hasattr(self.student.model, "disable_adapter"):
            yield
            return
        with self.student.model.disable_adapter():
            yield


def _load(name: str, wanted: Wanted) -> list[Any]:
    """The harness's tasks of one name."""
    from lm_eval.api.task import ConfigurableTask

    if name in local_tasks():
        config = with_data(name, wanted.data)
        with _told(name):
            return [ConfigurableTask(config=config)]
    if name == SEED_BENCH:
        raise ConfigError(_no_seed_bench())
    manager = _manager(wanted.include_path, defaults=False)
    if name not in manager.all_tasks:
        manager = _manager(wanted.include_path, defaults=True)
    if name not in manager.all_tasks:
        near = difflib.get_close_matches(name, [*local_tasks(), "local", "h6", *manager.all_tasks], n=1, cutoff=0.6)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise ConfigError(
            f"lm_eval {harness_version()} knows no task '{name}'{hint} `python -m lm_eval ls tasks` lists them; tasks "
            "of your own come with --include-path."
        )
    with _told(name, manager.task_index[name]):
        return list(manager.load([name])["tasks"].values())


@cache
def _manager(include: tuple[str, ...], *, defaults: bool) -> Any:
    """The harness's list of tasks, which takes seconds to read; its own code runs only when a task is loaded."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=list(include), include_defaults=defaults)


def _no_seed_bench() -> str:
    other = (
        "lmms-eval, which is installed here, has one for its own program (`python -m lmms_eval --tasks seedbench`)"
        if find_spec("lmms_eval")
        else "lmms-eval has one, and is not installed here"
    )
    return (
        f"Nothing was run: lm_eval {harness_version()} has no task for SEED-Bench, and {other}; mint asks the tasks of "
        "the harness, and in text alone."
    )


def _prepared(task: Any, row: str, wanted: Wanted, shots: int | None) -> Asked:
    """A task with its number of solved examples, and the digest of what it asks."""
    name = str(task.task_name)
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError(f"The task {name} shows images or plays sound, and `mint preserve` asks in text alone.")
    if getattr(task, "UNSAFE_CODE", False):
        raise ConfigError(f"The task {name} runs code that the student writes, which `mint preserve` does not do.")
    if shots is not None and task.get_config("num_fewshot") != 0:  # a task's own 0 stands, as in the harness
        task.set_config(key="num_fewshot", value=shots)
    elif task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    means = [key for key, how in task.aggregation().items() if getattr(how, "__name__", "") == "mean"]
    if not means:
        raise ConfigError(
            f"The task {name} has no metric that is a mean over items, so that nothing can be compared item by item."
        )
    task.set_fewshot_seed(_SEED)
    with _told(name):
        task.build_all_requests(samples=_drawn(task, wanted.limit))
        requests = [[one.doc_id, one.request_type, one.args] for one in task.instances]
        config = _ADDRESS.sub("", json.dumps(task.dump_config(), sort_keys=True, default=str))
    better = task.higher_is_better()
    return Asked(
        name=name,
        row=row,
        task=task,
        shots=int(task.get_config("num_fewshot")),
        total=len(task.eval_docs),
        asked=len({one.doc_id for one in task.instances}),
        metrics=tuple(means),
        lower_is_better=tuple(key for key in means if not better.get(key, True)),
        identity=digest_of([requests, config, _code(wanted.include_path)]),
    )


def _drawn(task: Any, limit: int | None) -> list[int] | None:
    """Places of the items that are asked, the same for every student; None = all.

    The first items of a file are no sample of it: it may be sorted by its answers.
    """
    total = len(task.eval_docs)
    if limit is None or limit >= total:
        return None
    return sorted(np.random.default_rng(_SEED).choice(total, limit, replace=False).tolist())


def _code(folders: Sequence[str]) -> list[str]:
    """Digest of the tasks' own code and configs: a function of theirs may call another one."""
    found = [path for folder in folders for kind in ("*.py", "*.yaml") for path in sorted(Path(folder).rglob(kind))]
    return [digest_of(path.read_bytes().hex()) for path in found]


def _values(samples: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> Values:
    """The values item by item; where answers are filtered in several ways, each has metrics of its own."""
    filters = list(dict.fromkeys(one["filter"] for one in samples))
    values: dict[str, tuple[float | None, ...]] = {}
    items: tuple[str, ...] = ()
    for chosen in filters:
        own = sorted((one for one in samples if one["filter"] == chosen), key=lambda one: int(one["doc_id"]))
        items = tuple(digest_of([one["doc_hash"], one["prompt_hash"], one["target_hash"]]) for one in own)
        for metric in metrics:
            scores = [_number(one.get(metric)) for one in own]
            if any(score is not None for score in scores):
                values[metric if len(filters) == 1 else f"{metric}, {chosen}"] = tuple(scores)
    return Values(items, values)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


@contextmanager
def _told(name: str, entry: Any = None, *, asking: bool = False) -> Iterator[None]:
    """Tells as one sentence what the harness, or a task's own code, raises; it may quote items, so only its kind is.

    Raises:
        DataError: The data cannot be had.
        ConfigError: The task cannot be used.
        ModelError: `asking`, and the harness cannot ask the student.
    """
    try:
        yield
    except MintError:
        raise
    except Exception as error:
        told = explained(error)
        if told is not None:
            raise told from error
        chain = [error, error.__cause__, error.__context__]
        if any(type(one).__name__ in _OFFLINE for one in chain):
            where = (getattr(entry, "cfg", None) or {}).get("dataset_path")
            what = f"`hf download --repo-type dataset {where}`" if where else "the task once"
            raise DataError(
                f"The data of the task {name} are not in the local hub cache, and the hub cannot be reached; run "
                f"{what} where there is a network, or use --suite local with --data."
            ) from error
        kind = type(error).__name__
        raise (ModelError if asking else ConfigError)(
            f"The task {name} cannot be run ({kind} in the harness or in the task's own code); check the task, or give "
            "the command with --debug."
        ) from error
