"""Numbers that nobody means are refused before anything is read: too large, NaN, infinite."""

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mint_core.comparison.rows import parse_ratios, parse_seeds
from mint_core.config import RunConfig, validated
from mint_core.errors import ConfigError
from mint_core.plugins import registry


def _numbers() -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
    """Every field of every config that holds numbers."""
    seen: set[type[BaseModel]] = set()

    def parts(annotation: Any) -> Iterator[Any]:
        yield annotation
        for inner in typing.get_args(annotation):
            yield from parts(inner)

    def walk(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
        if model in seen:
            return
        seen.add(model)
        for name, field in model.model_fields.items():
            for part in parts(field.annotation):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    yield from walk(part)
                elif part in (int, float) and typing.get_origin(field.annotation) is not typing.Literal:
                    yield model, name, field

    yield from walk(RunConfig)
    for registered in registry().all():
        yield from walk(registered.component.Config)


NUMBERS = {f"{model.__name__}.{name}": (model, name, field) for model, name, field in _numbers()}


def test_there_are_numbers_to_test() -> None:
    assert len(NUMBERS) > 100


@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_has_a_largest_value_and_is_finite(key: str) -> None:
    model, name, field = NUMBERS[key]
    paths = {one: "x" for one, other in model.model_fields.items() if other.is_required() and other.annotation is Path}
    several = typing.get_origin(field.annotation) is tuple
    for number in (10**13, 10**400, -(10**400), float("nan"), float("inf"), -float("inf"), "1e400"):
        with pytest.raises(ConfigError) as said:
            validated(model, {**paths, name: (number,) if several else number}, "the config")
        assert name in str(said.value) and len(str(said.value)) < 1000


@pytest.mark.parametrize(
    "option",
    ["seed=4294967296", "evaluate.bootstrap=1.0e+12", "evaluate.bootstrap=1000000000000", "predict.batch_size=.inf",
     "aligner.epochs=.nan", "aligner.lora_rank=1e300", "task.sample_seed=-1", "evaluate.confidence=.nan",
     "retrieval.tokens=99999999999999999999"],
)  # fmt: skip
def test_a_run_is_refused_at_its_start(mint, option: str) -> None:
    answer = mint("run", "--task", "tissue-type", "--set", option)
    assert answer.code == 2
    assert option.partition("=")[0].rpartition(".")[2] in answer.err and len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    "given",
    [("plan", "--memory", "nan"), ("plan", "--memory", "inf"), ("predict", "--input", "x", "--threshold", "nan"),
     ("predict", "--input", "x", "--timeout", "inf"), ("run", "--seed", "9" * 5000),
     ("compare", "--seeds", "9" * 5000)],
)  # fmt: skip
def test_flags_too(mint, given: tuple[str, ...]) -> None:
    answer = mint(*given)
    assert (answer.code, "Unexpected" in answer.err) == (2, False), answer.err


def test_seeds_and_ratios_of_a_comparison() -> None:
    for seeds in (10**12, "1000000000000", [2**32], "1,4294967296", "9" * 5000):
        with pytest.raises(ConfigError):
            parse_seeds(seeds, 0)
    assert parse_seeds(3, 4) == (4, 5, 6)
    with pytest.raises(ConfigError):
        parse_ratios("9" * 5000 + "/1")
