"""Trackers of a training (TensorBoard, Weights & Biases …): whether they are there, and where they write.

They are sent numbers, the hyperparameters and the student's config; never a sample, a prompt or a response.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import integration_utils

from mint_core.errors import ConfigError, did_you_mean
from mint_core.files import digest_of

_LIBRARIES = {"azure_ml": "azureml", "comet_ml": "comet", "flyte": "flytekit"}
"""What transformers calls a tracker's library, where it does not bear the tracker's name."""
_PACKAGES = {"azure_ml": "azureml-core", "comet_ml": "comet-ml", "flyte": "flytekit"}
"""What pip calls it, by the same rule."""


def check(trackers: Sequence[str]) -> None:
    """Refuses trackers that do not exist, are not installed or would ask for a key hours later.

    Raises:
        ConfigError: One of them cannot be used.
    """
    known = integration_utils.INTEGRATION_TO_CALLBACK
    for name in trackers:
        if name not in known:
            raise ConfigError(f"aligner.report_to: there is no tracker '{name}'{did_you_mean(name, known)}.")
        if not getattr(integration_utils, f"is_{_LIBRARIES.get(name, name)}_available")():
            raise ConfigError(
                f"aligner.report_to: the tracker '{name}' is not ready on this machine; run "
                f"`pip install {_PACKAGES.get(name, name)}`, or leave it out."
            )
    if "wandb" in trackers:
        import wandb

        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise ConfigError(
                "aligner.report_to: Weights & Biases knows no key of yours; run `wandb login`, or set "
                "WANDB_MODE=offline."
            )


@contextmanager
def reporting(trackers: Sequence[str], logs: Path | None) -> Iterator[list[Any]]:
    """The Trainer's callbacks for trackers that write into a folder, until the training is over.

    Args:
        trackers: Their names.
        logs: The folder, one per training; its files outlive it. None = nothing is reported.
    """
    if not trackers or logs is None:
        yield []
        return
    logs.mkdir(parents=True, exist_ok=True)
    defaults = {
        "TENSORBOARD_LOGGING_DIR": str(logs.absolute()),
        "MLFLOW_TRACKING_URI": f"sqlite:///{logs.absolute() / 'mlflow.db'}",
    }
    wanted = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(wanted)
    try:
        with _wandb_run(logs) if "wandb" in trackers else nullcontext():
            yield [integration_utils.INTEGRATION_TO_CALLBACK[name]() for name in trackers]
    finally:
        for name in wanted:
            os.environ.pop(name, None)


def send(trackers: Sequence[str], logs: Path, figures: Mapping[str, float], step: int) -> None:
    """Sends final figures to TensorBoard and Weights & Biases, into the folder or run of the training.

    Args:
        trackers: Those of the training; the others have no place for what comes after it.
        logs: See `reporting`.
        figures: By name.
        step: Where the training ended.
    """
    if "wandb" in trackers:
        with _wandb_run(logs) as run:
            run.summary.update({name.replace("_", "/", 1): value for name, value in figures.items()})
    if "tensorboard" in trackers:
        arguments, state = TrainingArguments(output_dir=str(logs), report_to="none"), TrainerState(global_step=step)
        with reporting(["tensorboard"], logs) as (callback,):
            callback.on_log(arguments, state, TrainerControl(), logs=dict(figures))
            callback.on_train_end(arguments, state, TrainerControl())


@contextmanager
def _wandb_run(logs: Path) -> Iterator[Any]:
    """The run of Weights & Biases that belongs to a folder, or the one that the program has open.

    A training that is resumed goes on with its own run, and the next one in this process gets another.
    """
    import wandb

    if wandb.run is not None:
        yield wandb.run
        return
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "mint"),
        dir=os.environ.get("WANDB_DIR", str(logs)),
        name=os.environ.get("WANDB_NAME", run_name(logs)),
        id=os.environ.get("WANDB_RUN_ID", digest_of(run_name(logs))[:16]),
        resume="allow",
        # what the screen shows and where the program lies is no one else's business
        settings=wandb.Settings(console="off", disable_git=True, save_code=False, quiet=True),
    )
    try:
        yield run
    finally:
        run.finish()


def run_name(logs: Path) -> str:
    """What a tracker calls a training: the names of its run and its phase."""
    return f"{logs.parent.name}-{logs.name}"
