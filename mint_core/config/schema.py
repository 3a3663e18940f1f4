"""What a config may hold: its sections, with a description on every key."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from mint_core.files import Access
from mint_core.interfaces import MAX_SEED, ComponentConfig

Choice = dict[str, Any]
"""A component as the user writes it: `name` and its options."""
EMBEDDED = "embedded"
"""The student that the task brings."""
RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What a folder below `out` may be called."""


class StudentConfig(ComponentConfig):
    """The model that is aligned."""

    neutral: ClassVar[frozenset[str]] = frozenset({"device"})
    later: ClassVar[frozenset[str]] = frozenset({"quantize", "double_quantize"})
    of_one_model: ClassVar[frozenset[str]] = frozenset({"revision", "trust_remote_code", "chat_template_kwargs"})

    model: str = Field(
        EMBEDDED,
        description="Hugging Face id, local folder, GGUF file, or `embedded`: the small student that the task brings; "
        "`embedded:TASK` borrows that of another task.",
    )
    revision: str | None = Field(None, description="Commit, tag or branch of a Hugging Face id.")
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Precision of the weights; auto = bf16 on a GPU, fp32 on a CPU."
    )
    quantize: Literal["none", "nf4", "int8"] = Field(
        "none",
        description="Hold the weights in 4 bits (nf4, as QLoRA does) or 8 bits (int8), by bitsandbytes; `dtype` is "
        "what it computes in.",
    )
    double_quantize: bool = Field(True, description="With nf4: quantise the scales of the weights too.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps …")
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        "auto", description="Attention implementation; auto = what transformers chooses."
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model. Off for good reason."
    )
    chat_date: date = Field(
        date(2024, 7, 26), description="What a chat template that writes today's date takes for today."
    )
    chat_template_kwargs: dict[str, Any] = Field(
        {}, description="Variables of the chat template, for example {enable_thinking: false}."
    )


class EndpointConfig(ComponentConfig):
    """Which OpenAI-compatible server is asked, and how."""

    neutral: ClassVar[frozenset[str]] = frozenset({"send_text", "api_key_env", "timeout", "retries", "parallel"})

    url: str = Field("", description="Base address, for example http://localhost:8000/v1.")
    model: str = Field("", description="The model's name on that server.")
    send_text: bool = Field(
        False, description="Allow that samples leave this machine; without it only its own addresses are asked."
    )
    api_key_env: str = Field("MINT_API_KEY", description="Environment variable that holds the key.")
    timeout: float = Field(120.0, gt=0, le=86_400, description="Seconds for one answer.")
    retries: int = Field(4, ge=0, le=100, description="Further attempts.")
    parallel: int = Field(4, ge=1, le=256, description="Requests at a time.")
    request: dict[str, Any] = Field({}, description="Further fields of the request; null takes a field out.")


class PredictConfig(ComponentConfig):
    """Who answers, and how."""

    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size", "val"})

    engine: Literal["transformers", "vllm", "endpoint"] = Field(
        "transformers",
        description="transformers = the student on this machine; vllm = the student in vLLM's engine, which writes "
        "freely; endpoint = a model on an OpenAI-compatible server, which is only asked.",
    )
    endpoint: EndpointConfig = Field(EndpointConfig(), description="For `endpoint`: which server, and how.")
    vllm: dict[str, Any] = Field({}, description="For `vllm`: further options of its engine.")
    shots: Literal[0, 1] = Field(
        0, description="Solved training samples in front of the question, drawn from the seed; for tasks of texts."
    )
    reason: bool = Field(
        False, description="Ask for a chain of thought before the list; the last list counts, and the table says so."
    )
    decode: Literal["free", "score", "constrained"] = Field(
        "free",
        description="free = greedy generation without constraints; score = the N labels with the highest likelihood, "
        "every label of the space scored; constrained = greedy generation that can only write N distinct known labels.",
    )
    batch_size: int | None = Field(None, ge=1, le=65_536, description="Prompts per batch; null = 32, with vLLM 512.")
    normalise: Literal["none", "tokens"] = Field(
        "none",
        description="For `score`: rank by the log-probability of a label as it is, or divided by its tokens.",
    )
    val: bool = Field(
        True,
        description="For `score`: also score the val split with the aligned student, which changes no result and lets "
        "`mint predict --target-precision` choose its threshold.",
    )
    free_beside: bool = Field(
        True, description="For `constrained`: also let the student answer freely, and report both (twice the time)."
    )
    max_new_tokens: int | None = Field(
        None,
        ge=1,
        le=131_072,
        description="Length limit of a response in tokens; null = the longest list of labels, and half again.",
    )
    base: bool = Field(True, description="Also let the student answer before alignment.")
    shuffled: bool = Field(
        True,
        description="Image students: also let the aligned student answer with another sample's image, as a control.",
    )


class EvaluateConfig(ComponentConfig):
    """How predictions are judged."""

    split: Literal["auto", "train", "val", "test"] = Field(
        "auto", description="Split to report; auto = test where there is one, else val."
    )
    bootstrap: int = Field(2000, ge=100, le=100_000, description="Bootstrap draws behind every interval.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")
    subgroups: tuple[str, ...] | None = Field(
        None,
        description="Fields of the samples (sex, age, a column of your table …) by which results are reported; null = "
        "those that the source knows, [] = none. Label frequency is always reported.",
    )
    pairs: tuple[tuple[str, str], ...] | None = Field(
        None,
        description="Pairs of labels whose mean ranks are reported, for example [[Colon, Stomach]]; null = those that "
        "the teacher confuses most, [] = none.",
    )

    @field_validator("subgroups", mode="before")
    @classmethod
    def _between_commas(cls, given: Any) -> Any:
        return tuple(part.strip() for part in given.split(",")) if isinstance(given, str) else given

    @field_validator("pairs", mode="before")
    @classmethod
    def _pairs(cls, given: Any) -> Any:
        listed = given if isinstance(given, list | tuple) else (given,)
        pairs = (listed,) if len(listed) == 2 and all(isinstance(one, str) for one in listed) else listed
        for pair in pairs if given is not None else ():
            if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(one, str) for one in pair)):
                raise ValueError("each pair is a list of two labels")
        return None if given is None else tuple(map(tuple, pairs))


class RetrievalConfig(ComponentConfig):
    """How what the retriever finds is used."""

    tokens: int = Field(
        1024,
        ge=0,
        le=1_000_000,
        description="Most tokens that passages add to a prompt, counted by the student's tokenizer: whole passages, "
        "the best first. 0 = none, so that the retriever only ranks labels.",
    )
    train: bool = Field(False, description="Put passages into the training prompts too.")
    fuse: Literal["none", "rrf", "weighted"] = Field(
        "none",
        description="Also report the student's and the retriever's rankings combined: rrf = reciprocal ranks; weighted "
        "= log-probability plus `weight` times the retriever's standardised score, for decode=score.",
    )
    weight: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        le=1e6,
        description="Weight of the retriever for fuse=weighted; null = the one that ranks the validation split best.",
    )


class RunConfig(ComponentConfig):
    """Everything that decides a run's result, and where it goes."""

    neutral: ClassVar[frozenset[str]] = frozenset({"name", "out", "access"})

    name: str | None = Field(
        None,
        pattern=RUN_NAME,
        description="Name of the run folder, without a path: letters, digits, '.', '_' and '-', the first one a letter "
        "or a digit; null = task, teacher, aligner and a hash of the config.",
    )
    out: Path = Field(Path("runs"), description="Folder that holds the run folders and their cache.")
    access: Access = Field(
        "private",
        description="Who may read the run folder and the cache: private = you alone, group = your group too, umask = "
        "as your system's umask says.",
    )
    quick: bool = Field(
        False,
        description="A trial of all stages: 24 training samples, 8 of every other split, one epoch. Its numbers say "
        "nothing.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of everything that is drawn.")
    align_seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED,
        description="Seed of the alignment alone, so that several seeds share labels and preferences; null = seed.",
    )
    task: Choice = Field(description="Task: a name, or `name` and its options.")
    teacher: Choice = Field(description="Teacher: a name, or `name` and its options.")
    strategy: Choice = Field(description="Preference strategy: a name, or `name` and its options.")
    aligner: Choice | None = Field(
        description="Aligner: a name, or `name` and its options; none = only the base student is evaluated."
    )
    retriever: Choice | None = Field(None, description="Retriever: a name, or `name` and its options; null = none.")
    metrics: tuple[Choice, ...] = Field(description="Metrics: names, or `name` and options; default: all installed.")
    student: StudentConfig = Field(StudentConfig(), description="The model that is aligned.")
    retrieval: RetrievalConfig = Field(RetrievalConfig(), description="How what the retriever finds is used.")
    predict: PredictConfig = Field(PredictConfig(), description="How the student answers.")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="How predictions are judged.")

    @property
    def alignment_seed(self) -> int:
        """The seed of the alignment."""
        return self.seed if self.align_seed is None else self.align_seed
