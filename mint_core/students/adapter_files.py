"""The files of an adapter's folder, judged before a library reads them: what is damaged or unknown is one sentence.

An adapter may come from anywhere. Nothing here is allocated, compiled or run on its word: its config may only name
plain LoRA on layers by their names, and no rank beyond that of the weights beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mint_core.errors import ModelError
from mint_core.files import digest_of_path, read_json, write_json

RECORD = "mint.json"
"""What mint writes beside the weights, see `mint_core.answering.record`."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_KINDS = {"run.json": "a run", "compare.json": "a comparison", "sweep.json": "a sweep"}
"""What mint made of a folder that holds such a file."""
_SHOWN = 20
"""Adapters that a message names."""
_LARGEST_CONFIG = 16 * 2**20
"""Bytes; a list of all linear layers of the largest students takes a few hundred kilobytes."""
_LARGEST_NUMBER = 1e9
_LAYER = re.compile(r"[\w.-]{1,500}")
_PATTERN = re.compile(r"\^?[\w.-]{1,500}\$?")
"""A key of `rank_pattern`: a layer's name, which peft reads as a regular expression."""
_TENSOR = re.compile(
    r"base_model\.model\.[\w.-]+\.(lora_[AB]\.weight|lora_B\.bias|lora_embedding_[AB]|lora_magnitude_vector)"
)


def put_in_order(adapter: Path) -> None:
    """Sorts the names in an adapter's config: peft writes sets, whose order is another one in every process.

    Args:
        adapter: The adapter's folder; one without a config is left as it is.
    """
    file = adapter / CONFIG
    if not file.is_file():
        return
    config = read_json(file)
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    write_json(file, config)


def describe_files(adapter: Path) -> dict[str, dict[str, Any]]:
    """Size and digest of the files that decide what an adapter answers, for its record.

    Args:
        adapter: The adapter's folder.
    """
    return {
        name: {"bytes": (adapter / name).stat().st_size, "digest": digest_of_path(adapter / name)}
        for name in (CONFIG, WEIGHTS)
    }


def changed_files(adapter: Path, recorded: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the files that are not as `describe_files` found them: changed, cut short or missing.

    Args:
        adapter: The adapter's folder.
        recorded: What its record says.
    """
    changed = []
    for name, known in recorded.items():
        file = adapter / Path(name).name
        if not file.is_file() or file.stat().st_size != known["bytes"] or digest_of_path(file) != known["digest"]:
            changed.append(name)
    return changed


def read_about(file: Path, adapter: Path, whole: Callable[[Mapping[str, Any]], object]) -> dict[str, Any] | None:
    """What was measured of an adapter and written beside it; None where it is not there, or is about another adapter.

    Args:
        file: JSON with `adapter`: the files of the adapter as `describe_files` found them, none where there was none.
        adapter: The adapter that lies there now, or would lie.
        whole: Reads what must be in it, and fails on what is damaged or was written by another mint.
    """
    try:
        content = read_json(file)
        known = content["adapter"]
        same = not changed_files(adapter, known) if known else not (adapter / CONFIG).exists()
        whole(content)
        return dict(content) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def explain_change(adapter: Path, changed: list[str]) -> str:
    """One sentence on files that are not those of the training."""
    return (
        f"{' and '.join(changed)} in {adapter} {'is' if len(changed) == 1 else 'are'} not as the training left "
        f"{'it' if len(changed) == 1 else 'them'}"
    )


def explain_other_folder(folder: Path, option: str) -> str:
    """One sentence on a folder that is no adapter: what it is, and which folders inside are adapters.

    Args:
        folder: What was named as an adapter.
        option: What stands before its path, such as `--adapter `.

    Returns:
        Empty where it holds an adapter of another program or of an older mint, or does not exist.
    """
    if (folder / CONFIG).is_file() or not folder.is_dir():
        return ""
    inside = sorted(path.parent for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}adapter/{RECORD}"))
    with_option = f"with {option.strip(' =')}"
    kind = next((kind for name, kind in _KINDS.items() if (folder / name).is_file()), "")
    if not inside:
        made = f"is {kind} without an adapter" if kind else f"is no adapter: it holds no {RECORD} and no {CONFIG}"
        return f"{folder} {made}; name the adapter/ folder of a run that trained one {with_option}."
    shown = [str(path) for path in inside[:_SHOWN]] + ([f"{len(inside) - _SHOWN} more"] if inside[_SHOWN:] else [])
    which = f"give {option}{shown[0]}" if len(inside) == 1 else f"give one of these {with_option}: {', '.join(shown)}"
    return f"{folder} is {kind or 'a folder of runs'}, not an adapter; {which}."


def check_recorded(adapter: Path) -> None:
    """Refuses an adapter whose files differ from what its own mint.json says; one without a record passes.

    Raises:
        ModelError: A file was changed or damaged.
    """
    try:
        known = read_json(adapter / RECORD).get("files")
        changed = changed_files(adapter, known) if known else []
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ModelError(f"{adapter / RECORD} cannot be read; copy the adapter/ folder of its run again.") from None
    if changed:
        raise ModelError(
            f"{explain_change(adapter, changed)}; copy the adapter/ folder of its run again, or delete {RECORD} where "
            "you changed it on purpose."
        )


def check_files(adapter: Path) -> None:
    """Refuses a folder that holds no plain LoRA adapter in safetensors, whatever stands in its files.

    Raises:
        ModelError: It does not.
    """
    if not (adapter / CONFIG).is_file():
        raise ModelError(f"{adapter} holds no {CONFIG}; name the adapter/ folder of a run.")
    if not (adapter / WEIGHTS).is_file():
        raise ModelError(f"{adapter} holds no {WEIGHTS}, and pickled weights are not read; run `mint align` again.")
    config = _read_config(adapter)
    _check_config(adapter, config)
    largest = max(_ranks(adapter), default=0)
    ranks = [config["r"], *(config.get("rank_pattern") or {}).values()]
    if max(ranks) > largest:
        raise _damaged(adapter, f"{CONFIG} says rank {max(ranks)}, and the weights have {largest}")


def tensor_shapes(adapter: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the adapter's tensors by name, from the header of its file.

    Raises:
        ModelError: The file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(adapter / WEIGHTS, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(adapter, f"{WEIGHTS} cannot be read") from error


def check_finite(adapter: Path) -> None:
    """Refuses weights that are not finite: a student with them answers with numbers that mean nothing.

    Raises:
        ModelError: There are some, or the file is damaged.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(adapter / WEIGHTS, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - no mapping
                tensor = file.get_tensor(key)
                if not tensor.is_floating_point():
                    raise _damaged(adapter, f"{key} in {WEIGHTS} holds no fractions")
                if not bool(torch.isfinite(tensor.float()).all()):
                    raise ModelError(
                        f"The adapter in {adapter} holds weights that are not finite ({key}); train it again, with a "
                        "lower learning rate or in fp32."
                    )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(adapter, f"{WEIGHTS} cannot be read") from error


def _damaged(adapter: Path, reason: str) -> ModelError:
    return ModelError(f"The adapter in {adapter} is damaged ({reason}); run the aligner that made it again.")


def _read_config(adapter: Path) -> dict[str, Any]:
    try:
        if (adapter / CONFIG).stat().st_size > _LARGEST_CONFIG:
            raise ValueError
        content = read_json(adapter / CONFIG)
    except (OSError, ValueError):
        raise _damaged(adapter, f"{CONFIG} cannot be read") from None
    if not isinstance(content, dict):
        raise _damaged(adapter, f"{CONFIG} holds no mapping")
    return content


def _check_config(adapter: Path, config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise ModelError(
            f"The adapter in {adapter} is no LoRA adapter (peft_type in {CONFIG}); name the adapter/ folder of a run."
        )
    for key, value in config.items():
        known = _KEYS.get(key)
        if known is None and value not in (None, False, "", [], {}):
            raise ModelError(
                f"The adapter in {adapter} needs `{key}`, which mint does not take: adapters here are plain LoRA; "
                "train one with `mint align`."
            )
        if known is not None and value is not None and not known(value):
            raise _damaged(adapter, f"`{key}` in {CONFIG} has a value that it cannot have")
    for key in ("r", "target_modules"):
        if config.get(key) is None:
            raise _damaged(adapter, f"{CONFIG} has no `{key}`")


def _ranks(adapter: Path) -> set[int]:
    """The ranks of the weights, whose names and shapes are checked on the way."""
    ranks = set()
    for name, shape in tensor_shapes(adapter).items():
        if not _TENSOR.fullmatch(name):
            raise ModelError(
                f"The adapter in {adapter} holds {name[:100]!r}, which is no LoRA weight: it changes more than mint "
                "takes; train one with `mint align`."
            )
        if name.endswith((".lora_A.weight", ".lora_embedding_A")):
            if len(shape) != 2 or 0 in shape:
                raise _damaged(adapter, f"{name} in {WEIGHTS} has no rank")
            ranks.add(shape[0])
    return ranks


def _is_rank(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _LARGEST_NUMBER  # no NaN either


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _LAYER.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _names(value: Any) -> bool:
    """A list of layers; a text would be a regular expression, which mint does not run for a stranger."""
    return isinstance(value, list) and len(value) > 0 and all(map(_is_name, value))


def _targets(value: Any) -> bool:
    return value == "all-linear" or _names(value)


def _pattern_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        return isinstance(value, dict) and all(_PATTERN.fullmatch(key) and check(one) for key, one in value.items())

    return fits


def _numbers(value: Any) -> bool:
    return type(value) is int or (isinstance(value, list) and all(type(one) is int for one in value))


def _word(value: Any) -> bool:
    return value == [] or _is_name(value) or _names(value)


def _share(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


_KEYS: Mapping[str, Callable[[Any], bool]] = {
    "peft_type": _is_text,
    "peft_version": _is_text,
    "task_type": lambda value: value == "CAUSAL_LM",
    "base_model_name_or_path": _is_text,
    "revision": _is_text,
    "auto_mapping": lambda value: isinstance(value, dict),  # names classes, which nothing here looks up
    "inference_mode": _is_flag,
    "r": _is_rank,
    "lora_alpha": _is_number,
    "lora_dropout": _share,
    "target_modules": _targets,
    "exclude_modules": lambda value: value == [] or _names(value),
    "rank_pattern": _pattern_of(_is_rank),
    "alpha_pattern": _pattern_of(_is_number),
    "layers_to_transform": _numbers,
    "layers_pattern": _word,
    "fan_in_fan_out": _is_flag,
    "bias": lambda value: value == "none",
    "use_rslora": _is_flag,
    "use_dora": _is_flag,
    "lora_bias": _is_flag,
    "init_lora_weights": lambda value: isinstance(value, bool) or value in ("gaussian", "orthogonal"),
    "loftq_config": lambda value: value == {},
    "qalora_group_size": lambda value: type(value) is int,  # read only with `use_qalora`, which is refused
    "megatron_core": _is_text,  # read only with `megatron_config`, which is refused
}
"""What a plain LoRA adapter may say, and the values that each key can have."""
