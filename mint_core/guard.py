"""Runs the code of plugins: what it raises, exits with, prints or returns wrongly is told as that plugin's fault.

Components of mint-core itself are not guarded: what they raise is a bug of mint.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import inspect
import io
import math
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Real
from typing import Any, cast, get_args

from mint_core import interrupts
from mint_core.errors import ContractError, MintError
from mint_core.faults import explained
from mint_core.interfaces import (
    AdapterShape,
    Aligner,
    AlignmentJob,
    AlignmentResult,
    Component,
    EmbeddedStudent,
    Metric,
    Passage,
    TrainingPhase,
    Unreadable,
)
from mint_core.types import (
    SPLITS,
    ImageRef,
    LabelSpace,
    Message,
    Modality,
    PreferenceGroup,
    Prompt,
    Role,
    Sample,
    TaskData,
)

_DEEPEST = 20
"""Of a record: one that goes deeper, or round in a circle, is none."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose code it is."""

    component: str
    """For example `teacher 'plip'`."""
    distribution: str

    def failed(self, call: str, error: BaseException) -> ContractError:
        """The sentence for what it raised, without the error's own words, which may hold patients' text."""
        return ContractError(
            f"The {self.component} of {self.distribution} failed in {call} ({type(error).__name__}); --debug shows "
            "where. Tell the plugin's authors, or choose another one."
        )

    def wrong(self, call: str, wanted: str, returned: object) -> ContractError:
        """The sentence for a return value that the interface forbids."""
        return ContractError(
            f"The {self.component} of {self.distribution} returned {_described(returned)} from {call}, which must "
            f"return {wanted}; tell the plugin's authors, or choose another one."
        )


def _described(value: object) -> str:
    """The type of a value, and of an array what it holds; never the value itself, which may be patients' text."""
    name, held, shape = type(value).__name__, getattr(value, "dtype", None), getattr(value, "shape", None)
    return name if held is None else f"{name} of {held} and shape {shape}"


class guarded:
    """Runs code of a plugin: whatever it raises becomes an error that names the plugin; what it prints goes to stderr.

    Errors of mint pass, as do a full disk, a refused file and missing memory, which are no fault of the plugin, and
    Ctrl-C of the user, even where the code of the plugin swallows it. A KeyboardInterrupt that nobody pressed is told
    like any other error. It costs a few microseconds, because a metric is called once per sample.

    Args:
        owner: Whose code it is.
        call: What is called, for the message.

    Raises:
        ContractError: It raised, or wanted to end the process.
    """

    __slots__ = ("_before", "_call", "_out", "_owner")

    def __init__(self, owner: Owner, call: str) -> None:
        self._owner, self._call = owner, call

    def __enter__(self) -> None:
        # standard output belongs to mint's own answers; other threads leave it alone: the whole process has but one
        self._out = sys.stdout if threading.get_ident() == threading.main_thread().ident else None
        if self._out is not None:
            interrupts.count_presses()
            sys.stdout = sys.stderr
        self._before = interrupts.seen()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._out is not None:
            sys.stdout = self._out
        pressed = interrupts.seen() > self._before
        if error is None:
            if pressed:
                raise KeyboardInterrupt
            return
        if isinstance(error, MintError | GeneratorExit) or _no_fault(error):
            return
        if pressed or (isinstance(error, KeyboardInterrupt) and not interrupts.presses_are_counted()):
            raise KeyboardInterrupt from error
        raise self._owner.failed(self._call, error) from error


def _no_fault(error: BaseException) -> bool:
    """Whether mint's own code raised it, or it says that disk, memory or a pipe is at its end."""
    if getattr(error, "raised_outside_of_plugins", False) or isinstance(error, BrokenPipeError):
        return True
    return isinstance(error, Exception) and explained(error) is not None


def told(error: BaseException) -> str:
    """What an error says; its own code may fail at that too."""
    try:
        return str(error)
    except BaseException:
        return ""


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """As long as it lasts all that is written to stdout goes to stderr, also below Python, by C code or a child."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (OSError, ValueError, AttributeError):  # there is no stdout
        yield
        return
    try:
        with contextlib.suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        with contextlib.suppress(OSError, ValueError, AttributeError, io.UnsupportedOperation):
            sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def make(component: type[Component[Any]], distribution: str, config: Any, context: Any) -> Component[Any]:
    """A component whose every call is guarded.

    Args:
        component: Its class.
        distribution: Whose plugin it belongs to.
        config: A validated config, or None for the defaults.
        context: Labels, seed, device and the like, or None.

    Raises:
        ContractError: Its construction failed, or a call of it did.
    """
    if context is not None:
        context = replace(context, advance=_Outside(context.advance))
    with guarded(Owner(f"{component.kind} '{component.name}'", distribution), "__init__"):
        return _guarded_class(component, distribution)(config, context)


@dataclass(frozen=True, slots=True)
class _Outside:
    """A function of mint or its user that a plugin calls: what that raises is not the plugin's fault."""

    callback: Callable[..., Any]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        try:
            return self.callback(*arguments, **options)
        except BaseException as error:
            with contextlib.suppress(AttributeError, TypeError):
                error.raised_outside_of_plugins = True  # type: ignore[attr-defined]
            raise


@lru_cache(maxsize=256)
def _guarded_class(component: type[Component[Any]], distribution: str) -> type[Component[Any]]:
    """A subclass whose methods are those of the seam, each guarded; it looks like the component, and pickles as it."""
    seam = next(base for base in component.__mro__ if Component in base.__bases__)
    owner = Owner(f"{component.kind} '{component.name}'", distribution)
    body: dict[str, Any] = {"__module__": component.__module__, "__qualname__": component.__qualname__}
    body["__doc__"] = component.__doc__
    for name in sorted(name for name in {*dir(seam), *seam.__annotations__} if not name.startswith("_")):
        static = inspect.getattr_static(component, name, None)
        if isinstance(static, classmethod):
            body[name] = classmethod(_guarded_call(owner, name, component, lambda cls, found: found))
        elif inspect.isfunction(static):
            body[name] = _guarded_call(owner, name, component, lambda self, found: functools.partial(found, self))
        elif isinstance(static, property | functools.cached_property):
            body[name] = property(_guarded_call(owner, name, component, functools.partial(_bound, static)))

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        made, arguments, *state = cast(tuple[Any, ...], object.__reduce_ex__(self, protocol))
        if made is copyreg.__newobj__:  # type: ignore[attr-defined]
            made, arguments = _new, (component, *arguments[1:])
        return (made, arguments, *state)

    body["__reduce_ex__"] = __reduce_ex__
    metaclass: Any = type(component)
    return cast(type[Component[Any]], metaclass(component.__name__, (component,), body))


def _bound(attribute: Any, self: Any, _: Any) -> Callable[[], Any]:
    """A property of the component as a call without arguments."""
    return functools.partial(attribute.__get__, self)


def _new(component: type[Any], *arguments: Any) -> Any:
    """An empty component, for pickle."""
    return component.__new__(component, *arguments)


def _guarded_call(
    owner: Owner, name: str, component: type[Any], bind: Callable[[Any, Any], Callable[..., Any]]
) -> Callable[..., Any]:
    """A method that calls the component's own under guard.

    Args:
        owner: Whose it is.
        name: Its name.
        component: The class that has it.
        bind: From the object and what the class has under that name to what is called.
    """

    @functools.wraps(getattr(component, name), updated=())
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        if arguments and isinstance(arguments[0], AlignmentJob):
            job = arguments[0]
            job = replace(job, advance=_Outside(job.advance), tell=_Outside(job.tell))
            job = replace(job, validate=_Outside(job.validate)) if job.validate else job
            arguments = (job, *arguments[1:])
        with guarded(owner, name):
            returned = bind(self, getattr(component, name))(*arguments, **options)
        if name == "read_inputs":
            return _guarded_items(owner, name, returned)
        if type(returned) is component:  # an aligner that is `shortened`
            returned.__class__ = _guarded_class(cast(Any, component), owner.distribution)
        _check(owner, name, returned)
        return returned

    return call


def _guarded_items(owner: Owner, name: str, items: Any) -> Generator[Any, None, None]:
    with guarded(owner, name):
        if not isinstance(items, Iterator | Sequence):
            raise owner.wrong(name, "an iterator of samples", items)
        iterator = iter(items)
    end = object()
    while True:
        with guarded(owner, name):
            item = next(iterator, end)
        if item is end:
            return
        if not isinstance(item, Sample | Unreadable):
            raise owner.wrong(name, "samples", item)
        yield item


def _check(owner: Owner, name: str, returned: Any) -> None:
    """Refuses what the interface does not allow a method to return.

    Raises:
        ContractError: It is of another type.
    """
    if name not in _RETURNS:
        return
    wanted, fits = _RETURNS[name]
    with guarded(owner, name):
        good = fits(returned)
    if not good:
        raise owner.wrong(name, wanted, returned)


def _is(*types: type[Any] | None) -> Callable[[Any], bool]:
    return lambda value: any(value is None if one is None else isinstance(value, one) for one in types)


def _many(kind: type[Any]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(isinstance(one, kind) for one in value)


def _is_record(value: Any, depth: int = 0) -> bool:
    """A mapping of plain data, as a JSON file holds it."""
    return isinstance(value, Mapping) and _is_plain(value, depth)


def _is_plain(value: Any, depth: int) -> bool:
    if value is None or isinstance(value, str | Real):
        return True
    if depth > _DEEPEST:
        return False
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(one, depth + 1) for key, one in value.items())
    return isinstance(value, list | tuple) and all(_is_plain(one, depth + 1) for one in value)


def _is_task_data(value: Any) -> bool:
    return (
        isinstance(value, TaskData)
        and isinstance(value.labels, LabelSpace)
        and isinstance(value.source, str)
        and isinstance(value.licence, str | None)
        and _is_record(value.facts)
        and all(isinstance(count, Real) for count in value.facts.values())
        and isinstance(value.samples, Sequence)
        and all(map(_is_sample, value.samples))
    )


def _is_sample(value: Any) -> bool:
    return (
        isinstance(value, Sample)
        and isinstance(value.id, str)
        and value.split in SPLITS
        and all(isinstance(one, str | None) for one in (value.label, value.group, value.text, value.cohort))
        and isinstance(value.privileged, Mapping)
        and all(isinstance(key, str) and isinstance(one, str) for key, one in value.privileged.items())
    )


def _is_result(value: Any) -> bool:
    return (
        isinstance(value, AlignmentResult)
        and isinstance(value.steps, int)
        and isinstance(value.final_loss, Real)
        and all(isinstance(one, list | tuple) for one in (value.history, value.validation))
        and all(map(_is_record, (*value.history, *value.validation)))
        and isinstance(value.settings, Mapping)
    )


def _are_groups(value: Any) -> bool:
    return _many(PreferenceGroup)(value) and all(
        isinstance(side, tuple) and side and all(_many(str)(response) and response for response in side)
        for group in value
        for side in (group.chosen, group.rejected)
    )


def _are_passages(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        _many(Passage)(found) and all(isinstance(one.source, str) and isinstance(one.text, str) for one in found)
        for found in value
    )


def _are_spans(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(one, tuple) and len(one) == 2 and all(type(place) is int for place in one) for one in value
    )


def _is_prompt(value: Any) -> bool:
    return (
        isinstance(value, Prompt)
        and isinstance(value.image, ImageRef | None)
        and _many(Message)(value.messages)
        and all(one.role in get_args(Role) and isinstance(one.content, str) for one in value.messages)
    )


def _are_log_probs(value: Any) -> bool:
    return _is_table(value) and str(value.dtype) == "float32"


def _is_table(value: Any) -> bool:
    """Rows of numbers."""
    return getattr(value, "ndim", None) == 2 and getattr(getattr(value, "dtype", None), "kind", None) in ("f", "i", "u")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


_RETURNS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "load": ("TaskData of the types that its fields name", _is_task_data),
    "header": ("a text", _is(str)),
    "modality": (" or ".join(f"`{one}`" for one in get_args(Modality)), lambda value: value in get_args(Modality)),
    "default_teacher": ("a teacher's name", _is(str)),
    "sources": ("a tuple of names", _many(str)),
    "recognises": ("a tuple of names or None", lambda value: value is None or _many(str)(value)),
    "list_length": ("a whole number", _is(int)),
    "n_listed": ("a whole number", _is(int)),
    "training_prompt": ("a Prompt of Messages", _is_prompt),
    "inference_prompt": ("a Prompt of Messages", _is_prompt),
    "phrases": ("a sequence of Span, pairs of whole numbers", _are_spans),
    "embedded_student": ("an EmbeddedStudent or None", _is(EmbeddedStudent, None)),
    "defaults": ("a mapping", _is(Mapping)),
    "log_probs": ("an array of float32, one row per sample", _are_log_probs),
    "parts": ("a tuple of mappings", _many(Mapping)),
    "asks": ("True or False", _is(bool)),
    "shares_work": ("True or False", _is(bool)),
    "sends": ("a text", _is(str)),
    "fingerprint": ("a text", _is(str)),
    "describe": ("a record: a mapping from texts to plain data", _is_record),
    "groups": ("a list of PreferenceGroup, whose responses are tuples of labels", _are_groups),
    "top": ("a tuple of labels", _many(str)),
    "bottom": ("a tuple of labels", _many(str)),
    "align": ("an AlignmentResult of numbers and records", _is_result),
    "phases": ("a tuple of TrainingPhase", _many(TrainingPhase)),
    "shape": ("an AdapterShape or None", _is(AdapterShape, None)),
    "shortened": ("an Aligner or None", _is(Aligner, None)),
    "trackers": ("a tuple of names", _many(str)),
    "start_option": ("an option's name or None", _is(str, None)),
    "retrieve": ("one sequence of Passage per sample", _are_passages),
    "label_scores": (
        "an array of numbers, one row per sample, or None",
        lambda value: value is None or _is_table(value),
    ),
    "score": ("a finite number or None", lambda value: value is None or _is_number(value)),
    "ceiling": ("a finite number", _is_number),
    "title": ("a text", _is(str)),
    "rule": ("a text", _is(str)),
    "claim": ("a text", _is(str)),
    "why": ("a text or None", _is(str, None)),
    "ungated": ("a Metric or None", _is(Metric, None)),
}
"""By the method's name: what it must return, in words and as a test."""
