"""From the user's config to validated components: defaults, what the embedded student needs, what suits the source."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mint_core.config.choose import check_fit, check_read, completed, fits
from mint_core.config.embedded import embedded_student
from mint_core.config.layers import merge
from mint_core.config.schema import PredictConfig, RetrievalConfig, RunConfig, StudentConfig
from mint_core.config.validate import refuse_unknown, validated
from mint_core.errors import ConfigError, did_you_mean
from mint_core.files import digest_of_adapter, digest_of_path
from mint_core.interfaces import ComponentConfig, Context, Retriever, Task, Teacher
from mint_core.interfaces.task import SIMULATED
from mint_core.plugins import Registered, Registry

_CONSTRAINED = (
    "The embedded student is small and has never seen your labels: it answers with constrained decoding, free answers "
    "stand beside; --decode free leaves them alone."
)
DEFAULT_STRATEGY = "listwise"
DEFAULT_ALIGNER = "orpo"
_ADAPTER = "adapter_config.json"
"""A folder with it is an adapter."""
_COMPONENTS = ("task", "teacher", "strategy", "aligner", "retriever")
_QUICK = {"aligner": {"epochs": 1, "sft_epochs": 1}, "evaluate": {"bootstrap": 200}}
"""The most that these options may be in a quick run."""
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
        code = self.registered.source()
        return {**self._about(), **({"code": code} if code else {}), "config": options, **known}

    def check_files(self, coming: Sequence[Path] = ()) -> None:
        """Refuses files and folders of its options that are not there, or may not be read; none is opened.

        Args:
            coming: Files and folders that somebody makes first.

        Raises:
            ConfigError: One of them is not, or may not.
        """
        for option, value in self.config:
            for path in value if isinstance(value, list | tuple) else (value,):
                if isinstance(path, Path) and path not in coming:
                    self._check_there(option, path)
                    if not os.access(path, os.R_OK):
                        kind = self.registered.component.kind
                        raise ConfigError(f"{kind}.{option}: {path} may not be read; check its permissions.")

    def _check_there(self, option: str, path: Path) -> None:
        if not path.exists():
            raise ConfigError(f"{self.registered.component.kind}.{option}: {path} does not exist; check the path.")

    def decisive(self) -> dict[str, Any]:
        """Its name and the options that change results, as they are written: no file is looked at."""
        return {"name": self.name, **decisive(self.config)}

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
            self._check_there(option, value)
            return digest_of_adapter(value) if (value / _ADAPTER).is_file() else digest_of_path(value)
        if isinstance(value, list | tuple) and any(isinstance(one, Path) for one in value):
            return [self._by_content(option, one, str(one)) for one in value]
        return plain


def decisive(config: ComponentConfig) -> dict[str, Any]:
    """A config as plain data without the options that change no result, those of nested configs too."""
    fields = type(config).model_fields
    unset = {name for name in config.later if getattr(config, name) == fields[name].default}
    plain: dict[str, Any] = config.model_dump(mode="json", exclude={*config.neutral, *unset})
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
    parts: tuple[Configured, ...] = ()
    """The teachers that the teacher is made of; none where it stands alone."""
    notes: tuple[str, ...] = ()
    """Sentences on what mint chose where the user did not, for the person who waits."""

    def sent_by_teachers(self) -> dict[str, str]:
        """What leaves this machine by teacher; see `mint_core.interfaces.teacher.Teacher.sends`.

        Raises:
            ConfigError: Something would leave it, and nobody has allowed that.
        """
        found: dict[str, str] = {}
        for one in (self.teacher, *self.parts):
            with one.registered.guarded("sends"):
                what = cast(type[Teacher], one.registered.component).sends(one.config)
            found |= {one.name: what} if what else {}
        return found

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
        ConfigError: A key, value or name is unknown or missing, or components do not fit together.
        DataError: There is nothing at `task.data`, and no source is named.
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
    whole = completed(user, components)
    user = whole.user
    task = configured("task", user["task"], components)
    instance = cast(Task, task.make())
    student = validated(StudentConfig, user.get("student", {}), "student")
    embedded = embedded_student(student.model, instance, components)
    predict = user.get("predict")
    predict = predict if isinstance(predict, Mapping) else {}
    engine = predict.get("engine", "transformers")
    overrides = embedded.overrides if embedded else {}
    if "task" in overrides:
        task = configured("task", merge({"task": overrides["task"]}, user)["task"], components)
        instance = cast(Task, task.make())
    base: dict[str, Any] = {
        "strategy": {"name": user.get("strategy", {}).get("name", DEFAULT_STRATEGY)},
        "aligner": {"name": (user.get("aligner") or {}).get("name", DEFAULT_ALIGNER)},
        "metrics": [
            metric.component.name
            for metric in components.in_order("metric")
            if fits(metric.component, task.registered.component)
        ],
    }
    name = base["aligner"]["name"]
    own = {"aligner": embedded.aligners[name]} if embedded and name in embedded.aligners else {}
    constrained = embedded is not None and instance.config.source != SIMULATED and engine == "transformers"
    safe = {"predict": {"decode": "constrained"}} if constrained else {}
    complete = merge(base, _for_aligner(overrides, name, components), own, safe, instance.defaults(), user)
    metrics = complete["metrics"]
    if not isinstance(metrics, list | tuple) or not metrics:
        raise ConfigError("`metrics` must be a list with at least one metric; install mint-metrics or name one.")
    complete["metrics"] = [{"name": m} if isinstance(m, str) else m for m in metrics]
    if complete.get("quick") is True:
        complete = _quick(complete, components)
    config = validated(RunConfig, complete, "the config")
    retriever = configured("retriever", config.retriever, components) if config.retriever else None
    if retriever is not None:
        check_read(retriever.registered, instance)
    check_retrieval(config.retrieval, config.predict, retriever)
    check_engine(config.predict, aligned=config.aligner is not None)
    teacher = configured("teacher", config.teacher, components)
    return Resolved(
        config=config,
        task=task,
        teacher=teacher,
        parts=_parts(teacher, task, components),
        strategy=configured("strategy", config.strategy, components),
        aligner=configured("aligner", config.aligner, components) if config.aligner else None,
        retriever=retriever,
        metrics=_by_key([configured("metric", metric, components) for metric in config.metrics]),
        notes=(*whole.notes, *([_CONSTRAINED] if safe and "decode" not in predict else [])),
    )


def _parts(teacher: Configured, task: Configured, components: Registry) -> tuple[Configured, ...]:
    """The teachers that a teacher is made of, all of which serve the task."""
    component = cast(type[Teacher], teacher.registered.component)
    with teacher.registered.guarded("parts"):
        choices = component.parts(teacher.config)
    parts = tuple(configured("teacher", choice, components) for choice in choices)
    for part in parts:
        check_fit(part.registered, task.registered, components)
    return parts


def _quick(complete: Mapping[str, Any], components: Registry) -> dict[str, Any]:
    """The config of a quick run: as asked for, but with no more epochs and bootstrap draws than such a run takes."""
    name = (complete["aligner"] or {}).get("name")
    known = components.get("aligner", name).component.Config.model_fields if name else {}
    limits = {"aligner": {key: most for key, most in _QUICK["aligner"].items() if key in known}} if name else {}
    shorter: dict[str, dict[str, int]] = {}
    for section, most in {**limits, "evaluate": _QUICK["evaluate"]}.items():
        given = complete.get(section)
        for key, limit in most.items():
            value = given.get(key) if isinstance(given, Mapping) else None
            if not isinstance(value, int | float) or value > limit:
                shorter.setdefault(section, {})[key] = limit
    return merge(complete, shorter)


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
