"""Who predicts what: the task, its labels and its student, from an adapter's folder or from a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from mint_core.answering.record import NAME, AdapterRecord, read_record
from mint_core.config import EMBEDDED, RetrievalConfig, StudentConfig, merge, resolve
from mint_core.errors import ConfigError, ModelError
from mint_core.interfaces import Retriever, Task
from mint_core.plugins import registry
from mint_core.types import LabelSpace

M = TypeVar("M", bound=BaseModel)
_LAYERS = ("task", "student", "predict", "retriever", "retrieval")
_OF_ONE_MODEL = ("revision", "trust_remote_code")


@dataclass(frozen=True, slots=True)
class Setting:
    """The task with everything that a prediction needs of it."""

    task: Task
    labels: LabelSpace
    n: int
    """Labels that the prompt asks for (N)."""
    simulated: bool = False
    """The adapter was trained on simulated data."""
    adapter: Path | None = None
    student: StudentConfig | None = None
    """Whom the adapter was trained on; None without an adapter."""
    trained_on: str = ""
    """Fingerprint of that student."""
    retriever: Retriever | None = None
    """What puts passages into the prompt; not built yet."""
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    """How what it finds is used."""
    taught: frozenset[str] | None = None
    """The labels that the adapter's training taught; None where nobody said."""
    predict: Mapping[str, Any] = field(default_factory=dict)
    """The user's options of the section `predict`."""

    @property
    def student_path(self) -> str | None:
        """Folder of the embedded student, where it is used."""
        embedded = self.task.embedded_student() if self.student and self.student.model == EMBEDDED else None
        return str(embedded.path) if embedded else None


def from_adapter(adapter: Path, user: Mapping[str, Any], place: Path) -> Setting:
    """What `mint.json` says, changed where the user wants it.

    Args:
        adapter: An adapter's folder.
        user: Options of the sections that a user may change, nested as in YAML; they win.
        place: File or folder of the new samples, which stands in for the training data's.

    Raises:
        ModelError: The folder is no adapter of mint, or its task or student is not here.
        ConfigError: An option is wrong.
    """
    record = read_record(adapter)
    user = merge(user)
    for key in user:
        if key not in _LAYERS:
            raise ConfigError(f"With --adapter, --set takes {', '.join(_LAYERS)}, not '{key}'.")
    task = _task(adapter, record, user.get("task", {}), place)
    retriever = _retriever(user)
    taught = None if record.taught is None else frozenset(record.taught)
    retrieval = _retrieval(user.get("retrieval", {}), retriever, taught, adapter)
    n = task.config.n or record.n
    if n > len(record.labels):
        raise ConfigError(f"task.n={n} is larger than the label space ({len(record.labels)} labels).")
    return Setting(
        task=task,
        labels=record.label_space,
        n=n,
        simulated=record.simulated,
        adapter=adapter,
        student=_student(adapter, record, user.get("student", {})),
        trained_on=record.student.fingerprint,
        retriever=retriever,
        retrieval=retrieval,
        taught=taught,
        predict=user.get("predict", {}),
    )


def _retriever(user: Mapping[str, Any]) -> Retriever | None:
    wanted = user.get("retriever")
    if wanted is None:
        return None
    name = wanted.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"Which retriever? Name one with --retriever: {', '.join(registry().names('retriever'))}.")
    component = registry().get("retriever", name).component
    options = {key: value for key, value in wanted.items() if key != "name"}
    return cast(Retriever, component(valid(component.Config, options, f"retriever '{name}'")))


def _retrieval(
    user: Mapping[str, Any], retriever: Retriever | None, taught: frozenset[str] | None, adapter: Path
) -> RetrievalConfig:
    """How the retriever is used, refused where that cannot be."""
    config = valid(RetrievalConfig, user, "retrieval")
    if config.train:
        raise ConfigError("`mint predict` trains nothing; retrieval.train is for a run.")
    if config.fuse == "none":
        return config
    if retriever is None:
        raise ConfigError("--fuse combines the student's ranking with a retriever's; name one with --retriever.")
    if type(retriever).label_scores is Retriever.label_scores:
        raise ConfigError(f"The retriever '{retriever.name}' ranks no labels, so that nothing can be fused.")
    if config.fuse == "weighted" and config.weight is None:
        raise ConfigError(
            "--fuse weighted needs the retriever's weight, which `mint run --fuse weighted` fits and writes into its "
            "metrics.json; give it with --set retrieval.weight=W."
        )
    if taught is None:
        raise ModelError(
            f"{adapter / NAME} does not say which labels its training taught, since an older mint wrote it; leave "
            "--fuse out, or move the folder away and give the `mint run` command again, which trains the adapter anew."
        )
    return config


def _task(adapter: Path, record: AdapterRecord, user: Mapping[str, Any], place: Path) -> Task:
    if user.get("name", record.task.name) != record.task.name:
        raise ConfigError(f"The adapter was trained for the task '{record.task.name}'; leave --task out.")
    try:
        component = registry().get("task", record.task.name).component
    except ConfigError as error:
        raise ModelError(f"The adapter's task is not here; install {record.task.distribution}. {error}") from None
    options = {**record.task.config, "data": str(place), **{key: value for key, value in user.items() if key != "name"}}
    config = valid(component.Config, options, f"task '{record.task.name}'", _made_by(adapter))
    task = cast(Task, component(config))
    if (task.header, task.modality) != (record.header, record.modality):
        raise ModelError(
            f"The task '{task.name}' has changed since the adapter in {adapter} was trained (version "
            f"{record.task.version} then, {task.version} now); install the {record.task.distribution} of that time."
        )
    return task


def _student(adapter: Path, record: AdapterRecord, user: Mapping[str, Any]) -> StudentConfig:
    known = record.student.model_dump(include={"model", "revision", "dtype", "attention"})
    if user.get("model", known["model"]) != known["model"]:
        known = {key: value for key, value in known.items() if key not in _OF_ONE_MODEL}
    elif Path(known["model"]).is_absolute() and not Path(known["model"]).exists():
        raise ModelError(
            f"The adapter was trained on the student in {known['model']}, which is not here; name the student's folder "
            "or hub id with --student."
        )
    return valid(StudentConfig, {**known, **user}, "the student", _made_by(adapter))


def _made_by(adapter: Path) -> str:
    """What to do where options of `mint.json` are not understood."""
    return f", or install the version of the plugin that the adapter in {adapter} was made with"


def valid(model: type[M], options: Mapping[str, Any], what: str, otherwise: str = "") -> M:
    """A config of options.

    Args:
        model: Its class.
        options: As the user and `mint.json` give them.
        what: For messages.
        otherwise: What else the user may do than to change an option.

    Raises:
        ConfigError: An option is wrong.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{what}: {place}: {first['msg']}; mend it with --set{otherwise}.") from None


def from_config(layer: Mapping[str, Any]) -> Setting:
    """Task and labels of a config, for a model that needs no adapter.

    Args:
        layer: The user's config.

    Raises:
        MintError: The config is wrong, or its data cannot be read.
    """
    nobody = {"student": {"model": "endpoint"}}  # a task without an embedded student would ask for one
    chosen = resolve(merge(nobody, layer), registry()).task
    task = cast(Task, chosen.registered.component(chosen.config))
    labels = task.load().labels
    n: int = chosen.config.n or task.list_length(len(labels))
    return Setting(task, labels, min(n, len(labels)))
