"""The one file that imports trl: the same methods, trained by TRL's trainers as a reference for text students.

TRL gets mint's own token ids, so that both engines read the same rows; it never sees or logs a prompt's text. A group
is expanded into its pairs, one row of data each.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from itertools import product
from typing import Any, Literal

import torch
from transformers import TrainerCallback

from mint_core.plugin import AlignmentJob, AlignmentResult, ConfigError, PreferenceGroup, TrainingError
from mint_core.plugin.training import (
    PhaseResult,
    PreparedPhase,
    TrainingRows,
    adapted_layers,
    begin,
    context_length,
    count_parameters,
    prepare,
    progress,
    result,
    run_trainer,
    save,
)
from mint_trl.aligners import ByTrl

Row = dict[str, list[int]]
# What TRL's preference trainers tokenize when they are made; mint's rows take its place.
_PLACEHOLDER = [{"prompt": "Name it:", "chosen": " yes", "rejected": " no"}]


def _labelled(prompt: list[int], response: list[int]) -> Row:
    return {"input_ids": [*prompt, *response], "labels": [-100] * len(prompt) + response}


def _sft_row(prompt: list[int], responses: Sequence[list[int]]) -> Row:
    return _labelled(prompt, responses[0])


def _dpo_row(prompt: list[int], responses: Sequence[list[int]]) -> Row:
    return {"prompt_ids": prompt, "chosen_ids": responses[0], "rejected_ids": responses[1]}


def _orpo_row(prompt: list[int], responses: Sequence[list[int]]) -> Row:
    row = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
    for side, response in zip(("chosen", "rejected"), responses, strict=True):
        row |= {f"{side}_{key}": value for key, value in _labelled(prompt, response).items()}
        row[f"{side}_attention_mask"] = [1] * (len(prompt) + len(response))
    return row


@dataclass(frozen=True, slots=True)
class Method:
    """One of TRL's trainers."""

    prefix: str
    """Of its trainer's and its config's names."""
    module: str
    row: Callable[[list[int], Sequence[list[int]]], Row]
    """Token ids of a prompt and its responses in the columns of TRL's own tokenization."""
    options: Callable[[Any], dict[str, Any]] = lambda _: {}
    """What its config has beside the training arguments, for an aligner."""
    takes_ids: bool = False
    """Whether its constructor takes rows that are token ids already."""
    needs_limit: bool = False
    """Whether it reads a missing length limit as 512."""


METHODS = {
    "sft": Method("SFT", "trl", _sft_row, takes_ids=True),
    "dpo": Method("DPO", "trl", _dpo_row, lambda aligner: {"beta": aligner.beta}),
    "orpo": Method(
        "ORPO",
        "trl.experimental.orpo",
        _orpo_row,
        lambda aligner: {"beta": aligner.weight, "disable_dropout": False},
        needs_limit=True,
    ),
}
"""By the name of the phase."""


def train(job: AlignmentJob, aligner: ByTrl) -> AlignmentResult:
    """Trains a LoRA adapter, phase by phase, and saves it.

    Args:
        job: Student, groups, prompts, where to write.
        aligner: Options and phases; `batch_size` counts pairs.

    Raises:
        ConfigError: The student reads images, a group carries weights, or the warm-up is as long as a phase.
        TrainingError: A gradient is not finite.
    """
    aligner.check(job)
    parameters = count_parameters(job.student)
    settings = aligner.settings(parameters)
    prepared = [prepare(job, aligner, settings, phase) for phase in aligner.phases(parameters)]
    rows = TrainingRows(job, rejected=any(one.phase.rejected for one in prepared))
    rows.check_lengths()
    model = begin(job, aligner, settings)
    done = [fit(rows, aligner, model, one, **progress(prepared, one)) for one in prepared]
    save(model, job.adapter)
    facts = {"trl": version("trl"), "rows": prepared[-1].phase.units(job.groups)}
    facts |= {"dpo_dropout": 0.0} if prepared[-1].phase.reads_reference else {}
    return result({**aligner.record(settings), **facts, "trainable_layers": adapted_layers(model)}, prepared, done)


def expand(groups: Sequence[PreferenceGroup], *, rejected: bool) -> list[PreferenceGroup]:
    """One group per chosen x rejected pair, or per chosen response."""
    if not rejected:
        return [PreferenceGroup(group.sample_id, (chosen,), ()) for group in groups for chosen in group.chosen]
    return [
        PreferenceGroup(group.sample_id, (chosen,), (worse,))
        for group in groups
        for chosen, worse in product(group.chosen, group.rejected)
    ]


def fit(
    rows: TrainingRows, aligner: ByTrl, model: Any, prepared: PreparedPhase, *, before: int, total: int
) -> PhaseResult:
    """Trains the adapter on `model` further, from the newest complete checkpoint of this phase where there is one.

    Args:
        rows: The job and its rows as token ids.
        aligner: Options of the method.
        model: The student with an adapter that has gradients. For DPO the adapter as it stands is the reference.
        prepared: What to do.
        before: Steps of earlier phases.
        total: Steps of all phases.

    Raises:
        TrainingError: A gradient is not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the step that it is at is finished and saved.
    """
    from datasets import Dataset

    job, phase, given = rows.job, prepared.phase, prepared.arguments
    method = METHODS[phase.name]
    pairs = Dataset.from_list([_row(rows, method, pair) for pair in expand(job.groups, rejected=phase.rejected)])
    arguments = {field.name: getattr(given, field.name) for field in fields(given) if field.init}
    # Nothing is cut: mint has checked the lengths.
    limit = (context_length(job.student) or 2**20) if method.needs_limit else None
    config = trl_class(method, "Config")(**arguments, max_length=limit, **method.options(aligner))
    config._n_gpu = min(config.n_gpu, 1)
    trainer = trl_class(method, "Trainer")(
        model=model,
        args=config,
        train_dataset=pairs if method.takes_ids else Dataset.from_list(_PLACEHOLDER),
        processing_class=job.student.tokenizer,
        callbacks=[TrlGuard(lambda step, figures: job.advance(before + step, total, figures))],
    )
    trainer.train_dataset = pairs
    curve = run_trainer(trainer, job, prepared, before=before, total=total)
    if "ref" in model.peft_config:
        model.delete_adapter("ref")  # TRL's copy of the reference, which would be saved beside the adapter
    history = tuple({**entry, "step": entry["step"] + before} for entry in trainer.state.log_history if "loss" in entry)
    return PhaseResult(trainer.state.global_step, history, validation=curve)


class TrlGuard(TrainerCallback):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Stops on gradients that are not finite; TRL does not say which samples a batch holds.

    Args:
        advance: See `AlignmentJob.advance`, without all steps.
    """

    def __init__(self, advance: Callable[[int, dict[str, float]], None]) -> None:
        self.advance = advance

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Checks every gradient before it is used."""
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        norm = torch.stack([gradient.detach().float().norm() for gradient in gradients]).norm()
        if not bool(torch.isfinite(norm)):
            raise TrainingError(
                f"A gradient is not finite in step {state.global_step + 1} under TRL, which does not say for which "
                "samples; nothing was saved. mint's own aligner of that method names them."
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Reports progress, and logs the last step so that the history always ends with it."""
        control.should_log = control.should_log or state.global_step >= state.max_steps
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        self.advance(state.global_step, {"loss": losses[-1]} if losses else {})


def trl_class(method: Method, kind: Literal["Trainer", "Config"]) -> Any:
    """A class of trl, for example DPOTrainer.

    Raises:
        ConfigError: This version of trl lacks the method.
    """
    _stay_silent()
    try:
        return getattr(importlib.import_module(method.module), f"{method.prefix}{kind}")
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"trl {version('trl')} has no {method.prefix} trainer any more; take mint's own aligner of that method."
        ) from error


def _stay_silent() -> None:
    """No usage ping when a trainer is made, and no banner about experimental parts."""
    from huggingface_hub import constants

    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    constants.HF_HUB_DISABLE_TELEMETRY = True  # where huggingface_hub was imported before, it has read the variable
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


def check(job: AlignmentJob, aligner: ByTrl) -> None:
    """Refuses what TRL cannot train.

    Raises:
        ConfigError: The student reads images, a group carries weights, or trl has not got the method.
    """
    if job.student.reads_images:
        raise ConfigError(
            f"The aligner '{aligner.name}' trains text students only, and {job.student.source} reads images; take "
            "mint's own aligner of that method."
        )
    weighted = next((g.sample_id for g in job.groups if g.chosen_weights or g.rejected_weights), None)
    if weighted is not None:
        raise ConfigError(
            f"The aligner '{aligner.name}' knows no weights, and the responses of sample {weighted} carry some; take "
            "mint's own aligner of that method, or --set strategy.weights=uniform without strategy.truth_share."
        )
    for phase in aligner.phases(0):
        trl_class(METHODS[phase.name], "Trainer")


def _row(rows: TrainingRows, method: Method, pair: PreferenceGroup) -> Row:
    prompt = rows.prompt(pair.sample_id).tensors["input_ids"][0].tolist()
    return method.row(prompt, [rows.response(response) for response in (*pair.chosen, *pair.rejected)])
