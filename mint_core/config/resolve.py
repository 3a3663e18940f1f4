"""From the user's config to validated components: defaults, what the embedded student needs, what suits the source."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mint_core.config.layers import merge
from mint_core.config.schema import EMBEDDED, PredictConfig, RetrievalConfig, RunConfig, StudentConfig
from mint_core.errors import ConfigError, did_you_mean
from mint_core.files import digest_of_path
from mint_core.interfaces import ComponentConfig, Context, Retriever, Task
from mint_core.plugins import Registered, Registry

M = TypeVar("M", bound=BaseModel)
DEFAULT_STRATEGY = "listwise"
DEFAULT_ALIGNER = "orpo"
_COMPONENTS = ("task", "teacher", "strategy", "aligner", "retriever")
_MAY_BE_NULL = ("aligner", "retriever")


@dataclass(frozen=True, slots=True)
class Configured:
    """A component with its validated config."""

    registered: Registered
    config: Any

    @property
    def name(self) -> str:
        """What the user writes."""
        return self.registered.component.name

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says of it."""
        return {**self._about(), "config": located(self.config)}

    @property
    def ranks_labels(self) -> bool:
        """Whether it is a retriever that scores all labels."""
        component = self.registered.component
        return issubclass(component, Retriever) and component.label_scores is not Retriever.label_scores

    def make(self, context: Context | None = None) -> Any:
        """The component; `context` holds labels, seed, device and the like."""
        return self.registered.make(self.config, context)

    def identity(self) -> dict[str, Any]:
        """What decides its results: its version and its options, files and folders by their content.

        Raises:
            ConfigError: A file or folder that an option names does not exist.
        """
        component = self.registered.component
        options = decisive(self.config)
        for name, value in self.config:
            if name in options:
                options[name] = self._by_content(name, value, options[name])
        fingerprint = getattr(component, "fingerprint", None)
        with self.registered.guarded("fingerprint"):
            known = {"knowledge": str(fingerprint(self.config))} if fingerprint is not None else {}
        return {**self._about(), "config": options, **known}

    def _about(self) -> dict[str, Any]:
        one = self.registered
        return {
            "name": self.name,
            "version": one.component.version,
            "distribution": one.distribution,
            "distribution_version": one.distribution_version,
        }

    def _by_content(self, option: str, value: Any, plain: Any) -> Any:
        if isinstance(value, Path):
            if not value.exists():
                kind = self.registered.component.kind
                raise ConfigError(f"{kind}.{option}: {value} does not exist; check the path.")
            return digest_of_path(value)
        if isinstance(value, list | tuple) and any(isinstance(one, Path) for one in value):
            return [self._by_content(option, one, str(one)) for one in value]
        return plain


def decisive(config: ComponentConfig) -> dict[str, Any]:
    """A config as plain data without the options that change no result, those of nested configs too."""
    plain: dict[str, Any] = config.model_dump(mode="json", exclude=set(config.neutral))
    for name, value in config:
        if isinstance(value, ComponentConfig) and name in plain:
            plain[name] = decisive(value)
    return plain


def located(config: ComponentConfig) -> dict[str, Any]:
    """A config as plain data that means the same from every folder: its files and folders by their whole paths."""
    plain: dict[str, Any] = config.model_dump(mode="json")
    for name, value in config:
        if isinstance(value, Path):
            plain[name] = str(value.absolute())
        elif isinstance(value, list | tuple) and any(isinstance(one, Path) for one in value):
            plain[name] = [str(one.absolute()) if isinstance(one, Path) else one for one in value]
        elif isinstance(value, ComponentConfig):
            plain[name] = located(value)
    return plain


def with_whole_paths(layer: Any, plain: Any) -> Any:
    """What a user wrote, with the whole paths of the files and folders in it.

    Args:
        layer: A part of the config as written.
        plain: The same part of `Resolved.dump`.
    """
    if isinstance(layer, Mapping) and isinstance(plain, Mapping):
        return {key: with_whole_paths(value, plain.get(key)) for key, value in layer.items()}
    if isinstance(layer, list | tuple) and isinstance(plain, list) and len(layer) == len(plain):
        return [with_whole_paths(*pair) for pair in zip(layer, plain, strict=True)]
    named = isinstance(layer, str | Path) and isinstance(plain, str)
    return plain if named and str(Path(layer).absolute()) == plain else layer


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
    metrics: Mapping[str, Configured]
    """By key: the name, or where it occurs several times `name:option=value` with the options that are not default."""

    def chosen(self) -> Iterable[Configured]:
        """All components of the run."""
        yield from (self.task, self.teacher, self.strategy)
        yield from (one for one in (self.aligner, self.retriever) if one is not None)
        yield from self.metrics.values()

    def decisive(self) -> dict[str, Any]:
        """The config without what changes no result: name, place, device, batch sizes and the like."""
        return decisive(self.config) | self._components(decisive)

    def dump(self) -> dict[str, Any]:
        """The whole config as plain data: `mint run --config` accepts it and makes the same run again."""
        plain = {**located(self.config), "out": str(self.config.out)}
        model = Path(plain["student"]["model"])
        plain["student"]["model"] = str(model.absolute()) if model.exists() else str(model)
        return plain | self._components(located)

    def _components(self, options: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Every component as the user writes it, with those of its options that are asked for."""

        def written(one: Configured) -> dict[str, Any]:
            return {"name": one.name, **options(one.config)}

        named = {key: written(one) if (one := getattr(self, key)) else None for key in _COMPONENTS}
        return {**named, "metrics": [written(metric) for metric in self.metrics.values()]}


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
    refuse_unknown(RunConfig.model_fields, user, "the config")
    for key in (key for key in (*_COMPONENTS, "student") if key in user):
        _refuse_several(key, user[key])
        if not isinstance(user[key], Mapping) and not (key in _MAY_BE_NULL and user[key] is None):
            raise ConfigError(f"`{key}` must be a name or a mapping; leave the key out for the default.")
        name = (user[key] or {}).get("name")
        if not isinstance(name, str | None):
            raise ConfigError(f"`{key}.name` must be a name, not '{name}'; `mint plugins` shows what there is.")
    task_name, teacher_name = _task_and_teacher(user, components)
    user = merge(user, {"task": {"name": task_name}, "teacher": {"name": teacher_name}})
    task = configured("task", user["task"], components)
    instance = cast(Task, task.make())
    student = validated(StudentConfig, user.get("student", {}), "student")
    embedded = instance.embedded_student() if student.model == EMBEDDED else None
    asked = (user.get("predict") or {}).get("engine") == "endpoint"
    if student.model == EMBEDDED and embedded is None and not asked:
        raise ConfigError(f"The task '{task_name}' brings no embedded student; name one with --student ID_OR_FOLDER.")
    overrides = embedded.overrides if embedded else {}
    if "task" in overrides:
        task = configured("task", merge({"task": overrides["task"]}, user)["task"], components)
        instance = cast(Task, task.make())
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
    config = validated(RunConfig, complete, "the config")
    retriever = configured("retriever", config.retriever, components) if config.retriever else None
    check_retrieval(config.retrieval, config.predict, retriever)
    check_engine(config.predict, aligned=config.aligner is not None)
    return Resolved(
        config=config,
        task=task,
        teacher=configured("teacher", config.teacher, components),
        strategy=configured("strategy", config.strategy, components),
        aligner=configured("aligner", config.aligner, components) if config.aligner else None,
        retriever=retriever,
        metrics=_by_key([configured("metric", metric, components) for metric in config.metrics]),
    )


def _refuse_several(key: str, given: Any) -> None:
    """Says where several components of one kind belong: into a comparison."""
    name = given.get("name") if isinstance(given, Mapping) else given
    names = name.split(",") if isinstance(name, str) and key != "student" else name if isinstance(name, list) else []
    if len(names) < 2 or not all(isinstance(one, str) for one in names):
        return
    how = f"--aligners {','.join(map(str.strip, names))}" if key == "aligner" else f"--row NAME=ALIGNER:{key}.name=…"
    raise ConfigError(f"A run has one {key}, not several; `mint compare {how}` compares them.")


def _by_key(metrics: Sequence[Configured]) -> dict[str, Configured]:
    """The metrics by key, see `Resolved.metrics`.

    Raises:
        ConfigError: A metric stands there twice with the same options.
    """
    count = Counter(metric.name for metric in metrics)
    keyed: dict[str, Configured] = {}
    for metric in metrics:
        options = metric.config.model_dump(mode="json", exclude_defaults=True) if count[metric.name] > 1 else {}
        given = (f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items())
        key = metric.name + (f":{','.join(given)}" if options else "")
        if key in keyed:
            raise ConfigError(f"The metric '{key}' is there twice with the same options; take one out.")
        keyed[key] = metric
    return keyed


def check_retrieval(wanted: RetrievalConfig, predict: PredictConfig, retriever: Configured | None) -> None:
    """Refuses uses of a retriever that is not there, or that cannot do it.

    Raises:
        ConfigError: It is not, or it cannot.
    """
    if retriever is None:
        for key, used in (("fuse", wanted.fuse != "none"), ("train", wanted.train)):
            if used:
                raise ConfigError(f"retrieval.{key} needs a retriever; name one with --retriever, or take it out.")
        return
    if wanted.fuse != "none" and not retriever.ranks_labels:
        raise ConfigError(f"The retriever '{retriever.name}' ranks no labels, so that nothing can be fused.")
    if wanted.fuse == "weighted" and predict.decode != "score":
        raise ConfigError(
            "--fuse weighted weighs the scores of all labels; add --decode score (in a config predict.decode=score), "
            "or use --fuse rrf."
        )


def check_engine(predict: PredictConfig, *, aligned: bool) -> None:
    """Refuses what an engine cannot do; `aligned`: whether an adapter is trained.

    Raises:
        ConfigError: It cannot.
    """
    if predict.engine == "transformers":
        return
    who = "vLLM" if predict.engine == "vllm" else "An endpoint"
    if predict.decode != "free":
        raise ConfigError(f"{who} writes freely; decode={predict.decode} needs predict.engine=transformers.")
    if predict.engine == "endpoint":
        if aligned:
            raise ConfigError("A model on a server is only asked; a run that asks one needs --aligner none.")
        for key in ("url", "model"):
            if not getattr(predict.endpoint, key):
                raise ConfigError(f"predict.engine=endpoint needs predict.endpoint.{key}.")


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
            fitting = [t for t in tasks if _task_class(components, t).default_teacher == teacher]
        if len(fitting) != 1:
            raise ConfigError(
                f"Which task? Give --task (available: {', '.join(tasks) or 'none; install a plugin that brings one'})."
            )
        task = fitting[0]
    if teacher is None:
        teacher = _task_class(components, task).default_teacher
    return task, teacher


def _task_class(components: Registry, name: str) -> type[Task]:
    return cast(type[Task], components.get("task", name).component)  # the loader has checked it


def configured(kind: str, choice: Mapping[str, Any], components: Registry, otherwise: str = "") -> Configured:
    """A component with its options, validated.

    Args:
        kind: The seam.
        choice: `name` and options.
        components: What is installed.
        otherwise: See `validated`.

    Raises:
        ConfigError: The name or an option is wrong.
    """
    name = choice.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"The {kind} needs a `name`{did_you_mean('', components.names(kind))}.")
    registered = components.get(kind, name)
    options = {key: value for key, value in choice.items() if key != "name"}
    with registered.guarded("Config"):
        config = validated(registered.component.Config, options, f"{kind} '{name}'", otherwise)
    return Configured(registered, config)


def refuse_unknown(known: Collection[str], data: Mapping[str, Any], where: str, otherwise: str = "") -> None:
    """Refuses keys that are not known; `where` and `otherwise` as for `validated`.

    Raises:
        ConfigError: There is one.
    """
    for key in data:
        if key not in known:
            raise ConfigError(f"Unknown key '{key}' in {where}{did_you_mean(str(key), known)}{otherwise}.")


def validated(model: type[M], data: Any, where: str, otherwise: str = "") -> M:
    """A config from plain data, with sentences that a person can act on.

    Args:
        model: Its class.
        data: As the user gives it.
        where: What it belongs to, for messages.
        otherwise: What else the user may do; ends the message.

    Raises:
        ConfigError: A key is unknown or a value is wrong.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} must be a mapping of keys to values.")
    refuse_unknown(model.model_fields, data, where, otherwise)
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        path = [str(part) for part in first["loc"]]
        if first["type"] == "extra_forbidden":
            known = _fields_at(model, path[:-1])
            hint = f"{did_you_mean(path[-1], known)}{otherwise}"
            raise ConfigError(f"Unknown key '{path[-1]}' in {'.'.join(path[:-1])}{hint}.") from None
        field = _fields_at(model, path[:-1]).get(path[-1]) if path else None
        about = f" ({field.description})" if field is not None and field.description else ""
        told = _IN_WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
        sentence = f"{where}: {'.'.join(path)}: {told}{about}{otherwise}."
        raise ConfigError(sentence.replace("..", ".")) from None


_IN_WORDS = {"string_pattern_mismatch": "It holds a character that it may not hold, or is empty"}
"""What pydantic says in a way that helps nobody."""


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> dict[str, FieldInfo]:
    """The fields of a nested config; none where the path leads to no config."""
    fields = dict(model.model_fields)
    for part in path:
        inner = fields[part].annotation if part in fields else None
        fields = dict(inner.model_fields) if isinstance(inner, type) and issubclass(inner, BaseModel) else {}
    return fields
