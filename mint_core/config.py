"""One config: a YAML file, `--set a.b=c` overrides and flags, resolved against the installed components."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import yaml
from pydantic import BaseModel, Field, ValidationError

from mint_core.errors import ConfigError, did_you_mean
from mint_core.interfaces import ComponentConfig, Retriever, Task
from mint_core.plugins import Registered, Registry

M = TypeVar("M", bound=BaseModel)
Choice = dict[str, Any]
EMBEDDED = "embedded"


class StudentConfig(ComponentConfig):
    """The model that is aligned."""

    model: str = Field(
        EMBEDDED, description="Hugging Face id, local folder, or `embedded`: the small student that the task brings."
    )
    revision: str | None = Field(None, description="Commit, tag or branch of a Hugging Face id.")
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Precision of the weights; auto = bf16 on a GPU, fp32 on a CPU."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps …")
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        "auto", description="Attention implementation; auto = what transformers chooses."
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model. Off for good reason."
    )


class PredictConfig(ComponentConfig):
    """How the student answers."""

    decode: Literal["free", "score", "constrained"] = Field(
        "free",
        description="free = greedy generation without constraints; score = the N labels with the highest likelihood, "
        "every label of the space scored; constrained = greedy generation that can only write N distinct known labels.",
    )
    batch_size: int = Field(32, ge=1, description="Prompts per batch.")
    normalise: Literal["none", "tokens"] = Field(
        "none",
        description="For `score`: rank by the log-probability of a label as it is, or divided by its tokens.",
    )
    free_beside: bool = Field(
        True, description="For `constrained`: also let the student answer freely, and report both (twice the time)."
    )
    max_new_tokens: int | None = Field(
        None,
        ge=1,
        description="Length limit of a response in tokens; null = the longest list of labels, and half again.",
    )
    base: bool = Field(True, description="Also let the student answer before alignment.")
    shuffled: bool = Field(
        True,
        description="Image students: also let the aligned student answer with another sample's image, as a control.",
    )


class EvaluateConfig(ComponentConfig):
    """How predictions are judged."""

    split: Literal["auto", "train", "val", "test"] = Field(
        "auto", description="Split to report; auto = test where there is one, else val."
    )
    bootstrap: int = Field(2000, ge=100, description="Bootstrap draws behind every interval.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")


class RetrievalConfig(ComponentConfig):
    """How what the retriever finds is used."""

    tokens: int = Field(
        1024,
        ge=0,
        description="Most tokens that passages add to a prompt, counted by the student's tokenizer: whole passages, "
        "the best first. 0 = none, so that the retriever only ranks labels.",
    )
    train: bool = Field(False, description="Put passages into the training prompts too.")
    fuse: Literal["none", "rrf", "weighted"] = Field(
        "none",
        description="Also report the student's and the retriever's rankings combined: rrf = reciprocal ranks; weighted "
        "= log-probability plus `weight` times the retriever's standardised score, for decode=score.",
    )
    weight: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Weight of the retriever for fuse=weighted; null = the one that ranks the validation split best.",
    )


class RunConfig(ComponentConfig):
    """Everything that decides a run's result, and where it goes."""

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the run folder; null = task, teacher, aligner and a hash of the config.",
    )
    out: Path = Field(Path("runs"), description="Folder that holds the run folders and their cache.")
    seed: int = Field(0, ge=0, description="Seed of everything that is drawn.")
    align_seed: int | None = Field(
        None,
        ge=0,
        description="Seed of the alignment alone, so that several seeds share labels and preferences; null = seed.",
    )
    task: Choice = Field(description="Task: a name, or `name` and its options.")
    teacher: Choice = Field(description="Teacher: a name, or `name` and its options.")
    strategy: Choice = Field(description="Preference strategy: a name, or `name` and its options.")
    aligner: Choice | None = Field(
        description="Aligner: a name, or `name` and its options; none = only the base student is evaluated."
    )
    retriever: Choice | None = Field(None, description="Retriever: a name, or `name` and its options; null = none.")
    metrics: tuple[Choice, ...] = Field(description="Metrics: names, or `name` and options; default: all installed.")
    student: StudentConfig = Field(StudentConfig(), description="The model that is aligned.")
    retrieval: RetrievalConfig = Field(RetrievalConfig(), description="How what the retriever finds is used.")
    predict: PredictConfig = Field(PredictConfig(), description="How the student answers.")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="How predictions are judged.")

    @property
    def alignment_seed(self) -> int:
        """The seed of the alignment."""
        return self.seed if self.align_seed is None else self.align_seed


DEFAULT_STRATEGY = "listwise"
DEFAULT_ALIGNER = "orpo"
NO_ALIGNER = "none"


@dataclass(frozen=True, slots=True)
class Configured:
    """A component with its validated config."""

    registered: Registered
    config: Any

    @property
    def record(self) -> dict[str, Any]:
        """What identifies it in stage keys and in run.json."""
        return {
            "name": self.registered.component.name,
            "version": self.registered.component.version,
            "distribution": self.registered.distribution,
            "distribution_version": self.registered.distribution_version,
            "config": self.config.model_dump(mode="json"),
        }


@dataclass(frozen=True, slots=True)
class Resolved:
    """A config whose components are all known, validated and complete."""

    config: RunConfig
    task: Configured
    teacher: Configured
    strategy: Configured
    aligner: Configured | None
    """None where only the base student is evaluated."""
    retriever: Configured | None
    metrics: tuple[Configured, ...]

    def chosen(self) -> Iterable[Configured]:
        """All components of the run."""
        yield from (self.task, self.teacher, self.strategy)
        yield from (one for one in (self.aligner, self.retriever) if one is not None)
        yield from self.metrics

    def dump(self) -> dict[str, Any]:
        """The whole config as plain data: `mint run --config` accepts it and makes the same run again."""
        plain: dict[str, Any] = self.config.model_dump(mode="json")
        for key in ("task", "teacher", "strategy", "aligner", "retriever"):
            one = getattr(self, key)
            plain[key] = None if one is None else {"name": one.registered.component.name, **one.record["config"]}
        plain["metrics"] = [{"name": m.registered.component.name, **m.record["config"]} for m in self.metrics]
        return plain


def read_config(path: Path) -> dict[str, Any]:
    """Reads a YAML config, or the `config` of a run.json.

    Raises:
        ConfigError: The file cannot be read or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"The config {path} cannot be read ({error.strerror}); check the path.") from None
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"The config {path} is not valid {path.suffix.lstrip('.') or 'YAML'}{where}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"The config {path} must be a mapping of keys to values.")
    if path.suffix == ".json" and "config" in content:
        content = content["config"]
    return dict(content)


def parse_override(text: str) -> dict[str, Any]:
    """`teacher.head=probe` -> `{"teacher": {"head": "probe"}}`; the value is read as YAML.

    Raises:
        ConfigError: There is no `=` or a key is empty.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set takes a.b=c, not '{text}'; for example --set aligner.learning_rate=1e-4.")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"The value of --set {path}=… is not valid YAML; put it in quotes.") from None
    for key in reversed(keys):
        nested = {key: nested}
    return dict(nested)


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge: later layers win; a component given by name alone keeps the options of earlier layers."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if key == "aligner" and value in (NO_ALIGNER, {"name": NO_ALIGNER}):
                value = None  # noqa: PLW2901 - null and `none` say the same
            if key in _SHORT_FORMS and isinstance(value, str):
                value = {_SHORT_FORMS[key]: value}  # noqa: PLW2901 - `teacher: plip`, `student: folder`
            old = merged.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                renamed = "name" in value and "name" in old and value["name"] != old["name"]
                merged[key] = dict(value) if renamed else merge(_without_weights(key, old, value), value)
            else:
                merged[key] = dict(value) if isinstance(value, Mapping) else value
    return merged


def _without_weights(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """An earlier layer without what belongs to its model alone, where a later layer names another model."""
    if "model" not in new or "model" not in old or new["model"] == old["model"]:
        return dict(old)
    return {option: value for option, value in old.items() if option not in _OF_ONE_MODEL.get(key, ())}


_SHORT_FORMS = {
    **dict.fromkeys(("task", "teacher", "strategy", "aligner", "retriever"), "name"),
    "student": "model",
}
_OF_ONE_MODEL = {
    "student": ("revision", "trust_remote_code"),
    "teacher": ("pretrained", "revision", "trust_remote_code"),
}
"""Options that say nothing about another model. Code from a model's author is trusted for that model only."""
_MAY_BE_NULL = ("aligner", "retriever")


def resolve(user: Mapping[str, Any], components: Registry) -> Resolved:
    """Completes and validates a config.

    Layers, later ones win: mint's defaults, what the embedded student needs, what suits the task's source, and the
    user's config.

    Args:
        user: The user's config: YAML, overrides and flags merged.
        components: What is installed.

    Raises:
        ConfigError: A key, value or name is unknown or missing.
        PluginError: Two distributions claim a component that is used.
    """
    user = merge(user)
    for command in ("compare", "sweep"):
        if command in user:
            raise ConfigError(f"The config has a `{command}` section; give it to `mint {command}`, or take that out.")
    _refuse_unknown(RunConfig, user, "the config")
    for key in (key for key in _SHORT_FORMS if key in user):
        if not isinstance(user[key], Mapping) and not (key in _MAY_BE_NULL and user[key] is None):
            raise ConfigError(f"`{key}` must be a name or a mapping; leave the key out for the default.")
        name = (user[key] or {}).get("name")
        if not isinstance(name, str | None):
            raise ConfigError(f"`{key}.name` must be a name, not '{name}'; `mint plugins` shows what there is.")
    task_name, teacher_name = _task_and_teacher(user, components)
    user = merge(user, {"task": {"name": task_name}, "teacher": {"name": teacher_name}})
    task = _choose("task", user["task"], components)
    assert issubclass(task.registered.component, Task)  # noqa: S101 - the loader has checked it
    instance = task.registered.component(task.config)
    student = _validate(StudentConfig, user.get("student", {}), "student")
    embedded = instance.embedded_student() if student.model == EMBEDDED else None
    if student.model == EMBEDDED and embedded is None:
        raise ConfigError(f"The task '{task_name}' brings no embedded student; name one with --student ID_OR_FOLDER.")
    overrides = embedded.overrides if embedded else {}
    if "task" in overrides:
        task = _choose("task", merge({"task": overrides["task"]}, user)["task"], components)
        instance = cast(Task, task.registered.component(task.config))
    base: dict[str, Any] = {
        "strategy": {"name": user.get("strategy", {}).get("name", DEFAULT_STRATEGY)},
        "aligner": {"name": (user.get("aligner") or {}).get("name", DEFAULT_ALIGNER)},
        "metrics": [registered.component.name for registered in components.in_order("metric")],
    }
    name = base["aligner"]["name"]
    own = {"aligner": embedded.aligners[name]} if embedded and name in embedded.aligners else {}
    complete = merge(base, _for_aligner(overrides, name, components), own, instance.defaults(), user)
    metrics = complete["metrics"]
    if not isinstance(metrics, list | tuple) or not metrics:
        raise ConfigError("`metrics` must be a list with at least one metric; install mint-metrics or name one.")
    complete["metrics"] = [{"name": m} if isinstance(m, str) else m for m in metrics]
    config = _validate(RunConfig, complete, "the config")
    retriever = _choose("retriever", config.retriever, components) if config.retriever else None
    _check_retrieval(config, retriever)
    return Resolved(
        config=config,
        task=task,
        teacher=_choose("teacher", config.teacher, components),
        strategy=_choose("strategy", config.strategy, components),
        aligner=_choose("aligner", config.aligner, components) if config.aligner else None,
        retriever=retriever,
        metrics=tuple(_choose("metric", metric, components) for metric in config.metrics),
    )


def _check_retrieval(config: RunConfig, retriever: Configured | None) -> None:
    """Refuses uses of a retriever that is not there, or that cannot do it."""
    wanted = config.retrieval
    if retriever is None:
        for key, used in (("fuse", wanted.fuse != "none"), ("train", wanted.train)):
            if used:
                raise ConfigError(f"retrieval.{key} needs a retriever; name one with --retriever, or take it out.")
        return
    component = retriever.registered.component
    if wanted.fuse != "none" and getattr(component, "label_scores", None) is Retriever.label_scores:
        raise ConfigError(f"The retriever '{component.name}' ranks no labels, so that nothing can be fused.")
    if wanted.fuse == "weighted" and config.predict.decode != "score":
        raise ConfigError(
            "retrieval.fuse=weighted weighs the scores of all labels; add --set predict.decode=score, or use "
            "--fuse rrf."
        )


def _for_aligner(overrides: Mapping[str, Any], name: str, components: Registry) -> dict[str, Any]:
    """What the embedded student needs of its aligner, for whichever aligner is used: the options that this one has."""
    wanted = overrides.get("aligner")
    if not isinstance(wanted, Mapping) or wanted.get("name", name) == name:
        return dict(overrides)
    fields = components.get("aligner", name).component.Config.model_fields
    return {**overrides, "aligner": {key: value for key, value in wanted.items() if key in fields}}


def _task_and_teacher(user: Mapping[str, Any], components: Registry) -> tuple[str, str]:
    """The names of both; one follows from the other, and from nothing where only one task is installed."""
    task, teacher = (user.get(key, {}).get("name") for key in ("task", "teacher"))
    tasks = components.names("task")
    if teacher is not None:
        components.get("teacher", teacher)
    if task is None:
        fitting = tasks
        if teacher is not None:
            fitting = [
                t for t in tasks if getattr(components.get("task", t).component, "default_teacher", None) == teacher
            ]
        if len(fitting) != 1:
            raise ConfigError(
                f"Which task? Give --task (available: {', '.join(tasks) or 'none; pip install mint-plip'})."
            )
        task = fitting[0]
    if teacher is None:
        component = components.get("task", task).component
        assert issubclass(component, Task)  # noqa: S101 - the loader has checked it
        teacher = component.default_teacher
    return task, teacher


def _choose(kind: str, choice: Mapping[str, Any], components: Registry) -> Configured:
    name = choice.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"The {kind} needs a `name`{did_you_mean('', components.names(kind))}.")
    registered = components.get(kind, name)
    options = {key: value for key, value in choice.items() if key != "name"}
    return Configured(registered, _validate(registered.component.Config, options, f"{kind} '{name}'"))


def _refuse_unknown(model: type[BaseModel], data: Mapping[str, Any], where: str) -> None:
    for key in data:
        if key not in model.model_fields:
            raise ConfigError(f"Unknown key '{key}' in {where}{did_you_mean(str(key), model.model_fields)}.")


def _validate(model: type[M], data: Any, where: str) -> M:
    """Validates with sentences a person can act on."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} must be a mapping of keys to values.")
    _refuse_unknown(model, data, where)
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        path = [str(part) for part in first["loc"]]
        field = model.model_fields.get(path[0]) if path else None
        if first["type"] == "extra_forbidden" and field is not None and len(path) > 1:
            inner = field.annotation
            known = inner.model_fields if isinstance(inner, type) and issubclass(inner, BaseModel) else {}
            raise ConfigError(f"Unknown key '{path[-1]}' in {path[0]}{did_you_mean(path[-1], known)}.") from None
        about = f" ({field.description})" if field is not None and field.description else ""
        raise ConfigError(f"{where}: {'.'.join(path)}: {first['msg']}{about}.".replace("..", ".")) from None
