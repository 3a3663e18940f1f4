"""The teacher `gestalt`: a ViLT that reads a face beside clinical text and ranks rare diseases."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from mint_core.plugin import (
    ComponentConfig,
    Context,
    ContractError,
    DataError,
    FoldCount,
    Sample,
    Teacher,
    did_you_mean,
)
from mint_gestalt.reading import Reading, read, render
from mint_gestalt.vilt import EMBEDDED, Vilt, extend_positions, folder_or_id, load_published, load_vilt

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from mint_gestalt.fitting import Patients, Precision

UNKNOWN = 5.0
"""How far below its least probable known label (in nats) a label that published weights do not know is put."""


class GestaltConfig(ComponentConfig):
    """Options of the teacher `gestalt`."""

    neutral: ClassVar[frozenset[str]] = frozenset({"workers"})

    model: str = Field(
        EMBEDDED,
        description="The ViLT: `embedded` (small, reads drawn faces), a Hugging Face id such as "
        "`dandelin/vilt-b32-mlm`, or a model folder.",
    )
    weights: Path | None = Field(
        None, description="A published state dict (`.pt`, GestaltMML's layout) for `model`; tensors only."
    )
    weights_labels: Path | None = Field(
        None, description="The label dictionary of `weights`: JSON of index to name, `;` parts aliases."
    )
    faces: bool = Field(True, description="Read the faces; off, the teacher reads text alone.")
    privileged: bool | tuple[str, ...] = Field(
        True, description="Privileged fields that are read beside the text: all, none, or these."
    )
    template: str = Field(
        "{privileged} {text}",
        description="What the text is made of. What stands last is left out first where a text is too long.",
    )
    plain: bool = Field(
        True, description="Read the text without punctuation and headings, as GestaltMML does; saves positions."
    )
    positions: int | None = Field(
        None, ge=8, le=4096, description="Tokens of the text; null = as many as the model has (ViLT: 40). More of them "
        "are interpolated from the learned ones, which needs a fit.",
    )  # fmt: skip
    train: Literal["all", "head"] | None = Field(
        None,
        description="`all` trains the whole model; `head` its last layers on frozen features, in seconds. null = head "
        "(embedded), all (others).",
    )
    cross_fit: FoldCount = Field(
        5,
        description="head: folds, so that a training patient is ranked by a head that did not see its group; 0 = off.",
    )
    epochs: int | None = Field(
        None,
        ge=0,
        le=100_000,
        description="Passes over the training patients; null = 24 (head: 60), and 0 where `weights` are given.",
    )
    lr: float | None = Field(
        None, gt=0, le=10, description="Peak learning rate; the head's is ten times that. null = 5e-5 (head: 1e-4)."
    )
    batch_size: int = Field(32, ge=1, le=4096, description="Patients per step.")
    weighting: Literal["balanced", "none"] = Field(
        "balanced", description="`balanced`: every disease weighs the same in the loss; `none`: every patient."
    )
    phrase_dropout: float = Field(0.15, ge=0, lt=1, description="Share of the phrases that each epoch leaves out.")
    face_dropout: float = Field(0.1, ge=0, lt=1, description="Share of the faces that each epoch masks out.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto (bf16 on CUDA, else fp32), fp32 or bf16."
    )
    workers: int = Field(0, ge=0, le=256, description="Threads that decode faces; 0 = one per core, at most 8.")

    @field_validator("template")
    @classmethod
    def _places(cls, value: str) -> str:
        if value.count("{text}") != 1 or value.count("{privileged}") > 1:
            raise ValueError("the template needs {text} once and {privileged} at most once")
        return value

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.weights is None) != (self.weights_labels is None):
            raise ValueError("weights and weights_labels go together; name both or neither")
        return self


class Gestalt(Teacher):
    """ViLT over face and clinical text, fitted on the training split; the teacher of GestaltMML.

    A ViltForQuestionAnswering of transformers gets one row of its head per label and is trained on a weighted
    cross-entropy, whole (`train: all`) or its head alone (`train: head`). What it returns is log softmax over labels.
    Published weights need no fit: their logits were trained label by label, and the softmax keeps their order.

    Text: privileged fields in front ("Gene KMT2D"), then the sample's text, cut into phrases at commas and full
    stops. Where a text has more tokens than the model has positions (40 for published ViLTs), the last phrases are left
    out whole; `describe` counts them. `positions` gives room for more.

    Face: opened when needed and resized by the model's own image processor. A missing face is masked out: no token
    attends to any image token of that patient, so no pixel can matter. `describe` counts them by split.

    A model ranks the patients that it was fitted on too well, which would teach the student an order that the teacher
    cannot give for new patients. With `head`, training patients therefore get the log-probabilities of a head fitted
    without their fold, and patients of one `group` share a fold. With `all`, or `cross_fit: 0`, they are IN-SAMPLE.

    A fit leaves a checkpoint in the cache, named by the content of all that it depends on, and `all` does so after
    every epoch: an interrupted fit goes on, and the same fit is never made twice.

    Shapes: log-probabilities (n_samples, n_labels) float32, natural logarithms.
    Errors: ModelError where the weights cannot be found, read or matched; DataError where fewer than two labels occur,
    a field is unknown, or a face is unreadable; TrainingError where the loss is not finite; StorageError where the
    checkpoint fails.
    Source: Wu et al. 2024, "GestaltMML: Enhancing rare genetic disease diagnosis through multimodal machine learning
    combining facial images and clinical texts"; Kim et al. 2021, "ViLT".

        teacher:
          name: gestalt
          model: dandelin/vilt-b32-mlm
          privileged: [gene]
    """

    name: ClassVar[str] = "gestalt"
    version: ClassVar[str] = "1"
    tasks: ClassVar[tuple[str, ...]] = ("rare-disease",)
    Config: ClassVar[type[Any]] = GestaltConfig
    config: GestaltConfig

    def __init__(self, config: GestaltConfig | None = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        self._facts: dict[str, Any] = {}
        self._fitted = False
        self._held_out: dict[str, NDArray[np.float32]] = {}
        self._fields: tuple[str, ...] | None = None

    @cached_property
    def _vilt(self) -> Vilt:
        vilt = load_vilt(self.config.model, self.labels, self.context.seed)
        if self.config.weights is not None and self.config.weights_labels is not None:
            load_published(vilt, self.config.weights, self.config.weights_labels, self.labels)
        if self.config.positions is not None:
            extend_positions(vilt.model, self.config.positions)
        vilt.model.to(self.context.device).eval()
        return vilt

    @cached_property
    def _precision(self) -> Precision:
        if self.config.precision != "auto":
            return self.config.precision
        import torch

        cuda = self.context.device.startswith("cuda")
        return "bf16" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"

    @property
    def _epochs(self) -> int:
        if self.config.epochs is not None:
            return self.config.epochs
        if self.config.weights is not None:
            return 0
        return 60 if self._train == "head" else 24

    @property
    def _train(self) -> Literal["all", "head"]:
        return self.config.train or ("head" if self.config.model == EMBEDDED else "all")

    @property
    def _lr(self) -> float:
        return self.config.lr or (1e-4 if self._train == "head" else 5e-5)

    @property
    def _workers(self) -> int:
        return self.config.workers or min(8, os.cpu_count() or 1)

    @property
    def shares_work(self) -> bool:
        """What is trained is trained once."""
        return self._epochs == 0

    def fit(self, samples: Sequence[Sample]) -> None:
        """Trains on the labelled samples, or goes on where an equal fit stopped.

        Raises:
            DataError: Fewer than two labels, an unknown label or field, or an unreadable face.
            TrainingError: The loss is not finite.
            StorageError: The checkpoint cannot be read or written.
        """
        from mint_gestalt.fitting import Plan, balanced_weights, fit
        from mint_gestalt.heads import Folds, fit_head

        if self._epochs == 0:
            if self.config.weights is None:
                raise DataError("Without weights the teacher gestalt must be fitted; set teacher.epochs above 0.")
            return
        labelled = [sample for sample in samples if sample.label is not None]
        self._fields = self._choose_fields(samples)
        targets = np.array([self._index(sample) for sample in labelled], np.int64)
        if len(np.unique(targets)) < 2:
            raise DataError(
                f"The teacher gestalt needs training patients of at least two diseases and found "
                f"{len(np.unique(targets))} among {len(samples)} patients; label more of them."
            )
        n_labels = len(self.labels)
        even = np.ones(n_labels, np.float32)
        plan = Plan(
            epochs=self._epochs, lr=self._lr, batch_size=self.config.batch_size,
            weights=balanced_weights(targets, n_labels) if self.config.weighting == "balanced" else even,
            phrase_dropout=self.config.phrase_dropout, face_dropout=self.config.face_dropout, seed=self.context.seed,
            precision=self._precision, workers=self._workers, checkpoint=self._checkpoint(labelled),
        )  # fmt: skip
        patients = self._patients(labelled)
        if self._train == "head":
            groups = [sample.group or sample.id for sample in labelled]
            fitted = fit_head(self._vilt, patients, targets, Folds(groups, self.config.cross_fit), plan)
        else:
            fitted = fit(self._vilt, patients, targets, plan)
        self._fitted = True
        held_out = () if fitted.held_out is None else fitted.held_out
        self._held_out = {sample.id: row for sample, row in zip(labelled, held_out, strict=bool(len(held_out)))}
        self._facts |= {
            "fitted_on": len(labelled), "losses": list(fitted.losses), "epochs_from_checkpoint": fitted.resumed_after,
            "training_rankings": "out-of-fold" if self._held_out else "in-sample",
        }  # fmt: skip

    def _index(self, sample: Sample) -> int:
        try:
            return self.labels.index(sample.label or "")
        except KeyError:
            known = did_you_mean(sample.label or "", self.labels.names)
            raise DataError(f"Sample '{sample.id}' has the unknown label '{sample.label}'{known}.") from None

    def _checkpoint(self, samples: Sequence[Sample]) -> Path:
        """The checkpoint of a fit on these samples, named by all that the fit depends on."""
        config = self.config.model_dump(mode="json", exclude={"workers"})
        about = [
            self.version, self.fingerprint(self.config), config, self.context.seed, list(self.labels.names),
            self._precision, self.context.device.partition(":")[0],
        ]  # fmt: skip
        digest = hashlib.blake2b(json.dumps(about).encode(), digest_size=16)
        for sample in samples:
            face = sample.image.key if sample.image and self.config.faces else None
            digest.update(json.dumps([sample.label, sample.group, face, self._phrases(sample)]).encode())
        return self.context.cache / f"gestalt-{digest.hexdigest()}.pt"

    def log_probs(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Natural logarithms of p(disease | face, text), shape (n_samples, n_labels).

        Raises:
            DataError: A face is unreadable.
            ContractError: There are no published weights and `fit` was not called.
        """
        import torch

        from mint_gestalt.fitting import autocast, batches
        from mint_gestalt.vilt import logits

        if not self._fitted and self.config.weights is None:
            raise ContractError("The teacher gestalt was not fitted; call `fit` first, or name published weights.")
        patients = self._patients(samples)
        model, done = self._vilt.model.eval(), 0
        out = np.empty((len(samples), len(self.labels)), np.float32)
        with torch.inference_mode():
            for batch in batches(self._vilt, patients, self.config.batch_size, self._workers):
                with autocast(model.device, self._precision):
                    scores = self._unknown_last(logits(model, batch).double())
                size = len(scores)
                out[done : done + size] = scores.log_softmax(1).float().cpu().numpy()
                done += size
                self.context.advance(size)
        for row, sample in enumerate(samples):
            if sample.split == "train" and sample.id in self._held_out:
                out[row] = self._held_out[sample.id]
        self._count(samples, patients.readings)
        return out

    def _unknown_last(self, scores: Any) -> Any:
        unknown = list(self._vilt.unknown_labels)
        if unknown and not self._fitted:
            known = [label for label in range(scores.shape[1]) if label not in set(unknown)]
            scores[:, unknown] = scores[:, known].min(1, keepdim=True).values - UNKNOWN
        return scores

    def _patients(self, samples: Sequence[Sample]) -> Patients:
        from mint_gestalt.fitting import Patients

        if self._fields is None:
            self._fields = self._choose_fields(samples)
        readings = read(self._vilt.tokenizer, [self._phrases(sample) for sample in samples], self._vilt.positions)
        return Patients(readings, [sample.image if self.config.faces else None for sample in samples])

    def _phrases(self, sample: Sample) -> list[str]:
        return render(sample, self.config.template, self._fields or (), plain=self.config.plain)

    def _choose_fields(self, samples: Sequence[Sample]) -> tuple[str, ...]:
        """The privileged fields that are read, from the first samples that are seen."""
        found = sorted({name for sample in samples for name in sample.privileged})
        if isinstance(self.config.privileged, bool):
            return tuple(found) if self.config.privileged else ()
        for name in self.config.privileged:
            if name not in found:
                raise DataError(f"No patient has the privileged field '{name}'{did_you_mean(name, found)}.")
        return self.config.privileged

    def _count(self, samples: Sequence[Sample], readings: Sequence[Reading]) -> None:
        """Notes what a reader of the report must know."""
        if self.config.faces:
            self._facts["without_face"] = dict(Counter(s.split for s in samples if s.image is None))
        shortened = [reading.left_out for reading in readings if reading.left_out]
        self._facts |= {"texts_shortened": len(shortened), "phrases_left_out": sum(shortened)}
        self._facts["without_text"] = sum(not sample.text for sample in samples)

    @classmethod
    def fingerprint(cls, config: Any) -> str:
        """Content of the named folder and weights, or the commit of a hub id in the local cache."""
        from mint_core.plugin import fingerprint

        names = [folder_or_id(config.model), *(str(path) for path in (config.weights, config.weights_labels) if path)]
        return " ".join(fingerprint(name) for name in names)

    def describe(self) -> dict[str, Any]:
        """Facts for the run record; loads the weights where nothing has loaded them yet."""
        return {
            "model": self._vilt.source, "fingerprint": self.fingerprint(self.config),
            "parameters": sum(p.numel() for p in self._vilt.model.parameters()), "device": self.context.device,
            "precision": self._precision, "trained": self._train, "positions": self._vilt.positions,
            "faces": self.config.faces, "privileged_fields": list(self._fields or ()),
            "unknown_labels": len(self._vilt.unknown_labels),
            **self._facts,
        }  # fmt: skip
