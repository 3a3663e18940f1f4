"""What took hours is never replaced unasked, and no report stands beside what it does not tell of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from mint_core.config import Resolved
from mint_core.errors import ConfigError
from mint_core.files import digest_of, read_json
from mint_core.runs.folder import RunFolder, describe_change
from mint_core.runs.record import RECORD
from mint_core.stages import STAGES
from mint_core.stages.card import withdraw_results
from mint_core.stages.outputs import ADAPTER
from mint_core.stages.run import Run
from mint_core.stages.stage import Manifest, Stage

_SHOWN = 4
"""Options that a message names."""
_LONGEST = 60
_DIGEST = re.compile("[0-9a-f]{32}")
WAYS_ON = "Choose another --name, where all that stays the same is copied, or add --overwrite"


def check_kept(run: Run, folder: RunFolder, planned: Sequence[Stage]) -> None:
    """Refuses a run that would replace what a run of another config left in the folder, before anything is done.

    Args:
        run: The run, before its first stage.
        folder: Its folder.
        planned: The stages that it will come to.

    Raises:
        ConfigError: It would.
    """
    for stage in STAGES:
        if stage.kept and not stage.belongs_to(run.resolved) and folder.manifest(stage.name) is not None:
            raise _refusal(run, folder, stage)
    missing: set[str] = set()
    try:
        for stage in planned:
            _check_stage(run, folder, stage, missing)
            if stage.name in missing and stage is planned[0]:
                return  # nothing else can be compared
    finally:
        run.made.clear()


def _check_stage(run: Run, folder: RunFolder, stage: Stage, missing: set[str]) -> None:
    """Compares one stage as far as it can be before it is made; `missing` gets it where it will be made."""
    inputs, manifest = stage.all_inputs(run), folder.manifest(stage.name)
    if manifest is not None:
        to_come = {name for earlier, names in stage.reads.items() if earlier in missing for name in names}
        changed = set(describe_change(manifest, inputs)) - to_come.intersection(manifest.inputs) | {
            name for name in to_come if name not in manifest.inputs
        }
        if not changed:
            run.made[stage.name] = manifest
            return
        refuse_to_replace(run, folder, stage, inputs)
    elif stage.kept and not missing and folder.begun(stage.name, digest_of(inputs)):
        raise _refusal(run, folder, stage, finished=False)
    missing.add(stage.name)


def refuse_to_replace(run: Run, folder: RunFolder, stage: Stage, inputs: Mapping[str, Any]) -> None:
    """Refuses to make a stage again with other inputs where it, or one behind it, took long.

    Args:
        run: The run.
        folder: Its folder.
        stage: The stage; its manifest is that of another config.
        inputs: What decides its result now.

    Raises:
        ConfigError: One of them did.
    """
    manifest = folder.manifest(stage.name)
    changed = list(_differences(manifest.inputs, inputs, inputs)) if manifest else []
    for lost in STAGES[STAGES.index(stage) :]:
        if lost.kept and folder.manifest(lost.name) is not None:
            raise _refusal(run, folder, lost, changed)


def _refusal(
    run: Run, folder: RunFolder, stage: Stage, changed: Sequence[str] = (), *, finished: bool = True
) -> ConfigError:
    """The refusal; `changed` is told where the options are the same: other data, other versions."""
    try:
        before = read_json(folder.path / RECORD)["config"]
    except (OSError, ValueError, KeyError, TypeError):
        before = None
    told = differences(before, run.resolved) if isinstance(before, Mapping) else []
    what = ", ".join(told or _few(changed)) or "nobody knows of which config"
    state = "a finished" if finished else "an unfinished"
    return ConfigError(
        f"{folder.path} holds {state} '{stage.name}' of another run ({what}), which this one would replace. {WAYS_ON}."
    )


def differences(before: Mapping[str, Any], now: Resolved) -> list[str]:
    """The options that decide results and differ from those of an earlier run, as `aligner.weight: 1.0, now 0.5`.

    Args:
        before: The config of its record.
        now: The config at hand.
    """
    return _few(list(_differences(before, now.dump(), now.decisive())))


def _few(told: Sequence[str]) -> list[str]:
    return [*told[:_SHOWN], *([f"and {len(told) - _SHOWN} more"] if len(told) > _SHOWN else [])]


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any], decisive: Mapping[str, Any], path: str = ""
) -> Iterator[str]:
    for key in (*decisive, *(key for key in before if key not in now)):
        old, new, inner = before.get(key), now.get(key), decisive.get(key)
        if json.dumps(old, default=str) == json.dumps(new, default=str):
            continue
        within = isinstance(old, Mapping) and isinstance(new, Mapping) and isinstance(inner, Mapping)
        if within and cast(Any, old).get("name") == cast(Any, new).get("name"):
            yield from _differences(cast(Any, old), cast(Any, new), cast(Any, inner), f"{path}{key}.")
        elif all(isinstance(one, str) and _DIGEST.fullmatch(one) for one in (old, new)):
            yield f"{path}{key}: other content"
        else:
            yield f"{path}{key}: {_shown(old)}, now {_shown(new)}"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("name", value)
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def withdraw_judgement(folder: RunFolder, stage: Stage) -> bool:
    """Removes what tells of a stage that is about to be made again: numbers and report.

    Returns:
        Whether there were numbers.
    """
    had = folder.manifest("evaluate") is not None
    behind = [later for later in STAGES[STAGES.index(stage) + 1 :] if later.judges]
    for later in behind:
        folder.withdraw(later.name, later.writes)
    if had and behind:
        withdraw_results(folder.path / ADAPTER)
    return had and bool(behind)


def withdraw_stale(folder: RunFolder, stage: Stage, made: Manifest) -> None:
    """Removes what later stages made of other outputs than a stage has now; what came out the same stays."""
    gone: set[str] = set()
    for later in STAGES[STAGES.index(stage) + 1 :]:
        manifest = folder.manifest(later.name)
        if manifest is None:
            continue
        read = manifest.inputs
        if gone & read.keys() or any(name in read and read[name] != digest for name, digest in made.outputs.items()):
            folder.withdraw(later.name, later.writes)
            gone.update(manifest.outputs)
            if later.judges:
                withdraw_results(folder.path / ADAPTER)
