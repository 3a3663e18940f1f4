"""The teacher `vlm`: a language model, with eyes or without, ranks the labels by how likely it would write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from mint_core.answering.asking import Example, Wording, question_of, with_question
from mint_core.answering.endpoint import check_consent, is_local, shown
from mint_core.answering.engine import Asking
from mint_core.config import EndpointConfig, PredictConfig, StudentConfig
from mint_core.errors import ConfigError, ContractError, DataError, ModelError
from mint_core.folds import log_softmax
from mint_core.interfaces import ComponentConfig, Context, Task, Teacher
from mint_core.students.load import fingerprint
from mint_core.students.prompts import write_response
from mint_core.types import ImageRef, Message, Prompt, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from mint_core.interfaces import Student

    Scores = Iterator[tuple[str, NDArray[np.float32]]]

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Texts that say nothing; their prior is the mean. Source: Zhao et al. 2021, section 4."""
_TOLD = 20
"""Labels of the prior that the record names, the likeliest first."""
_AT_ONCE = 1024
"""Samples whose prompts are made at a time."""
ALLOW = "--set teacher.send_text=true"


class VlmConfig(ComponentConfig):
    """Options of the teacher `vlm`."""

    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size", "send_text", "api_key_env", "parallel"})
    later: ClassVar[frozenset[str]] = frozenset({"quantize"})
    of_one_model: ClassVar[frozenset[str]] = frozenset({"revision"})

    model: str | None = Field(
        None,
        description="Hugging Face id, local folder or GGUF file, for example `google/medgemma-4b-it`; with `base_url` "
        "the model's name on that server.",
    )
    revision: str | None = Field(None, description="Commit, tag or branch of a Hugging Face id.")
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Precision of the weights; auto = bf16 on a GPU, fp32 on a CPU."
    )
    quantize: Literal["none", "nf4", "int8"] = Field(
        "none", description="Hold the weights in 4 bits (nf4) or 8 bits (int8), by bitsandbytes."
    )
    prompt: str | None = Field(
        None,
        description="The question, with {text} where the sample's text goes and {labels} where the names do; null = "
        "the task's own question, asking for one name.",
    )
    beside: bool = Field(
        True,
        description="Show what the student does not read: privileged fields, the text beside an image, the image "
        "beside a text.",
    )
    shots: int = Field(
        0,
        ge=0,
        le=64,
        description="Solved training samples in front of the question, of other groups than the sample; for tasks of "
        "texts.",
    )
    calibrate: bool = Field(
        False, description="Divide by what the model would answer to an empty case (contextual calibration)."
    )
    batch_size: int = Field(8, ge=1, le=4096, description="Prompts per forward pass.")
    base_url: str = Field(
        "",
        description="A completions server that tells log-probabilities (`echo` with `logprobs`, as vLLM does), for "
        "example http://localhost:8000/v1; empty = the model runs here.",
    )
    send_text: bool = Field(False, description="With `base_url`: allow that samples leave this machine.")
    api_key_env: str = Field("MINT_API_KEY", description="With `base_url`: environment variable that holds the key.")
    parallel: int = Field(4, ge=1, le=256, description="With `base_url`: requests at a time.")


@dataclass(frozen=True)
class Blank(ImageRef):
    """A grey image: what an image task shows where there is no content."""

    @property
    def key(self) -> str:
        """There is one."""
        return "blank"

    def open(self) -> Image:
        """224 x 224 pixels of middle grey."""
        from PIL import Image as pillow

        return pillow.new("RGB", (224, 224), (127, 127, 127))


class Vlm(Teacher):
    """Any causal or image-text model of transformers, or one on a server, as a ranker of labels; it is not trained.

    The model is asked the task's question for one name, and every label is scored as students are with
    `predict.decode=score`: log p(label and the end of its line | prompt, header), the prompt computed once and the
    labels as a trie. What it returns is that, less the logarithm of its sum over all labels: a distribution over the
    label space.

    With `beside`, the question begins with what the student does not read, and an image stands in front where the model
    reads images. With `shots`, solved training samples stand in front of it; none of the sample's own group.

    With `calibrate`, log q(label) = log p(label | sample) - log p(label | nothing), normalised. p(label | nothing) is
    the mean over the texts "N/A", "[MASK]" and "" in place of the sample's, and a grey image in place of its image. The
    order of labels is that of W p with W = diag(p(. | nothing))^-1, as in the paper. Source: Zhao et al. 2021,
    "Calibrate Before Use: Improving Few-Shot Performance of Language Models".

    Raises:
        ConfigError: No model is named; `shots` for images; a server that is another machine, or for images.
        ModelError: The model cannot be loaded, reads no images where the task shows them, gives no finite scores, or
            the server tells no log-probabilities.
        DataError: A prompt does not fit the model's context, or a sample lacks what the task shows.

        teacher:
          name: vlm
          model: google/medgemma-4b-it
          calibrate: true
    """

    name = "vlm"
    Config: ClassVar[type[Any]] = VlmConfig
    config: VlmConfig

    def __init__(self, config: VlmConfig | None = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        self._solved: list[Sample] = []
        self._priors: dict[bool, NDArray[np.float64]] = {}

    @classmethod
    def asks(cls, config: VlmConfig) -> bool:
        """It asks the task's question."""
        return True

    @classmethod
    def sends(cls, config: VlmConfig) -> str:
        """The texts, and what stands beside them, where a server on another machine ranks."""
        if not config.base_url:
            return ""
        check_consent(_server(config), "text", ALLOW)
        where = shown(config.base_url)
        return (
            ""
            if is_local(config.base_url)
            else f"the samples' texts and what the teacher reads beside them, to {where}"
        )

    @classmethod
    def fingerprint(cls, config: VlmConfig) -> str:
        """The model's files, or its commit; nothing of a server's model is known."""
        return "" if config.base_url else fingerprint(_model(config), config.revision)

    @cached_property
    def _task(self) -> Task:
        if self.context.task is None:
            raise ContractError("The teacher 'vlm' asks the task's question and was made without a task.")
        return self.context.task

    @cached_property
    def _student(self) -> Student:
        from mint_core.students.control import check_labels
        from mint_core.students.load import load_student

        config = self.config
        about = StudentConfig(
            model=_model(config),
            revision=config.revision,
            dtype=config.dtype,
            quantize=config.quantize,
            device=self.context.device,
        )
        try:
            student = load_student(about)
        except ModelError as error:
            raise ModelError(f"Teacher 'vlm', whose model is loaded as a student is: {error}") from error
        if "image" in self._task.modality and not student.reads_images:
            raise ModelError(
                f"The task shows images, but the model {student.source} of the teacher 'vlm' reads text only; name an "
                "image-text model."
            )
        check_labels(self.labels, student.processor, self._task.header)
        return student

    @property
    def _reads_images(self) -> bool:
        return not self.config.base_url and self._student.reads_images

    @property
    def shares_work(self) -> bool:
        """Nothing is trained; a server is asked by one process."""
        return not self.config.base_url

    def fit(self, samples: Sequence[Sample]) -> None:
        """Keeps the labelled samples that may stand in front of a question; nothing is trained.

        Raises:
            ConfigError: `shots` for a task of images, or more of them than there are labelled samples.
        """
        if self.config.shots == 0:
            return
        if "image" in self._task.modality:
            raise ConfigError("teacher.shots needs a task of texts: a prompt holds one image, the sample's own.")
        known = [sample for sample in samples if sample.label is not None and sample.cohort is None]
        if len(known) <= self.config.shots:
            raise ConfigError(f"teacher.shots={self.config.shots}: only {len(known)} training samples have a label.")
        order = np.random.default_rng([self.context.seed, 29]).permutation(len(known))
        self._solved = _labels_in_turn([known[place] for place in order])

    def log_probs(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """See `mint_core.interfaces.teacher.Teacher.log_probs`."""
        out = np.empty((len(samples), len(self.labels)), np.float32)
        with ExitStack() as stack:
            ask = self._opened(stack)
            for start in range(0, len(samples), _AT_ONCE):
                some = samples[start : start + _AT_ONCE]
                row = {sample.id: place for place, sample in enumerate(some, start)}
                prompts = {sample.id: self._prompt(sample) for sample in some}
                for sees in (False, True):  # a batch has images in all of its rows or in none
                    alike = {i: prompt for i, prompt in prompts.items() if (prompt.image is not None) == sees}
                    for sample_id, scores in self._distributions(ask, alike, sees=sees):
                        out[row[sample_id]] = scores
                        self.context.advance(1)
        return out

    def describe(self) -> dict[str, Any]:
        """The model, how it was asked, and the prior of the labels where it is divided by it."""
        config = self.config
        told: dict[str, Any] = {"model": config.model, "shots": config.shots, "calibrated": config.calibrate}
        who = {"endpoint": shown(config.base_url)} if config.base_url else {"reads_images": self._reads_images}
        told |= who
        for seen, prior in self._priors.items():
            best = np.argsort(-prior, kind="stable")[:_TOLD]
            told["prior with a grey image" if seen else "prior"] = {
                self.labels.names[column]: round(float(np.exp(prior[column])), 4) for column in best
            }
        return told

    def _opened(self, stack: ExitStack) -> Any:
        """Scores prompts by sample id: with the model, or through a connection that the stack closes."""
        if not self.config.base_url:
            from mint_core.answering.score import score

            student, size = self._student, self.config.batch_size
            return lambda prompts: score(student, prompts, self.labels, self._task.header, batch_size=size)
        from mint_core.answering.endpoint_scores import ScoringEndpoint

        if "image" in self._task.modality:
            raise ConfigError(
                "teacher.base_url: a completions server reads texts only, and the task shows images; load the model "
                "here with teacher.model."
            )
        about = _server(self.config)
        check_consent(about, "text", ALLOW)
        asking = Asking(self.labels, self._task.header, 1, 1, PredictConfig(engine="endpoint", endpoint=about))
        return stack.enter_context(ScoringEndpoint(asking)).scores

    def _distributions(self, ask: Any, prompts: Mapping[str, Prompt], *, sees: bool) -> Scores:
        prior = self._prior(ask, sees) if self.config.calibrate and prompts else 0.0
        for sample_id, scores in ask(prompts):
            if not np.isfinite(scores).all():
                raise ModelError(f"Sample {sample_id}: the scores of the teacher 'vlm' are not finite.")
            yield sample_id, log_softmax(scores[None].astype(np.float64) - prior)[0]

    def _prior(self, ask: Any, sees: bool) -> NDArray[np.float64]:
        """Logarithm of the mean p(label | nothing), with a grey image or without."""
        if sees not in self._priors:
            nothing = Sample("nothing", "train", image=Blank() if sees else None)
            texts = CONTENT_FREE if "text" in self._task.modality else (None,)
            prompts = {str(text): self._prompt(replace(nothing, text=text)) for text in texts}
            rows = np.stack([log_softmax(scores[None])[0] for _, scores in ask(prompts)]).astype(np.float64)
            self._priors[sees] = np.logaddexp.reduce(rows, axis=0) - np.log(len(rows))
        return self._priors[sees]

    def _prompt(self, sample: Sample) -> Prompt:
        """What is asked about a sample: its question, what stands beside it, solved samples in front."""
        own = (one for one in self._solved if one.id != sample.id and (one.group is None or one.group != sample.group))
        examples = [self._example(one) for one in islice(own, self.config.shots)]
        question = self._question(sample, training=False)
        prompt = Wording(tuple(examples)).put(question)
        shows = self.config.beside and prompt.image is None and sample.image is not None and self._reads_images
        return replace(prompt, image=sample.image) if shows else prompt

    def _question(self, sample: Sample, *, training: bool) -> Prompt:
        task, config = self._task, self.config
        blind = sample.for_student(task.modality)
        for part, own in {"image": blind.image, "text": blind.text}.items():
            if part in task.modality and own is None:
                raise DataError(f"Sample '{sample.id}' has no {part}, which the task shows; leave the sample out.")
        if config.prompt is not None:
            asked = config.prompt.replace("{labels}", ", ".join(self.labels.names)).replace("{text}", blind.text or "")
            prompt = Prompt((Message("user", asked),), blind.image)
        else:
            prompt = task.training_prompt(blind, 1) if training else task.inference_prompt(blind, 1)
        known = self._beside(sample)
        return with_question(prompt, f"{known}\n\n{question_of(prompt).content}") if known else prompt

    def _beside(self, sample: Sample) -> str:
        """Privileged fields, and the text where the task shows none."""
        if not self.config.beside:
            return ""
        lines = [f"{field}: {value}" for field, value in sample.privileged.items()]
        if "text" not in self._task.modality and sample.text:
            lines.append(sample.text)
        return "\n".join(lines)

    def _example(self, sample: Sample) -> Example:
        response = write_response(self._task.header, (str(sample.label),))
        return Example(question_of(self._question(sample, training=True)).content, response)


def _server(config: VlmConfig) -> EndpointConfig:
    """Which server is asked, and how."""
    return EndpointConfig(
        url=config.base_url, model=_model(config), send_text=config.send_text, api_key_env=config.api_key_env,
        parallel=config.parallel,
    )  # fmt: skip


def _model(config: VlmConfig) -> str:
    """The model that a config names.

    Raises:
        ConfigError: It names none.
    """
    if not config.model:
        raise ConfigError("The teacher 'vlm' needs a model; name one, for example --set teacher.model=owner/name.")
    return config.model


def _labels_in_turn(samples: Sequence[Sample]) -> list[Sample]:
    """The first sample of every label, then the second of every label, and so on."""
    seen: dict[str | None, int] = {}
    turns = []
    for sample in samples:
        seen[sample.label] = seen.get(sample.label, 0) + 1
        turns.append(seen[sample.label])
    return [samples[place] for place in np.argsort(turns, kind="stable")]
