"""The one file that imports trl: the same methods, trained by TRL's trainers as a reference for text students.

TRL gets mint's own token ids, so that both engines read the same rows; it never sees or logs a prompt's text. A group
is expanded into its pairs, one row of data each.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PrinterCallback, TrainingArguments

from mint_core.aligners.batches import check_groups
from mint_core.aligners.checkpoints import usable_checkpoint
from mint_core.aligners.settings import TrainingConfig, TrainingSettings, settle
from mint_core.aligners.trainer import (
    Guard,
    PhaseResult,
    adapted_layers,
    count_parameters,
    fresh_adapter,
    plan,
    save,
)
from mint_core.errors import ConfigError, TrainingError
from mint_core.interfaces import AlignmentJob, AlignmentResult
from mint_core.students.encoding import check_length, context_length, encode_prompt, encode_response
from mint_core.students.prompts import write_response
from mint_core.types import PreferenceGroup

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
    rejected: bool = True
    """Whether it reads the rejected responses."""
    takes_ids: bool = False
    """Whether its constructor takes rows that are token ids already."""
    needs_limit: bool = False
    """Whether it reads a missing length limit as 512."""


SFT = Method("SFT", "trl", _sft_row, rejected=False, takes_ids=True)
DPO = Method("DPO", "trl", _dpo_row)
ORPO = Method("ORPO", "trl.experimental.orpo", _orpo_row, needs_limit=True)


@dataclass(frozen=True, slots=True)
class TrlPhase:
    """One pass of training by TRL."""

    method: Method
    job: AlignmentJob
    """Its groups are single pairs."""
    arguments: TrainingArguments
    options: dict[str, Any]
    """What the method's TRL config has beside them."""
    steps: int


def train_by_trl(
    job: AlignmentJob, config: TrainingConfig, method: Method, options: dict[str, Any], extra: dict[str, Any]
) -> AlignmentResult:
    """Trains a LoRA adapter in one phase of TRL and saves it.

    Args:
        job: Student, groups, prompts, where to write.
        config: Training options; `batch_size` counts pairs.
        method: SFT or ORPO.
        options: What the method's TRL config has beside the training arguments.
        extra: Settings of the method, for the record.

    Raises:
        ConfigError: trl is not installed, the student reads images, or a group carries weights.
        TrainingError: A gradient is not finite.
    """
    settings = settle(config, count_parameters(job.student))
    phase = plan_trl(job, config, settings, method, work=job.work, options=options)
    model = fresh_adapter(job, config, settings)
    done = fit_trl(model, phase)
    save(model, job.adapter)
    return AlignmentResult(
        steps=done.steps,
        final_loss=done.history[-1]["loss"],
        history=done.history,
        settings={
            **config.model_dump(mode="json"),
            **asdict(settings),
            **extra,
            **trl_record(phase),
            "trainable_layers": adapted_layers(model),
        },
    )


def trl_record(phase: TrlPhase) -> dict[str, Any]:
    """What the run record says of the engine."""
    return {"trl": _trl_version(), "rows": len(phase.job.groups)}


def plan_trl(
    job: AlignmentJob,
    config: TrainingConfig,
    settings: TrainingSettings,
    method: Method,
    *,
    work: Path,
    options: dict[str, Any],
) -> TrlPhase:
    """A phase, checked before anything is computed.

    Args:
        job: Groups and student.
        config: Training options.
        settings: The same with the preset filled in.
        method: Which of TRL's trainers.
        work: Where the phase's checkpoints go, and no other phase's.
        options: What the method's TRL config has beside the training arguments.

    Raises:
        ConfigError: trl is not installed, the student reads images, a group carries weights, or the warm-up is as long
            as the training.
    """
    check_groups(job.groups, rejected=method.rejected)
    _refuse(job)
    trl_class(method, "Trainer")
    pairs = replace(job, groups=expand(job.groups, rejected=method.rejected))
    planned = plan(pairs, config, settings, lambda _: {}, work)
    return TrlPhase(method, pairs, planned.arguments, options, planned.steps)


def expand(groups: Sequence[PreferenceGroup], *, rejected: bool) -> list[PreferenceGroup]:
    """One group per chosen x rejected pair, or per chosen response."""
    if not rejected:
        return [PreferenceGroup(group.sample_id, (chosen,), ()) for group in groups for chosen in group.chosen]
    return [
        PreferenceGroup(group.sample_id, (chosen,), (worse,))
        for group in groups
        for chosen, worse in product(group.chosen, group.rejected)
    ]


def fit_trl(model: Any, phase: TrlPhase, *, before: int = 0, total: int | None = None) -> PhaseResult:
    """Trains the adapter on `model` further, from the newest complete checkpoint of this phase where there is one.

    Args:
        model: The student with an adapter that has gradients. For DPO the adapter as it stands is the reference.
        phase: What to do.
        before: Steps of earlier phases.
        total: Steps of all phases; None = of this one.

    Raises:
        TrainingError: A gradient is not finite.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    job = phase.job
    rows = Dataset.from_list([_row(job, phase.method, group) for group in job.groups])
    arguments = {field.name: getattr(phase.arguments, field.name) for field in fields(phase.arguments) if field.init}
    # Nothing is cut: mint has checked the lengths.
    limit = (context_length(job.student) or 2**20) if phase.method.needs_limit else None
    config = trl_class(phase.method, "Config")(**arguments, max_length=limit, **phase.options)
    config._n_gpu = min(config.n_gpu, 1)
    trainer = trl_class(phase.method, "Trainer")(
        model=model,
        args=config,
        train_dataset=rows if phase.method.takes_ids else Dataset.from_list(_PLACEHOLDER),
        processing_class=job.student.tokenizer,
        callbacks=[
            TrlGuard(lambda step, figures: job.advance(before + step, total or phase.steps, figures)),
        ],
    )
    trainer.train_dataset = rows
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=usable_checkpoint(Path(config.output_dir), phase.steps))
    if "ref" in model.peft_config:
        model.delete_adapter("ref")  # TRL's copy of the reference, which would be saved beside the adapter
    history = tuple({**entry, "step": entry["step"] + before} for entry in trainer.state.log_history if "loss" in entry)
    return PhaseResult(trainer.state.global_step, history)


class TrlGuard(Guard):
    """Stops on gradients that are not finite; TRL does not say which samples a batch holds."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Checks every gradient before it is used."""
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        norm = torch.stack([gradient.detach().float().norm() for gradient in gradients]).norm()
        if not bool(torch.isfinite(norm)):
            raise TrainingError(
                f"A gradient is not finite in step {state.global_step + 1} under engine trl, which does not say for "
                "which samples; nothing was saved. --set aligner.engine=mint names them."
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Reports progress, and logs the last step so that the history always ends with it."""
        control.should_log = control.should_log or state.global_step >= state.max_steps
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        self.advance(state.global_step, {"loss": losses[-1]} if losses else {})


def trl_class(method: Method, kind: Literal["Trainer", "Config"]) -> Any:
    """A class of trl, for example DPOTrainer.

    Raises:
        ConfigError: trl is not installed, or this version lacks the method.
    """
    _stay_silent()
    try:
        importlib.import_module("trl")
    except ImportError:
        raise ConfigError(
            "aligner.engine=trl needs trl, which is not installed here; pip install 'mint-core[trl]', or leave "
            "aligner.engine out."
        ) from None
    try:
        return getattr(importlib.import_module(method.module), f"{method.prefix}{kind}")
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"trl {_trl_version()} has no {method.prefix} trainer any more; leave aligner.engine out."
        ) from error


def _stay_silent() -> None:
    """No usage ping when a trainer is made, and no banner about experimental parts."""
    from huggingface_hub import constants

    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    constants.HF_HUB_DISABLE_TELEMETRY = True  # where huggingface_hub was imported before, it has read the variable
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


def _trl_version() -> str:
    from importlib.metadata import version

    return version("trl")


def _refuse(job: AlignmentJob) -> None:
    """What TRL cannot train.

    Raises:
        ConfigError: The student reads images, or a group carries weights.
    """
    if job.student.reads_images:
        raise ConfigError(
            f"aligner.engine=trl trains text students only, and {job.student.source} reads images; leave "
            "aligner.engine out."
        )
    weighted = next((g.sample_id for g in job.groups if g.chosen_weights or g.rejected_weights), None)
    if weighted is not None:
        raise ConfigError(
            f"aligner.engine=trl knows no weights, and the responses of sample {weighted} carry some; leave "
            "aligner.engine out, or --set strategy.weights=uniform without strategy.truth_share."
        )


def _row(job: AlignmentJob, method: Method, group: PreferenceGroup) -> Row:
    prompt = encode_prompt(job.student, group.sample_id, job.prompts[group.sample_id])
    ids = prompt.tensors["input_ids"][0].tolist()
    responses: list[list[int]] = []
    for labels in (*group.chosen, *group.rejected):
        responses.append(encode_response(job.student, write_response(job.header, labels), prompt.end_of_turn))
        check_length(job.student, group.sample_id, len(ids) + len(responses[-1]))
    return method.row(ids, responses)
