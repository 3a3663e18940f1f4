"""The teacher `plip`: a CLIP that ranks tissue names for an H&E patch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from mint_core.plugin import (
    ComponentConfig,
    Context,
    ContractError,
    DataError,
    Modality,
    Sample,
    Teacher,
    did_you_mean,
    log_softmax,
)
from mint_plip.clip import EMBEDDED, Clip, load_clip
from mint_plip.encoder import ImageEncoder, Precision, choose_precision, encode_labels, temperature
from mint_plip.features import FeatureStore, image_of, storage_dtype, stream_features
from mint_plip.heads import FineTuned, LinearProbe, fine_tune, out_of_fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROMPTS = (
    "an H&E image of {} tissue",
    "an H&E image of {}",
    "a histopathology image of {} tissue",
    "a microscopic H&E stained patch of {} tissue",
)
"""The prompt ensemble."""

Features = Callable[[Sequence[Sample]], Iterator["NDArray[np.float32]"]]


class PlipConfig(ComponentConfig):
    """Options of the teacher `plip`."""

    neutral: ClassVar[frozenset[str]] = frozenset({"workers"})
    of_one_model: ClassVar[frozenset[str]] = frozenset({"pretrained"})

    model: str = Field(
        EMBEDDED,
        description="The CLIP: `embedded` (small, knows the simulated tissues), a Hugging Face id such as `vinid/plip` "
        "or `hf-hub:owner/name`, a model folder or weights file, or an open_clip architecture with `pretrained`.",
    )
    pretrained: str | None = Field(
        None, description="Weights of an open_clip architecture: an open_clip tag, or a safetensors, .bin or .pt file."
    )
    head: Literal["zero-shot", "probe", "finetune"] = Field(
        "zero-shot",
        description="`zero-shot` compares patches with label sentences; `probe` fits a logistic regression on frozen "
        "features; `finetune` trains the image tower and a linear head.",
    )
    prompts: tuple[str, ...] = Field(
        PROMPTS, min_length=1, description="Sentences around a label, one {} in each; text features are averaged."
    )
    batch_size: int = Field(64, ge=1, le=4096, description="Patches per forward pass.")
    precision: Precision = Field(
        "auto", description="auto (bf16 on CUDA and on CPUs with bf16 instructions, else fp32), fp32 or bf16."
    )
    workers: int = Field(0, ge=0, le=256, description="Threads that decode patches; 0 = one per core, at most 8.")
    cache: bool = Field(True, description="Keep the features of patches between runs.")
    c: float = Field(0.1, gt=0, le=1e12, description="probe: inverse strength of the L2 penalty.")
    cross_fit: int = Field(
        5,
        ge=0,
        le=1_000,
        description="probe: folds, so that a training patch is ranked by a probe that did not see it; 0 = off.",
    )
    epochs: int = Field(5, ge=1, le=100_000, description="finetune: passes over the training patches.")
    lr: float = Field(
        1e-5, gt=0, le=10, description="finetune: peak learning rate of the tower; the head's is ten times that."
    )

    @field_validator("cross_fit")
    @classmethod
    def _two_folds(cls, value: int) -> int:
        if value == 1:
            raise ValueError("one fold leaves nothing to fit on; use 0 (off) or at least 2")
        return value

    @field_validator("prompts")
    @classmethod
    def _one_place(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(prompt.count("{}") != 1 for prompt in value):
            raise ValueError("every prompt needs exactly one {} where the label goes")
        return value


class Plip(Teacher):
    """CLIP on H&E patches, zero-shot or with a fitted head.

    Zero-shot: log softmax over labels of s * cos(image, text), where text is the normalised mean of the unit vectors of
    the label's sentences and s is the model's own temperature. Label names go into the sentences as they are.

    probe: multinomial logistic regression on standardised unit vectors of the labelled training patches. A probe ranks
    the patches that it was fitted on almost perfectly, which would teach the student an order that the teacher cannot
    give for new patches. Therefore training patches get the log-probabilities of a probe fitted without their fold, and
    patches of one `group` share a fold (`cross_fit` folds; 0 gives in-sample values). All others get the probe of the
    whole split.

    finetune: cross-entropy through the whole image tower. Its log-probabilities of training patches are IN-SAMPLE: they
    are over-confident, and rankings of the training split are closer to the truth than those of new patches. Use it
    where unlabelled patches are to be ranked, or prefer the probe.

    A label of the space without a labelled training patch gets the lowest probability of every row under `probe`, and
    keeps its zero-shot start, pushed down by training, under `finetune`.

    Shapes: features (n, dim) in fp32; log-probabilities (n_samples, n_labels) float32, natural logarithms.
    Errors: ModelError where the weights cannot be found or read; DataError where a patch is missing or unreadable, or
    where a head is asked for and the training split has fewer than two labels; StorageError where the feature cache
    fails.
    Source: Huang et al. 2023, "A visual-language foundation model for pathology image analysis using medical Twitter".

        teacher:
          name: plip
          model: vinid/plip
          head: probe
    """

    name: ClassVar[str] = "plip"
    version: ClassVar[str] = "1"
    tasks: ClassVar[tuple[str, ...]] = ("tissue-type",)
    reads: ClassVar[tuple[Modality, ...]] = ("image",)
    Config: ClassVar[type[Any]] = PlipConfig
    config: PlipConfig

    def __init__(self, config: PlipConfig | None = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        self._probe: LinearProbe | None = None
        self._held_out: dict[str, NDArray[np.float32]] = {}
        self._tuned: FineTuned | None = None
        self._facts: dict[str, Any] = {}

    @cached_property
    def _clip(self) -> Clip:
        return load_clip(self.config.model, self.config.pretrained)

    @cached_property
    def _label_features(self) -> NDArray[np.float32]:
        """(n_labels, dim), times the temperature."""
        return temperature(self._clip) * encode_labels(self._clip, self.labels.names, self.config.prompts)

    @cached_property
    def _encoder(self) -> ImageEncoder:
        precision = choose_precision(self.config.precision, self.context.device)
        return ImageEncoder(self._clip, self.context.device, precision)

    @property
    def _workers(self) -> int:
        return self.config.workers or min(8, os.cpu_count() or 1)

    @property
    def _store_path(self) -> Path:
        return self.context.cache / f"plip-{self._clip.fingerprint[:24]}-{self._encoder.precision}.sqlite"

    def fit(self, samples: Sequence[Sample]) -> None:
        """Fits the head on the labelled samples; zero-shot needs none.

        Raises:
            DataError: Fewer than two labels, an unknown label, or a patch that is missing or unreadable.
            TrainingError: The loss of the fine-tuning is not finite.
        """
        if self.config.head == "zero-shot":
            return
        labelled = [sample for sample in samples if sample.label is not None]
        labels = np.array([self._index(sample) for sample in labelled], np.int64)
        if len(np.unique(labels)) < 2:
            raise DataError(
                f"The head '{self.config.head}' needs training patches of at least two labels and found "
                f"{len(np.unique(labels))} among {len(samples)} patches; label more, or use the head 'zero-shot'."
            )
        if self.config.head == "probe":
            self._fit_probe(labelled, labels)
        else:
            self._fine_tune(labelled, labels)

    def _index(self, sample: Sample) -> int:
        try:
            return self.labels.index(sample.label or "")
        except KeyError:
            known = did_you_mean(sample.label or "", self.labels.names)
            raise DataError(f"Sample '{sample.id}' has the unknown label '{sample.label}'{known}.") from None

    def _fit_probe(self, samples: Sequence[Sample], labels: NDArray[np.int64]) -> None:
        features = np.concatenate(list(self._features(samples, progress=False)))
        n_labels, c = len(self.labels), self.config.c
        self._probe = LinearProbe(n_labels, c).fit(features, labels)
        groups = [f"group {sample.group}" if sample.group is not None else f"sample {sample.id}" for sample in samples]
        folds = self.config.cross_fit
        held_out = out_of_fold(features, labels, groups, n_labels=n_labels, c=c, folds=folds) if folds else None
        self._held_out = {} if held_out is None else dict(zip((sample.id for sample in samples), held_out, strict=True))
        self._facts |= {
            "fitted_on": len(samples), "converged": self._probe.converged,
            "training_rankings": "in-sample" if held_out is None else "out-of-fold",
        }  # fmt: skip

    def _fine_tune(self, samples: Sequence[Sample], labels: NDArray[np.int64]) -> None:
        initial = self._label_features
        images = [image_of(sample) for sample in samples]
        self._tuned = fine_tune(
            self._encoder, images, labels, initial, epochs=self.config.epochs, rate=self.config.lr,
            batch_size=self.config.batch_size, workers=self._workers, seed=self.context.seed,
        )  # fmt: skip
        self._facts |= {"fitted_on": len(samples), "training_rankings": "in-sample", "losses": list(self._tuned.losses)}

    def log_probs(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Natural logarithms of p(label | patch), shape (n_samples, n_labels).

        Raises:
            DataError: A patch is missing or unreadable.
            ContractError: A head was asked for and `fit` was not called.
        """
        to_log_probs = self._head()
        out = np.empty((len(samples), len(self.labels)), np.float32)
        done = 0
        for features in self._features(samples, progress=True):
            out[done : done + len(features)] = to_log_probs(features)
            done += len(features)
        for row, sample in enumerate(samples):
            if sample.split == "train" and sample.id in self._held_out:
                out[row] = self._held_out[sample.id]
        return out

    def _head(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        if self.config.head == "zero-shot":
            text = self._label_features.astype(np.float64)  # in float64 a row does not depend on the batch's size
            return lambda features: log_softmax(features @ text.T)
        if self._probe is not None:
            return self._probe.log_probs
        if self._tuned is not None:
            weight, bias = self._tuned.weight.astype(np.float64), self._tuned.bias
            return lambda features: log_softmax(features @ weight.T + bias)
        raise ContractError(f"The head '{self.config.head}' of the teacher plip was not fitted; call `fit` first.")

    def _features(self, samples: Sequence[Sample], progress: bool) -> Iterator[NDArray[np.float32]]:
        """Frozen features batch by batch; kept between runs unless the tower was trained."""
        self._encoder.freeze()
        advance = self.context.advance if progress else lambda count: None
        with ExitStack() as stack:
            store = None
            if self.config.cache and self._tuned is None:
                store = stack.enter_context(FeatureStore(self._store_path, storage_dtype(self._encoder.precision)))
            yield from stream_features(
                samples, self._encoder, store,
                batch_size=self.config.batch_size, workers=self._workers, advance=advance,
            )  # fmt: skip
            if store is not None:
                self._facts["cached_features"] = len(store)

    @classmethod
    def fingerprint(cls, config: Any) -> str:
        """Content of the named folder or file, or the commit of a hub id in the local cache."""
        from mint_core.plugin import fingerprint

        embedded = Path(__file__).parent / "embedded" / "teacher"
        names = [str(embedded) if config.model == EMBEDDED else config.model, config.pretrained]
        return " ".join(fingerprint(name.removeprefix("hf-hub:")) for name in names if name)

    def describe(self) -> dict[str, Any]:
        """Facts for the run record; loads the weights where nothing has loaded them yet."""
        return {
            "model": self._clip.source, "fingerprint": self._clip.fingerprint, "head": self.config.head,
            "precision": self._encoder.precision, "device": self.context.device, "prompts": list(self.config.prompts),
            "image_size": self._clip.preprocess["size"], **self._facts,
        }  # fmt: skip
