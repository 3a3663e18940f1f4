"""The training engine: transformers' Trainer over preference groups.

Accelerate, checkpoints and trackers come with the Trainer. The loss of a batch is the mean over its groups, and within
a group the weighted mean over all chosen x rejected pairs. A method is one phase, or several on the same adapter.
"""

from __future__ import annotations

import gc
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from mint_core import processes
from mint_core.aligners.base import LoraAligner
from mint_core.aligners.batches import GroupCollator, GroupLogProbs, References, Scorer, Tokens, shares_prompts
from mint_core.aligners.by_epoch import ByEpoch, validation
from mint_core.aligners.checkpoints import Checkpoints, checkpoint_folder, step_of, usable_checkpoint
from mint_core.aligners.reference import reference_log_probs
from mint_core.aligners.rows import TrainingRows
from mint_core.aligners.settings import TrainingConfig, TrainingSettings
from mint_core.aligners.trackers import reporting, run_name
from mint_core.errors import ConfigError, StorageError, TrainingError
from mint_core.faults import no_memory
from mint_core.files import read_json, write_json
from mint_core.interfaces import AlignmentJob, AlignmentResult, Student, TrainingPhase
from mint_core.interrupts import put_off
from mint_core.students.adapter import add_lora, continue_adapter, target_modules

GroupLoss = Callable[[GroupLogProbs], dict[str, Tensor]]
"""From one group's log-probabilities to scalars: `loss` and what else is worth logging."""


class Figures:
    """What a method shows of its groups since the last line of the training history, and the tokens that were read."""

    def __init__(self) -> None:
        self.steps = 0
        self.sums: dict[str, float] = {}
        self.real = self.computed = 0

    def add(self, values: Mapping[str, Tensor], size: Tokens, share: float) -> None:
        """Adds the groups of one forward pass: `values` of shape (groups,), and the share of one group in its step."""
        totals = torch.stack([value.detach().float().sum() for value in values.values()]).tolist()
        for key, total in zip(values, totals, strict=True):
            self.sums[key] = self.sums.get(key, 0.0) + total * share
        self.real += size.real
        self.computed += size.computed

    def write(self, path: Path) -> None:
        """Keeps what was added up since the last line, for a training that goes on from a checkpoint."""
        write_json(path, vars(self))

    def read(self, path: Path) -> None:
        """Goes on from what `write` kept."""
        vars(self).update(read_json(path))

    def gather(self, accelerator: Any) -> None:
        """Adds what the other processes have."""
        own = torch.tensor([*self.sums.values(), self.real, self.computed], device=accelerator.device).float()
        *sums, real, computed = accelerator.reduce(own, reduction="sum").tolist()
        self.sums = dict(zip(self.sums, sums, strict=True))
        self.real, self.computed = int(real), int(computed)

    def means(self, processes: int = 1) -> dict[str, float]:
        """Means over the steps, which so many processes share of which one was added up, and the share of padding."""
        if not self.steps:
            return {}
        return {
            **{key: total * processes / self.steps for key, total in self.sums.items()},
            "padding": 1 - self.real / self.computed,
        }


class GroupTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Trainer whose loss is a function of each group's log-probabilities.

    A step's loss is the mean over all its groups, however they are spread over processes, accumulated batches and
    parts: 4 batches of 2 groups are one batch of 8. Where the groups do not divide among processes, accelerate fills
    the last step of an epoch with groups from its beginning, which then count twice.
    """

    # The loss is divided by the number of groups in the whole step, so that nothing is left for the Trainer to divide.
    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, group_loss: GroupLoss, whole: bool, shrinks: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True
        self.group_loss = group_loss
        self.scorer = Scorer(self.model, whole=whole)
        self.shrinks = shrinks
        self.shrunk = False
        self.recent_ids: list[str] = []
        self.figures = Figures()

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The batches of one step, and the number of their groups in all processes."""
        samples = list(islice(epoch_iterator, num_batches))
        groups = sum(len(part["groups"]) for sample in samples for part in sample["parts"])
        count = torch.tensor(groups, device=device)
        return samples, self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward, part by part; where the memory does not suffice, again in smaller parts."""
        while True:
            before = self._so_far()
            try:
                return self._step_in_parts(model, inputs["parts"], num_items_in_batch)
            except Exception as error:
                smaller = self._smaller(inputs, error)
                if smaller is None:
                    raise
            # Outside of the handler, whose traceback holds the tensors of the step that failed.
            self._go_back(before)
            inputs = smaller

    def _step_in_parts(self, model: Any, parts: Sequence[Any], num_items_in_batch: Any) -> Tensor:
        """Processes exchange gradients with the last part only."""
        losses = []
        for number, part in enumerate(parts, 1):
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, num_items_in_batch))
        return torch.stack(losses).sum()

    def _smaller(self, inputs: Any, error: Exception) -> Any | None:
        """The same batch in smaller parts; None where that is no way out, or other processes are in the same step."""
        if not (self.shrinks and self.args.world_size == 1 and no_memory(error)):
            return None
        smaller = self.data_collator.in_smaller_parts(inputs)
        if smaller is not None and not self.shrunk:
            self.shrunk = True
            warnings.warn(
                "The memory does not suffice for a whole batch: it is computed in smaller parts, with the same result; "
                f"aligner.token_budget={self.data_collator.budget} would begin with them.",
                stacklevel=2,
            )
        return smaller

    def _so_far(self) -> tuple[Any, ...]:
        gradients = [None if p.grad is None else p.grad.clone() for p in self.model.parameters() if p.requires_grad]
        return gradients, list(self.recent_ids), deepcopy(self.figures)

    def _go_back(self, before: tuple[Any, ...]) -> None:
        """Undoes what the failed attempt added: to gradients, figures and names of samples."""
        gradients, self.recent_ids, self.figures = before
        trained = (p for p in self.model.parameters() if p.requires_grad)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None, **_: Any
    ) -> Any:
        """The part's share of the mean over the groups of a step."""
        groups = inputs["groups"]
        self.recent_ids += [rows.sample_id for rows in groups]
        scored = self.scorer(model, inputs)
        per_group = [self.group_loss(rows.pick(scored)) for rows in groups]
        values = {key: torch.stack([one[key] for one in per_group]) for key in per_group[0]}
        finite = torch.isfinite(values["loss"]).tolist()
        if not all(finite):
            raise TrainingError(
                f"The loss of sample {groups[finite.index(False)].sample_id} is not finite; nothing was saved. "
                f"{_NOT_FINITE_ADVICE}"
            )
        count = len(groups) if num_items_in_batch is None else int(num_items_in_batch)
        self.figures.add(values, inputs["size"], 1 / count)
        # Processes average their gradients.
        loss = values["loss"].sum() * (self.args.world_size / count)
        return (loss, scored) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the method's figures.

        The loss too is theirs: that of the Trainer forgets at an interruption what was not logged before it.
        """
        if "loss" not in logs:
            super().log(logs, start_time)
            return
        if self.args.world_size > 1:
            self.figures.gather(self.accelerator)
        super().log({**logs, **self.figures.means()}, start_time)
        self.figures = Figures()

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the Trainer's estimate knows neither images nor shared prompts."""
        return 0


_NOT_FINITE_ADVICE = "Lower aligner.learning_rate, or train in fp32 (--set student.dtype=fp32)."


class Guard(TrainerCallback):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Stops on gradients that are not finite, reports progress, keeps the figures of a line that is not complete."""

    trainer: GroupTrainer
    """Set when it is made; it takes its callbacks first."""

    def __init__(self, advance: Callable[[int, Mapping[str, float]], None]) -> None:
        self.advance = advance

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Finds the figures that lie in the checkpoint from which the training goes on."""
        kept = self._kept(args, state)
        if kept.exists():
            self.trainer.figures.read(kept)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Checks every gradient before it is used."""
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        norm = torch.stack([gradient.detach().float().norm() for gradient in gradients]).norm()
        if not bool(torch.isfinite(norm)):
            ids = ", ".join(self.trainer.recent_ids)
            raise TrainingError(
                f"A gradient is not finite in step {state.global_step + 1}, samples {ids}; nothing was saved. "
                f"{_NOT_FINITE_ADVICE}"
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Reports progress; the last step is logged, so that the history ends with it."""
        self.trainer.recent_ids = []
        self.trainer.figures.steps += 1
        control.should_log |= state.global_step >= state.max_steps
        self.advance(state.global_step, self.trainer.figures.means(args.world_size))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keeps the figures, so that the history does not depend on where a training was interrupted."""
        self.trainer.figures.write(self._kept(args, state))

    @staticmethod
    def _kept(args: Any, state: Any) -> Path:
        return checkpoint_folder(args, state) / f"figures-{args.process_index}.json"


@dataclass(frozen=True, slots=True)
class PreparedPhase:
    """A phase that was checked before anything is computed."""

    phase: TrainingPhase
    loss: GroupLoss
    arguments: Any
    """transformers' TrainingArguments; the checkpoints lie in its output_dir."""
    steps: int
    shrinks: bool
    """See `TrainingConfig.on_oom`."""
    save_minutes: float | None
    """See `TrainingConfig.save_minutes`."""
    validate: int = 0
    """See `TrainingConfig.validate_samples`."""
    trackers: tuple[str, ...] = ()
    logs: Path | None = None
    """Where they write."""


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """What a phase did."""

    steps: int
    history: tuple[dict[str, float], ...]
    shrunk_to: int | None = None
    """The token budget that the memory sufficed for, where it was smaller than asked for."""
    validation: tuple[dict[str, float], ...] = ()
    """See `AlignmentResult.validation`."""


def train(job: AlignmentJob, aligner: LoraAligner) -> AlignmentResult:
    """Trains a LoRA adapter, phase by phase, and saves it.

    Raises:
        TrainingError: A loss or a gradient is not finite.
        DataError: There is no group, or a response is empty.
        ConfigError: The warm-up is as long as a phase, or the GPU is not the first one.
    """
    aligner.check(job)
    parameters = count_parameters(job.student)
    settings, phases = aligner.settings(parameters), aligner.phases(parameters)
    prepared = [prepare(job, aligner, settings, phase) for phase in phases]
    rows = TrainingRows(job, rejected=any(phase.rejected for phase in phases))
    rows.check_lengths()
    model = begin(job, aligner, settings)
    facts: dict[str, Any] = {}
    done: list[PhaseResult] = []
    for one in prepared:
        references = None
        if one.phase.reads_reference:
            how: Any = {"share_prompt": one.phase.layout == "shared", "budget": one.phase.token_budget}
            reference = reference_log_probs(rows, model, one.phase.batch_size, **how)
            references = reference.log_probs
            facts |= {"reference": reference.digest, "reference_responses": len(references)}
        done.append(fit(rows, model, one, references=references, **progress(prepared, one)))
    save(model, job.adapter)
    smallest = min((one.shrunk_to for one in done if one.shrunk_to), default=None)
    facts |= {"token_budget_shrunk_to": smallest} if smallest else {}
    facts |= {"trainable_layers": adapted_layers(model), "processes": processes.count()}
    return result(aligner.record(settings) | facts, prepared, done)


def progress(prepared: Sequence[PreparedPhase], current: PreparedPhase) -> dict[str, int]:
    """Steps before a phase, and steps of all."""
    steps = [one.steps for one in prepared]
    return {"before": sum(steps[: prepared.index(current)]), "total": sum(steps)}


def result(
    settings: Mapping[str, Any], prepared: Sequence[PreparedPhase], done: Sequence[PhaseResult]
) -> AlignmentResult:
    """What the run record says of the training, with the steps of all phases but the last."""
    earlier: dict[str, Any] = {f"{one.phase.name}_steps": one.steps for one in prepared[:-1]}
    if any(one.phase.shortens_warmup(one.steps) for one in prepared):
        earlier["warmup_steps"] = [int(one.arguments.warmup_steps) for one in prepared]
    history = tuple(entry for phase in done for entry in phase.history)
    steps = sum(one.steps for one in prepared[:-1]) + done[-1].steps
    curve = tuple(entry for phase in done for entry in phase.validation)
    return AlignmentResult(steps, history[-1]["loss"], history, {**settings, **earlier}, curve)


def count_parameters(student: Student) -> int:
    """Size of the student, before it got an adapter."""
    return sum(parameter.numel() for parameter in student.model.parameters())


def begin(job: AlignmentJob, aligner: LoraAligner, settings: TrainingSettings) -> Any:
    """The student with a new LoRA adapter, drawn from the job's seed, or with the one that training begins from.

    Raises:
        ModelError: The adapter to begin from cannot be read, or is another student's.
    """
    config = aligner.config
    if aligner.start is not None:
        return continue_adapter(job.student.model, aligner.start, config.lora_dropout)
    torch.manual_seed(job.seed)
    names = target_modules(job.student.model, settings.lora_targets, vision=config.lora_vision)
    return add_lora(job.student.model, names, settings.lora_rank, settings.lora_alpha, config.lora_dropout)


def prepare(job: AlignmentJob, aligner: LoraAligner, settings: TrainingSettings, phase: TrainingPhase) -> PreparedPhase:
    """A phase, checked before anything is computed.

    Raises:
        ConfigError: The warm-up is as long as the phase.
    """
    folder = job.work / aligner.phase_folder(phase)
    config = aligner.config
    logs = job.logs / phase.name if job.logs else None
    arguments = _arguments(job, config, aligner.phase_settings(phase, settings), folder, logs)
    steps = phase.steps(phase.units(job.groups), arguments.world_size)
    arguments.warmup_steps = phase.warmup_steps(steps)
    shrinks, loss = config.on_oom == "shrink", aligner.phase_loss(phase)
    often: dict[str, Any] = {"save_minutes": config.save_minutes, "validate": config.validate_samples}
    return PreparedPhase(phase, loss, arguments, steps, shrinks, **often, trackers=config.report_to, logs=logs)


def fit(
    rows: TrainingRows,
    model: Any,
    prepared: PreparedPhase,
    *,
    references: References | None = None,
    before: int,
    total: int,
) -> PhaseResult:
    """Trains the adapter on `model` further, from the newest complete checkpoint of this phase where there is one.

    Args:
        rows: The job and its rows as token ids.
        model: The student with an adapter that has gradients. A phase that was finished only gets its weights loaded.
        prepared: What to do.
        references: What the frozen reference says of every response, where the loss reads it.
        before: Steps of earlier phases.
        total: Steps of all phases.

    Raises:
        TrainingError: A loss or a gradient is not finite.
        KeyboardInterrupt: See `run_trainer`.
    """
    phase, how = prepared.phase, {"rejected": prepared.phase.rejected}
    shared = phase.layout == "shared" and shares_prompts(rows, model, whole=phase.reads_prompt, **how)
    guard = Guard(lambda step, figures: rows.job.advance(before + step, total, figures))
    trainer = GroupTrainer(
        model=model,
        args=prepared.arguments,
        train_dataset=rows.job.groups,
        data_collator=GroupCollator(rows, references=references, shared=shared, budget=phase.token_budget, **how),
        callbacks=[guard],
        group_loss=prepared.loss,
        whole=phase.reads_prompt,
        shrinks=prepared.shrinks,
    )
    guard.trainer = trainer
    curve = run_trainer(trainer, rows.job, prepared, before=before, total=total)
    # In the order of the keys in which a checkpoint keeps them.
    logged = (dict(sorted(entry.items())) for entry in trainer.state.log_history if "loss" in entry)
    history = tuple({**entry, "step": entry["step"] + before} for entry in logged)
    shrunk_to = trainer.data_collator.budget if trainer.shrunk else None
    return PhaseResult(trainer.state.global_step, history, shrunk_to, curve)


def run_trainer(
    trainer: Any, job: AlignmentJob, prepared: PreparedPhase, *, before: int, total: int
) -> tuple[dict[str, float], ...]:
    """Lets a Trainer make a phase, from the newest usable checkpoint on.

    Ctrl-C and SIGTERM end it behind the step that it is at, with a checkpoint; a second one ends it at once.

    Args:
        trainer: Any of transformers' Trainers, with the phase's arguments.
        job: Hears that the training resumes or stops.
        prepared: The phase.
        before: Steps of earlier phases.
        total: Steps of all phases.

    Returns:
        What the student answered at the start and behind each epoch, see `AlignmentResult.validation`.

    Raises:
        KeyboardInterrupt: It was ended.
        StorageError: A checkpoint holds what mint never wrote.
    """
    trainer.remove_callback(PrinterCallback)
    checkpoint = usable_checkpoint(Path(trainer.args.output_dir), prepared.steps)
    if checkpoint is not None:
        job.tell(f"Resuming from step {before + step_of(checkpoint)} of {total}.")
    stopping = "Stopping: this step is finished and saved. A second Ctrl-C stops at once."
    with reporting(prepared.trackers, prepared.logs) as trackers, put_off(lambda: job.tell(stopping)) as stop:
        for callback in (*trackers, Checkpoints(prepared.save_minutes, stop)):
            trainer.add_callback(callback)
        if prepared.validate and job.validate is not None:
            judge = partial(_judged, job.validate, prepared.validate)
            trainer.add_callback(ByEpoch(trainer, judge, job.tell, job.titles, first=before == 0))
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except pickle.UnpicklingError as error:
            raise StorageError(
                f"{checkpoint} holds what mint never wrote; delete it and give the command again."
            ) from error
    return validation(trainer, before)


def _judged(validate: Callable[[Any, int], Mapping[str, float]], samples: int, model: Any) -> Mapping[str, float]:
    return validate(model, samples)


def save(model: Any, adapter: Path) -> None:
    """Writes the adapter in plain PEFT layout."""
    # peft would ask the hub whether the vocabulary grew; adapters of mint never hold embeddings.
    model.save_pretrained(str(adapter), safe_serialization=True, save_embedding_layers=False)


def adapted_layers(model: Any) -> int:
    """How many layers carry a LoRA adapter."""
    return sum(hasattr(module, "lora_A") for module in model.modules())


def check_device(student: Student) -> None:
    """Refuses another GPU than the first: transformers would train on the first one without a word.

    Raises:
        ConfigError: It is another one.
    """
    device = student.device
    if device.type == "cuda" and device.index:
        raise ConfigError(
            f"Training runs on the first visible GPU, not on {device}; hide the others instead: "
            f"CUDA_VISIBLE_DEVICES={device.index} and --set student.device=cuda."
        )


def _arguments(
    job: AlignmentJob, config: TrainingConfig, settings: TrainingSettings, work: Path, logs: Path | None
) -> TrainingArguments:
    """Transformers' own arguments, with its surprising defaults set right."""
    on_gpu = job.student.device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(work),
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
        report_to="none",  # the trackers are called by `run_trainer`, which says where they write
        run_name=run_name(logs) if logs else None,
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
        use_cpu=job.student.device.type == "cpu",
        # A text prompt leaves layers of an image-text student unused; looking for them takes time.
        ddp_find_unused_parameters=job.student.reads_images,
    )
    # Where torchrun did not start one process per GPU, one GPU is used: nn.DataParallel would tear groups apart.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
