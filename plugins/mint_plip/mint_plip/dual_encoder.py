"""What teachers with a dual encoder of images and texts share: zero-shot, a probe on frozen features, fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from mint_core.plugin import (
    ConfigError,
    Context,
    FittedConfig,
    FittedTeacher,
    FoldCount,
    Sample,
    fingerprint,
    log_softmax,
)
from mint_plip.clip import EMBEDDED, EMBEDDED_FOLDER, HUB, Clip, load_clip
from mint_plip.encoder import ImageEncoder, Precision, choose_precision, encode_labels, temperature
from mint_plip.fine_tuning import FineTuned, fine_tune

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class DualEncoderConfig(FittedConfig):
    """Options of teachers with a dual encoder."""

    neutral: ClassVar[frozenset[str]] = frozenset({"workers"})
    of_one_model: ClassVar[frozenset[str]] = frozenset({"pretrained"})

    model: str | None = Field(
        None,
        description="The dual encoder: a Hugging Face id such as `openai/clip-vit-base-patch32`, "
        "`google/siglip-base-patch16-224` or `hf-hub:owner/name`, a model folder or weights file, or an open_clip "
        "architecture with `pretrained`.",
    )
    pretrained: str | None = Field(
        None, description="Weights of an open_clip architecture: an open_clip tag, or a safetensors, .bin or .pt file."
    )
    head: Literal["zero-shot", "probe", "finetune"] = Field(
        "zero-shot",
        description="`zero-shot` compares images with label sentences; `probe` fits a logistic regression on frozen "
        "features; `finetune` trains the image tower and a linear head.",
    )
    prompts: tuple[str, ...] = Field(
        ("an image of {}", "a photo of {}", "{}"),
        min_length=1,
        description="Sentences around a label, one {} in each; text features are averaged.",
    )
    batch_size: int = Field(64, ge=1, le=4096, description="Images per forward pass.")
    precision: Precision = Field(
        "auto", description="auto (bf16 on CUDA and on CPUs with bf16 instructions, else fp32), fp32 or bf16."
    )
    workers: int = Field(0, ge=0, le=256, description="Threads that decode images; 0 = one per core, at most 8.")
    cache: bool = Field(True, description="Keep the features of images between runs.")
    c: float | None = Field(
        0.1,
        gt=0,
        le=1e12,
        description="probe: inverse strength of the L2 penalty; null = chosen on held-out images.",
    )
    cross_fit: FoldCount = Field(
        5,
        description="probe: folds, so that a training image is ranked by a probe that did not see it; 0 = off.",
    )
    epochs: int = Field(5, ge=1, le=100_000, description="finetune: passes over the training images.")
    lr: float = Field(
        1e-5, gt=0, le=10, description="finetune: peak learning rate of the tower; the head's is ten times that."
    )

    @field_validator("prompts")
    @classmethod
    def _one_place(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(prompt.count("{}") != 1 for prompt in value):
            raise ValueError("every prompt needs exactly one {} where the label goes")
        return value


class DualEncoder(FittedTeacher):
    """A dual encoder of images and texts, zero-shot or with a fitted head.

    Zero-shot: log softmax over labels of s * cos(image, text), where text is the normalised mean of the unit vectors of
    the label's sentences and s is the model's own temperature. Label names go into the sentences as they are.

    probe: multinomial logistic regression on standardised unit vectors of the labelled training images, which are
    themselves ranked out of fold (`mint_core.plugin.FittedTeacher`).

    finetune: cross-entropy through the whole image tower. Its log-probabilities of training images are IN-SAMPLE: they
    are over-confident, and rankings of the training split are closer to the truth than those of new images. Use it
    where unlabelled images are to be ranked, or prefer the probe.

    A label of the space without a labelled training image gets the lowest probability of every row under `probe`, and
    keeps its zero-shot start, pushed down by training, under `finetune`.

    Shapes: features (n, dim) in fp32; log-probabilities (n_samples, n_labels) float32, natural logarithms.
    Errors: ModelError where the weights cannot be found or read; DataError where an image is missing or unreadable, or
    where a head is asked for and the training split has fewer than two labels; StorageError where the feature cache
    fails.
    """

    reads = ("image",)
    advice: ClassVar[str] = "label more, or use the head 'zero-shot'"
    Config: ClassVar[type[Any]] = DualEncoderConfig
    config: DualEncoderConfig

    def __init__(self, config: DualEncoderConfig | None = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        self._tuned: FineTuned | None = None

    @cached_property
    def clip(self) -> Clip:
        """The model.

        Raises:
            ModelError: It cannot be found or read.
        """
        return load_clip(named_model(self.config, self.name), self.config.pretrained)

    @cached_property
    def encoder(self) -> ImageEncoder:
        """The image tower at work."""
        precision = choose_precision(self.config.precision, self.context.device)
        return ImageEncoder(self.clip, self.context.device, precision)

    @cached_property
    def label_features(self) -> NDArray[np.float32]:
        """(n_labels, dim), times the temperature."""
        return temperature(self.clip) * encode_labels(self.clip, self.labels.names, self.config.prompts)

    @property
    def workers(self) -> int:
        """See `FittedTeacher.workers`."""
        return self.config.workers or super().workers

    @property
    def batch_size(self) -> int:
        """See `FittedTeacher.batch_size`."""
        return self.config.batch_size

    @property
    def cached(self) -> bool:
        """The features of a trained tower are never kept."""
        return self.config.cache and self.config.head != "finetune"

    @property
    def shares_work(self) -> bool:
        """A tower that is trained is trained once."""
        return self.config.head != "finetune"

    @property
    def cache_name(self) -> str:
        """Another file for other weights and another precision."""
        return f"{self.name}-{self.clip.fingerprint[:24]}-{self.encoder.precision}.sqlite"

    @property
    def dtype(self) -> DTypeLike:
        """float16 keeps more digits than bf16 computes; fp32 is kept whole."""
        return np.float16 if self.encoder.precision == "bf16" else np.float32

    def prepare(self, sample: Sample) -> Any:
        """The sample's image as the tower wants it: uint8, shape (height, width, 3)."""
        return self.encoder.prepare(self.image_of(sample).open())

    def features(self, samples: Sequence[Any]) -> NDArray[np.float32]:
        """Unit vectors, shape (n, dim)."""
        self.encoder.freeze()
        return self.encoder.encode(np.stack(samples))

    def fit(self, samples: Sequence[Sample]) -> None:
        """Fits the head on the labelled samples; zero-shot needs none.

        Raises:
            DataError: Fewer than two labels, an unknown label, or an image that is missing or unreadable.
            TrainingError: The loss of the fine-tuning is not finite.
        """
        if self.config.head == "probe":
            super().fit(samples)
        elif self.config.head == "finetune":
            labelled, targets = self.labelled(samples)
            initial = self.label_features
            images = [self.image_of(sample) for sample in labelled]
            self._tuned = fine_tune(
                self.encoder, images, targets, initial, epochs=self.config.epochs, rate=self.config.lr,
                batch_size=self.config.batch_size, workers=self.workers, seed=self.context.seed,
            )  # fmt: skip
            told = {"training_rankings": "in-sample", "losses": list(self._tuned.losses)}
            self._facts |= {"fitted_on": len(labelled), **told}

    def log_probs(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Natural logarithms of p(label | image), shape (n_samples, n_labels).

        Raises:
            DataError: An image is missing or unreadable.
            ContractError: A head was asked for and `fit` was not called.
        """
        if self.config.head == "zero-shot":
            _ = self.label_features  # before the tower is cast
        return super().log_probs(samples)

    def ranked(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """See `FittedTeacher.ranked`."""
        if self.config.head == "zero-shot":
            text = self.label_features.astype(np.float64)  # in float64 a row does not depend on the batch's size
            return log_softmax(rows @ text.T)
        if self._tuned is not None:
            return log_softmax(rows @ self._tuned.weight.astype(np.float64).T + self._tuned.bias)
        return super().ranked(rows)

    @classmethod
    def fingerprint(cls, config: Any) -> str:
        """Content of the named folder or file, or the commit of a hub id in the local cache."""
        model = named_model(config, cls.name)
        names = [str(EMBEDDED_FOLDER) if model == EMBEDDED else model, config.pretrained]
        return " ".join(fingerprint(name.removeprefix(HUB)) for name in names if name)

    def describe(self) -> dict[str, Any]:
        """Facts for the run record; loads the weights where nothing has loaded them yet."""
        return {
            "model": self.clip.source, "fingerprint": self.clip.fingerprint, "head": self.config.head,
            "precision": self.encoder.precision, "device": self.context.device, "prompts": list(self.config.prompts),
            "image_size": self.clip.preprocess["size"], **super().describe(),
        }  # fmt: skip


def named_model(config: DualEncoderConfig, name: str) -> str:
    """The model that a config names.

    Raises:
        ConfigError: It names none.
    """
    if config.model is None:
        raise ConfigError(f"The teacher '{name}' needs a model; name one, for example --set teacher.model=owner/name.")
    return config.model
