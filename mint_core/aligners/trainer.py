"""The training engine: transformers' Trainer over preference groups.

Accelerate, checkpoints and trackers come with the Trainer. Every response of a group is one row behind the same prompt;
the rows of a group stand in one batch. The loss of a batch is the mean over its groups, and within a group the mean
over all chosen x rejected pairs.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from mint_core.aligners.lora import add_lora, target_modules
from mint_core.aligners.losses import ResponseLogProbs, response_log_probs
from mint_core.aligners.settings import TrainingConfig, TrainingSettings, settle
from mint_core.errors import ConfigError, DataError, TrainingError
from mint_core.interfaces import AlignmentJob, AlignmentResult
from mint_core.students.encoding import append_response, check_length, encode_prompt, encode_response, stack
from mint_core.students.prompts import write_response
from mint_core.students.student import Student
from mint_core.types import PreferenceGroup

_COMPLETE = "mint-complete"
"""Marks a checkpoint whose last byte is written; transformers would resume from the newest even when it is not."""


@dataclass(frozen=True, slots=True)
class GroupLogProbs:
    """One group's responses as the loss sees them."""

    chosen: ResponseLogProbs
    rejected: ResponseLogProbs
    whole_nll: Tensor
    """(k',): mean negative log-likelihood over prompt and response of the chosen rows; only filled for `nll: all`."""


GroupLoss = Callable[[GroupLogProbs], dict[str, Tensor]]
"""From one group's log-probabilities to scalars: `loss` and what else is worth logging."""


class GroupDataset(Dataset[PreferenceGroup]):
    """The preference groups, in order."""

    def __init__(self, groups: Sequence[PreferenceGroup]) -> None:
        self.groups = groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, position: int) -> PreferenceGroup:
        return self.groups[position]


class GroupCollator:
    """Encodes groups: `labels` marks response tokens, `prompt_lengths` says where they begin."""

    def __init__(self, student: Student, job: AlignmentJob) -> None:
        self.student = student
        self.job = job

    def __call__(self, groups: Sequence[PreferenceGroup]) -> dict[str, Any]:
        """One batch: rows of tensors, and per group its id and its numbers of chosen and rejected rows."""
        rows, starts = [], []
        for group in groups:
            prompt = encode_prompt(self.student, group.sample_id, self.job.prompts[group.sample_id])
            for response in (*group.chosen, *group.rejected):
                ids = encode_response(self.student, write_response(self.job.header, response), prompt.end_of_turn)
                check_length(self.student, group.sample_id, prompt.length + len(ids))
                rows.append(append_response(prompt, ids))
                starts.append(prompt.length)
        tokenizer = self.student.tokenizer
        batch: dict[str, Any] = dict(stack(rows, tokenizer.pad_token_id, "right"))
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for row, start in enumerate(starts):
            labels[row, :start] = -100
        return {
            "model": batch,
            "labels": labels,
            "first": min(starts),
            "groups": [(group.sample_id, len(group.chosen), len(group.rejected)) for group in groups],
        }


class GroupTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Trainer whose loss is a function of each group's log-probabilities."""

    # The loss is a mean over the batch, so the Trainer divides it by the number of accumulated batches.
    loss_is_scaled_for_ga = False

    def __init__(self, *args: Any, group_loss: GroupLoss, whole: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False
        self.group_loss = group_loss
        self.whole = whole
        self.recent_ids: list[str] = []
        self.figures: dict[str, float] = {}
        innermost = _innermost(self.model)
        self._keeps_logits = "logits_to_keep" in inspect.signature(innermost.forward).parameters
        self._image_token = getattr(innermost.config, "image_token_id", None)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """Mean over the groups of the batch."""
        labels, groups = inputs["labels"], inputs["groups"]
        self.recent_ids += [sample_id for sample_id, _, _ in groups]
        extra: dict[str, Any] = {"use_cache": False}
        if self._keeps_logits and not self.whole:
            extra["logits_to_keep"] = labels.shape[1] - inputs["first"] + 1
        outputs = model(**inputs["model"], **extra)
        logits = outputs.logits
        scored = response_log_probs(logits, labels[:, labels.shape[1] - logits.shape[1] :])
        whole = _whole_nll(logits, inputs["model"], self._image_token) if self.whole else -scored.average
        per_group = []
        row = 0
        for sample_id, n_chosen, n_rejected in groups:
            chosen = slice(row, row + n_chosen)
            rejected = slice(row + n_chosen, row + n_chosen + n_rejected)
            row += n_chosen + n_rejected
            values = self.group_loss(
                GroupLogProbs(
                    ResponseLogProbs(*(t[chosen] for t in scored)),
                    ResponseLogProbs(*(t[rejected] for t in scored)),
                    whole[chosen],
                )
            )
            if not bool(torch.isfinite(values["loss"])):
                raise TrainingError(
                    f"The loss of sample {sample_id} is not finite; nothing was saved. {_NOT_FINITE_ADVICE}"
                )
            per_group.append(values)
        means = {key: torch.stack([values[key] for values in per_group]).mean() for key in per_group[0]}
        self.figures = {key: float(value.detach()) for key, value in means.items()}
        loss = means["loss"]
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the method's figures; what is logged here survives an interruption, in the checkpoint's state."""
        super().log({**self.figures, **logs} if "loss" in logs else logs, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the Trainer's estimate knows neither images nor shared prompts."""
        return 0


_NOT_FINITE_ADVICE = "Lower aligner.learning_rate, or train in fp32 (--set student.dtype=fp32)."


class Guard(TrainerCallback):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Stops on gradients that are not finite, marks complete checkpoints, reports progress."""

    def __init__(self, job: AlignmentJob) -> None:
        self.job = job
        self.trainer: GroupTrainer | None = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Checks every gradient before it is used."""
        assert self.trainer is not None  # noqa: S101 - set by train()
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        norm = torch.stack([gradient.detach().float().norm() for gradient in gradients]).norm()
        if not bool(torch.isfinite(norm)):
            ids = ", ".join(self.trainer.recent_ids)
            raise TrainingError(
                f"A gradient is not finite in step {state.global_step + 1}, samples {ids}; nothing was saved. "
                f"{_NOT_FINITE_ADVICE}"
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Reports progress, and logs the last step so that the history always ends with it."""
        assert self.trainer is not None  # noqa: S101 - set by train()
        self.trainer.recent_ids = []
        control.should_log = control.should_log or state.global_step >= state.max_steps
        self.job.advance(state.global_step, state.max_steps, self.trainer.figures)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Marks the checkpoint as complete. Only the process that writes the weights knows when they are written."""
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def train(
    job: AlignmentJob, config: TrainingConfig, group_loss: GroupLoss, *, whole: bool = False, extra: Mapping[str, Any]
) -> AlignmentResult:
    """Trains a LoRA adapter and saves it.

    Args:
        job: Student, groups, prompts, where to write.
        config: Training options.
        group_loss: The method.
        whole: Also compute the likelihood of the prompt, for `nll: all`.
        extra: Settings of the method, for the record.

    Raises:
        TrainingError: A loss or a gradient is not finite.
        DataError: There is no group, or a response is empty.
        ConfigError: The warm-up is as long as the training, or the GPU is not the first one.
    """
    check_groups(job.groups)
    student = job.student
    settings = settle(config, sum(p.numel() for p in student.model.parameters()))
    torch.manual_seed(job.seed)
    names = target_modules(student.model, settings.lora_targets, vision=config.lora_vision)
    model = add_lora(student.model, names, settings.lora_rank, settings.lora_alpha, config.lora_dropout)
    guard = Guard(job)
    trainer = GroupTrainer(
        model=model,
        args=_arguments(job, config, settings),
        train_dataset=GroupDataset(job.groups),
        data_collator=GroupCollator(student, job),
        callbacks=[guard],
        group_loss=group_loss,
        whole=whole,
    )
    guard.trainer = trainer
    trainer.remove_callback(_printer())
    trainer.train(resume_from_checkpoint=newest_complete_checkpoint(job.work))
    # peft would ask the hub whether the vocabulary grew; adapters of mint never hold embeddings.
    model.save_pretrained(str(job.adapter), safe_serialization=True, save_embedding_layers=False)
    history = tuple(entry for entry in trainer.state.log_history if "loss" in entry)
    return AlignmentResult(
        steps=trainer.state.global_step,
        final_loss=history[-1]["loss"],
        history=history,
        settings={**config.model_dump(mode="json"), **asdict(settings), **extra, "trainable_layers": len(names)},
    )


def check_groups(groups: Sequence[PreferenceGroup]) -> None:
    """Refuses what cannot be trained on.

    Raises:
        DataError: There is no group, or a response is empty.
    """
    if not groups:
        raise DataError("There is no preference group to train on; the training split is empty.")
    for group in groups:
        responses = (*group.chosen, *group.rejected)
        if not group.chosen or not group.rejected or any(not any(label.strip() for label in r) for r in responses):
            raise DataError(f"Sample {group.sample_id} has an empty response; an empty response has no probability.")


def newest_complete_checkpoint(work: Path) -> str | None:
    """The newest checkpoint whose writing was finished, or None."""
    complete = [path.parent for path in work.glob(f"checkpoint-*/{_COMPLETE}")]
    return str(max(complete, key=lambda path: int(path.name.split("-")[1]))) if complete else None


def _arguments(job: AlignmentJob, config: TrainingConfig, settings: TrainingSettings) -> TrainingArguments:
    """Transformers' own arguments, with its surprising defaults set right.

    Raises:
        ConfigError: The warm-up is as long as the training, or the GPU is not the first one.
    """
    device = job.student.device
    on_gpu = device.type == "cuda"
    if on_gpu and device.index:
        raise ConfigError(
            f"Training runs on the first visible GPU, not on {device}; hide the others instead: "
            f"CUDA_VISIBLE_DEVICES={device.index} and --set student.device=cuda."
        )
    arguments = TrainingArguments(
        output_dir=str(job.work),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        max_grad_norm=settings.clip,
        weight_decay=config.weight_decay,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
        bf16=on_gpu and job.student.model.dtype == torch.bfloat16,
        seed=job.seed,
        data_seed=job.seed,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=config.log_steps,
        logging_nan_inf_filter=False,
        report_to=list(config.report_to) or "none",
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
        use_cpu=device.type == "cpu",
    )
    # Where torchrun did not start one process per GPU, one GPU is used: nn.DataParallel would tear groups apart.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    arguments.warmup_steps = _warmup_steps(len(job.groups), arguments, settings)
    return arguments


def _warmup_steps(groups: int, arguments: Any, settings: TrainingSettings) -> int:
    """Warm-up in steps.

    Raises:
        ConfigError: It is as long as the training, so that the learning rate would never be reached.
    """
    batches: int = math.ceil(groups / (arguments.train_batch_size * arguments.world_size))
    steps: int = math.ceil(math.ceil(batches / arguments.gradient_accumulation_steps) * settings.epochs)
    if settings.warmup < 1:
        return min(math.ceil(settings.warmup * steps), steps - 1)
    warmup = int(settings.warmup)
    if warmup >= steps:
        raise ConfigError(
            f"The warm-up of {warmup} steps is as long as the training ({steps} steps); "
            "set a share instead, for example --set aligner.warmup=0.1."
        )
    return warmup


def _innermost(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _printer() -> type[TrainerCallback]:
    from transformers import PrinterCallback

    return cast(type[TrainerCallback], PrinterCallback)


def _whole_nll(logits: Tensor, batch: Mapping[str, Tensor], image_token: int | None) -> Tensor:
    """(rows,): mean negative log-likelihood over all tokens but the first, prompt included.

    Image tokens do not count: they are placeholders, and Mllama's lies outside of the vocabulary that it predicts.
    """
    uncounted = batch["attention_mask"] == 0
    if image_token is not None:
        uncounted |= batch["input_ids"] == image_token
    labels = batch["input_ids"].masked_fill(uncounted, -100)
    return -response_log_probs(logits, labels).average
