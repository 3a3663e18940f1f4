"""Batched greedy generation with vLLM: the student in its engine, the adapter's folder as a LoRA request."""

from __future__ import annotations

import importlib.util
import os
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mint_core.answering.engine import Answered, Asking, Engine, Prompts, batches
from mint_core.answering.generate import stop_tokens
from mint_core.config import StudentConfig
from mint_core.errors import ConfigError, DataError, ModelError
from mint_core.interfaces import Student, Unreadable
from mint_core.students.adapter import in_vision, load_adapter
from mint_core.students.control import check_labels
from mint_core.students.encoding import EncodedPrompt, StudentCounter, check_length, encode_prompt
from mint_core.students.gguf import find_gguf
from mint_core.students.load import hub_commit, load_outline
from mint_core.students.prompts import render_prompt
from mint_core.types import Prompt

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for `max_lora_rank`."""
_LORA = 1
_OTHERWISE = "use predict.engine=transformers"
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_OURS = (
    *("model", "tokenizer", "revision", "tokenizer_revision", "trust_remote_code", "dtype"),
    *("enable_lora", "max_lora_rank", "max_loras", "limit_mm_per_prompt"),
)
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # answers go to stdout
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process an error says its reason, in another it stays in the log
}


def check_options(options: Mapping[str, Any]) -> None:
    """Refuses those of the user's options that can be refused before anything is loaded.

    Raises:
        ConfigError: vLLM is not installed, or an option is one that mint sets.
    """
    for key in options:
        if key in _OURS:
            raise ConfigError(
                f"predict.vllm takes no {key}: it follows from the adapter and the options of the student."
            )
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError("predict.engine=vllm needs vLLM, which is not here; run `pip install 'mint-core[vllm]'`.")


def allowed_rank(rank: int) -> int:
    """The smallest `max_lora_rank` that holds the largest rank of any layer of an adapter.

    Raises:
        ModelError: vLLM has no such large adapters.
    """
    for allowed in RANKS:
        if allowed >= rank:
            return allowed
    raise ModelError(f"vLLM takes adapters up to rank {RANKS[-1]}, and this one has {rank}; {_OTHERWISE}.")


class VllmEngine(Engine):
    """A student in vLLM's engine, as it is and with an adapter; `open_engine` describes the arguments.

    Attributes:
        student: Processor, config and shapes without weights, which vLLM holds.

    Raises:
        ConfigError: The device or an option is not vLLM's.
        ModelError: vLLM finds no GPU or cannot start, or student and adapter cannot be loaded or do not fit.
    """

    def __init__(
        self,
        config: StudentConfig,
        path: str | None,
        adapter: Path | None,
        asking: Asking,
        tell: Callable[[str], None],
        *,
        shows_images: bool,
    ) -> None:
        source, options = path or config.model, asking.config.vllm
        if find_gguf(source):
            raise ModelError(f"mint does not give GGUF files such as {source} to vLLM; {_OTHERWISE}.")
        if config.quantize != "none":
            raise ModelError(
                f"mint does not give students with student.quantize={config.quantize} to vLLM, which would make other "
                f"weights of them than training does; {_OTHERWISE}."
            )
        _set_environment(offline=Path(source).exists())
        check_options(options)
        device = _device(config.device)
        dtype = config.dtype if config.dtype != "auto" else "fp32" if device == "cpu" else "bf16"
        self.student = load_outline(config.model_copy(update={"device": "cpu", "dtype": dtype}), path)
        if shows_images and not self.student.reads_images:
            raise ModelError(f"The task shows images, but the student {source} reads text only.")
        check_labels(asking.labels, self.student.processor, asking.header)
        self.asking, self.counter = asking, StudentCounter(self.student)
        revision = hub_commit(source, config.revision)
        modalities = {"image": int(shows_images), "video": 0}
        given: dict[str, Any] = {
            "seed": 0,
            "max_model_len": -1,  # the student's context, or what the memory holds of it
            "use_tqdm_on_load": False,
            "mm_processor_cache_gb": 0,  # no image comes twice
            **(_lora(self.student, adapter) if adapter else {}),
            **options,
            "model": source,
            "revision": revision,
            "tokenizer_revision": revision,
            "trust_remote_code": config.trust_remote_code,
            "dtype": _DTYPES[dtype],
            **({"limit_mm_per_prompt": modalities} if self.student.reads_images else {}),
        }
        self._engine = _start(source, given)
        self._request: Any = None
        self._tell = tell

    def put_on(self, adapter: Path) -> None:
        """See `Engine.put_on`; it is the adapter that the engine was made for."""
        from vllm.lora.request import LoRARequest

        self._request = LoRARequest("mint", _LORA, str(adapter.resolve()))
        try:
            self._engine.llm_engine.add_lora(self._request)
        except Exception as error:
            raise ModelError(f"vLLM cannot use the adapter in {adapter} ({_reason(error)}); {_OTHERWISE}.") from error
        if not self._check_whole(adapter):
            self._tell(
                "This version of vLLM does not tell whether it uses the whole adapter; compare a few answers "
                "with those of predict.engine=transformers."
            )

    def _check_whole(self, adapter: Path) -> bool:
        """VLLM leaves out in silence what it has no layer for."""
        told = self._engine.collective_rpc(_left_out)
        if any(one is None for one in told):
            return False
        missing = sorted(set.intersection(*(set(one) for one in told)))
        if missing:
            raise ModelError(
                f"vLLM would leave out {len(missing)} layers of the adapter in {adapter}, {missing[0]} among them; "
                f"{_OTHERWISE}."
            )
        return True

    def answers(self, variant: str, prompts: Prompts, *, free: bool = False) -> Iterator[list[Answered]]:
        """See `Engine.answers`; a prompt that vLLM reads otherwise than the student does is a ModelError."""
        budget = self.asking.budget(self.counter)
        for batch in batches(prompts, self.asking.batch_size, ordered=True):
            read = {key: self._read(key, prompt, budget) for key, prompt in batch.items()}
            rows = {key: one for key, one in read.items() if not isinstance(one, Unreadable)}
            written = self._generate(rows, budget)
            yield [
                one if isinstance(one, Unreadable) else self._answer(key, variant, written[key])
                for key, one in read.items()
            ]

    def _answer(self, sample_id: str, variant: str, written: _Written) -> Answered:
        """What was written, where vLLM wrote until the model ended or the limit was reached."""
        if written.reason not in ("stop", "length"):
            return Unreadable(
                sample_id,
                f"Sample {sample_id}: vLLM wrote no whole answer (finish_reason {written.reason or 'none'}); give the "
                f"same command again, or {_OTHERWISE}.",
            )
        return self.asking.read(sample_id, variant, written.text, truncated=written.reason == "length")

    def _read(self, sample_id: str, prompt: Prompt, budget: int) -> _Row | Unreadable:
        try:
            encoded = encode_prompt(self.student, sample_id, prompt)
            length, limit = encoded.length + budget, self._engine.model_config.max_model_len
            check_length(self.student, sample_id, length)
        except (DataError, ModelError) as error:
            return Unreadable(sample_id, str(error))
        if length > limit:
            return Unreadable(
                sample_id,
                f"Sample {sample_id}: prompt and response take {length} tokens, and vLLM has room for {limit} here; "
                "raise max_model_len, or give it more memory, for example predict.vllm.tensor_parallel_size=2.",
            )
        return _Row(self.student, prompt, encoded)

    def _generate(self, rows: Mapping[str, _Row], budget: int) -> dict[str, _Written]:
        """What was written per sample id."""
        from vllm import SamplingParams

        if not rows:
            return {}
        stops = stop_tokens(self.student, next(iter(rows.values())).end_of_turn)
        how = SamplingParams(temperature=0.0, max_tokens=budget, stop_token_ids=stops, detokenize=False)
        try:
            outputs = self._engine.generate(
                [row.prompt for row in rows.values()], how, lora_request=self._request, use_tqdm=False
            )
        except Exception as error:  # no word of it: it may quote a prompt
            raise ModelError(
                f"vLLM stopped while it answered ({type(error).__name__}); the same command goes on where it stopped, "
                "and predict.engine=transformers does without vLLM."
            ) from None
        for (sample_id, row), output in zip(rows.items(), outputs, strict=True):
            if list(output.prompt_token_ids) != row.ids:
                raise ModelError(
                    f"vLLM reads the prompt of sample {sample_id} as {len(output.prompt_token_ids)} tokens, which are "
                    f"not the {len(row.ids)} of the student's own processor; {_OTHERWISE}."
                )
        written = [list(output.outputs[0].token_ids) for output in outputs]
        texts = self.student.tokenizer.batch_decode(written, skip_special_tokens=True)
        reasons = [output.outputs[0].finish_reason for output in outputs]
        return {key: _Written(text, why) for key, text, why in zip(rows, texts, reasons, strict=True)}


class _Written(NamedTuple):
    text: str
    reason: str | None
    """Why vLLM stopped: `stop`, `length`, or something that makes it no answer."""


class _Row:
    """A prompt as vLLM takes it, and the tokens that it must read: those of the encoding, whose pixels are let go."""

    def __init__(self, student: Student, prompt: Prompt, encoded: EncodedPrompt) -> None:
        self.ids: list[int] = encoded.tensors["input_ids"][0].tolist()
        self.end_of_turn = encoded.end_of_turn
        self.prompt: dict[str, Any] = {"prompt_token_ids": self.ids}
        if prompt.image is not None:
            text = render_prompt(prompt, student.processor, parts=True).text
            bos = student.tokenizer.bos_token
            has_bos = bos is not None and text.startswith(bos)
            ids = student.tokenizer(text, add_special_tokens=not has_bos)["input_ids"]
            # One placeholder stands for the image; vLLM makes as many of it as the image takes.
            self.prompt = {"prompt_token_ids": ids, "multi_modal_data": {"image": prompt.image.open()}}


def _set_environment(*, offline: bool) -> None:
    """What vLLM and the hub's client read when they are imported."""
    os.environ.update(_ENVIRONMENT)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _device(wanted: str) -> str:
    """Where this vLLM computes, for example `cuda` or `cpu`.

    Raises:
        ConfigError: The user wants another device.
        ModelError: vLLM cannot be imported, or has nothing to compute on.
    """
    found = str(_imported("vllm.platforms", "current_platform").device_type)
    if not found:
        raise ModelError(f"vLLM finds no GPU here; {_OTHERWISE}, or install a build of vLLM for CPUs.")
    if wanted.startswith("cuda:"):
        raise ConfigError(
            f"vLLM takes the GPUs in CUDA_VISIBLE_DEVICES; set that to {wanted.removeprefix('cuda:')} and leave "
            "--device out."
        )
    if wanted not in ("auto", found):
        raise ConfigError(f"This vLLM computes on '{found}', not on '{wanted}'; leave --device out.")
    return found


def _adapter_rank(student: Student, adapter: Path) -> int:
    """The largest rank of an adapter that fits the student.

    Raises:
        ModelError: It is none, or does not fit.
    """
    made = load_adapter(student.model, adapter).peft_config["default"]
    return max(int(rank) for rank in (made.r, *made.rank_pattern.values()))


def _lora(student: Student, adapter: Path) -> dict[str, Any]:
    """What vLLM's engine must know of an adapter before it starts."""
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        vision = any(in_vision(name) for name in file.keys())  # noqa: SIM118 - no mapping
    return {
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": allowed_rank(_adapter_rank(student, adapter)),
        "enable_tower_connector_lora": vision,
    }


def _start(source: str, options: Mapping[str, Any]) -> Any:
    engine, arguments = _imported("vllm", "LLM"), _imported("vllm", "EngineArgs")
    for key in options:
        if key not in arguments.__dataclass_fields__:
            raise ConfigError(f"This vLLM's engine has no option '{key}'; `vllm serve --help=all` lists them.")
    try:
        with warnings.catch_warnings(action="ignore"):
            return engine(**options)
    except Exception as error:
        raise ModelError(
            f"vLLM cannot start with the student {source} ({_reason(error)}); set predict.vllm.KEY, or {_OTHERWISE}."
        ) from error


def _imported(module: str, name: str) -> Any:
    """Something of vLLM, without the warnings that its own code sets off: nobody here can mend them."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ModelError(f"vLLM is installed, but cannot be imported ({_reason(error)}); install it anew.") from error


def _left_out(worker: Any) -> Sequence[str] | None:
    """Layers of the adapter that a worker of vLLM has no place for; None where this vLLM does not tell."""
    try:
        manager = worker.model_runner.lora_manager._adapter_manager
        return sorted(set(manager.get_adapter(_LORA).loras) - set(manager.modules))
    except AttributeError:  # no public interface tells it
        return None


def _reason(error: Exception) -> str:
    """The first line that says something; no prompt has been seen yet."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "validation error" not in line and " " in line), type(error).__name__)
    told = told.removeprefix("Value error, ").partition(" [type=")[0].rstrip(".")
    return textwrap.shorten(told, 240, placeholder=" …")
