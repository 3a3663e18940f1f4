"""Who predicts what: the task, its labels and its student, from an adapter's folder or from a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from mint_core.answering.engine import Asking
from mint_core.answering.record import AdapterRecord, read_record, what_changed
from mint_core.cautions import of_adapter
from mint_core.config import (
    Configured,
    PredictConfig,
    RetrievalConfig,
    StudentConfig,
    check_engine,
    check_fit,
    check_read,
    check_retrieval,
    configured,
    embedded_student,
    is_embedded,
    merge,
    resolve,
    validated,
)
from mint_core.errors import ConfigError, ModelError
from mint_core.interfaces import Context, Task
from mint_core.plugins import registry
from mint_core.students.adapter_files import RECORD
from mint_core.students.load import resolve_device
from mint_core.types import LabelSpace

_LAYERS = ("task", "student", "predict", "retriever", "retrieval")


@dataclass(frozen=True, slots=True)
class Setting:
    """The task with everything that a prediction needs of it."""

    task: Task
    labels: LabelSpace
    n: int
    """Labels that the prompt asks for (N)."""
    predict: PredictConfig
    cache: Path
    """Where a retriever's index is kept."""
    listed: int
    """Labels per prediction; more than N only where labels are scored and somebody wants to see more."""
    simulated: bool = False
    """The adapter was trained on simulated data."""
    quick: bool = False
    """A quick run made the adapter."""
    adapter: Path | None = None
    student: StudentConfig | None = None
    """Whom the adapter was trained on; None without an adapter."""
    trained_on: str = ""
    """Fingerprint of that student."""
    retriever: Configured | None = None
    """What puts passages into the prompt."""
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    """How what it finds is used."""
    taught: frozenset[str] | None = None
    """The labels that the adapter's training taught; None where nobody said."""
    changed: str = ""
    """One sentence on files of the adapter that are not as its training left them."""

    @property
    def student_path(self) -> str | None:
        """Folder of the embedded student, where it is used."""
        embedded = embedded_student(self.student.model, self.task, registry()) if self.student else None
        return str(embedded.path) if embedded else None

    @property
    def cautions(self) -> list[str]:
        """What must be known of the adapter, see `mint_core.cautions.of_adapter`."""
        return of_adapter(simulated=self.simulated, quick=self.quick)

    @property
    def asking(self) -> Asking:
        """What is the same for all questions."""
        return Asking(self.labels, self.task.header, self.n, self.listed, self.predict, ordered=True)


def from_adapter(
    adapter: Path,
    user: Mapping[str, Any],
    place: Path,
    out: Path,
    top: int | None,
    *,
    allow_changed: bool = False,
) -> Setting:
    """What `mint.json` says, changed where the user wants it.

    Args:
        adapter: An adapter's folder.
        user: Options of the sections that a user may change, nested as in YAML; they win.
        place: File or folder of the new samples, which stands in for the training data's.
        out: Folder of the runs, in whose cache a retriever's index is kept.
        top: Labels per prediction; None = N.
        allow_changed: Use files that are not as the training left them.

    Raises:
        ModelError: The folder is no adapter of mint, its files were changed, or its task or student is not here.
        ConfigError: An option is wrong, or the device or a file of the retriever is not here.
    """
    record = read_record(adapter)
    user = merge(user)
    for key in user:
        if key not in _LAYERS:
            raise ConfigError(f"With --adapter, --set takes {', '.join(_LAYERS)}, not '{key}'.")
    task = _task(adapter, record, user.get("task", {}), place)
    wanted = user.get("retriever")
    retriever = None if wanted is None else _retriever(wanted, task)
    taught = None if record.taught is None else frozenset(record.taught)
    predict = _predict(user, record)
    changed = what_changed(adapter, record, weights=predict.engine != "endpoint")
    n = task.n_listed(len(record.labels), record.n)
    student = _student(adapter, record, user.get("student", {}))
    if predict.engine == "transformers" and student.device != "auto":
        resolve_device(student.device)
    setting = Setting(
        task=task,
        labels=LabelSpace(record.labels, record.aliases),
        n=n,
        predict=predict,
        cache=out / ".cache",
        listed=min(top or n, len(record.labels)),
        simulated=record.simulated,
        quick=record.quick,
        adapter=adapter,
        student=student,
        trained_on=record.student.fingerprint,
        retriever=retriever,
        retrieval=_retrieval(user.get("retrieval", {}), retriever, taught, adapter, predict),
        taught=taught,
        changed=changed,
    )
    if changed and not allow_changed:
        raise ModelError(
            f"{changed}; copy the adapter/ folder of its run again, or use what is there with --allow-changed."
        )
    return setting


def _retriever(wanted: Mapping[str, Any], task: Task) -> Configured:
    """The retriever, refused where it does not serve the task or its files are not there."""
    found = configured("retriever", wanted, registry())
    check_fit(found.registered, registry().get("task", task.name), registry())
    check_read(found.registered, task)
    found.check_files()
    return found


def _predict(user: Mapping[str, Any], record: AdapterRecord | None = None) -> PredictConfig:
    """How is answered; an embedded student that was aligned on somebody's own labels decodes as its run did."""
    config = validated(PredictConfig, user.get("predict", {}), "predict")
    own = (
        record is not None
        and is_embedded(user.get("student", {}).get("model", record.student.model))
        and not record.simulated
    )
    if own and config.engine == "transformers" and "decode" not in config.model_fields_set:
        config = config.model_copy(update={"decode": "constrained"})
    check_engine(config, aligned=False)
    if config.shots:
        raise ConfigError("predict.shots=1 shows a solved training sample, and `mint predict` has none; leave it out.")
    return config


def _retrieval(
    user: Mapping[str, Any],
    retriever: Configured | None,
    taught: frozenset[str] | None,
    adapter: Path,
    predict: PredictConfig,
) -> RetrievalConfig:
    """How the retriever is used, refused where that cannot be."""
    config = validated(RetrievalConfig, user, "retrieval")
    if config.train:
        raise ConfigError("`mint predict` trains nothing; retrieval.train is for a run.")
    check_retrieval(config, predict, retriever)
    if config.fuse == "none":
        return config
    if config.fuse == "weighted" and config.weight is None:
        raise ConfigError(
            "--fuse weighted needs the retriever's weight, which `mint run --fuse weighted` fits and writes into its "
            "metrics.json; give it with --set retrieval.weight=W."
        )
    if taught is None:
        raise ModelError(
            f"{adapter / RECORD} does not say which labels its training taught, since an older mint wrote it; leave "
            "--fuse out, or move the folder away and give the `mint run` command again, which trains the adapter anew."
        )
    return config


def _task(adapter: Path, record: AdapterRecord, user: Mapping[str, Any], place: Path) -> Task:
    if user.get("name", record.task.name) != record.task.name:
        raise ConfigError(f"The adapter was trained for the task '{record.task.name}'; leave --task out.")
    try:
        registry().get("task", record.task.name)
    except ConfigError as error:
        raise ModelError(f"The adapter's task is not here; install {record.task.distribution}. {error}") from None
    choice = {**record.task.config, "data": str(place), **user, "name": record.task.name}
    known = Context(labels=LabelSpace(record.labels, record.aliases))  # so that new texts are worded as in training
    task = cast(Task, configured("task", choice, registry(), _made_by(adapter)).make(known))
    if (task.header, task.modality) != (record.header, record.modality):
        raise ModelError(
            f"The task '{task.name}' has changed since the adapter in {adapter} was trained (version "
            f"{record.task.version} then, {task.version} now); install the {record.task.distribution} of that time."
        )
    return task


def _student(adapter: Path, record: AdapterRecord, user: Mapping[str, Any]) -> StudentConfig:
    about = {"fingerprint", "gguf"}  # what the record says beside the options
    known = record.student.model_dump(exclude=about, exclude_none=True)
    if user.get("model", known["model"]) != known["model"]:
        known = {key: value for key, value in known.items() if key not in StudentConfig.of_one_model}
    elif Path(known["model"]).is_absolute() and not Path(known["model"]).exists():
        raise ModelError(
            f"The adapter was trained on the student in {known['model']}, which is not here; name the student's folder "
            "or hub id with --student."
        )
    return validated(StudentConfig, {**known, **user}, "the student", _made_by(adapter))


def _made_by(adapter: Path) -> str:
    """What to do where options of `mint.json` are not understood."""
    return f", or install the version of the plugin that the adapter in {adapter} was made with"


def from_config(layer: Mapping[str, Any], out: Path) -> Setting:
    """Task and labels of the user's config, for a model on a server that needs no adapter.

    Raises:
        MintError: The config is wrong, or its data cannot be read.
    """
    resolved = resolve(merge(layer, {"aligner": None}), registry())
    task = cast(Task, resolved.task.make())
    labels = task.load().labels
    n = task.n_listed(len(labels))
    return Setting(task, labels, n, _predict(layer), out / ".cache", n)
