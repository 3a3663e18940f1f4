"""Loads a student: any Hugging Face id, local folder or GGUF file, text or image-text, decided from its config."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mint_core.config import StudentConfig, decisive
from mint_core.errors import ConfigError, MintError, ModelError
from mint_core.interfaces import Student
from mint_core.students.folder import check_config, check_folder, check_size, check_weights
from mint_core.students.gguf import GgufFile, find_gguf
from mint_core.students.quantize import check_quantize, loading_options
from mint_core.students.settle import settle
from mint_core.students.template import pin

if TYPE_CHECKING:
    import torch

# Usage pings of the libraries below stay off: clinical sites must not phone out because they train a model.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

_WHOLE_FILE_BYTES = 64 * 2**20


def resolve_device(name: str) -> str:
    """`auto` -> cuda, mps or cpu; any other name is checked.

    Raises:
        ConfigError: There is no such device here.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.device(name)
    except (RuntimeError, ValueError):
        meant = _device_meant(name)
        advice = f"write {meant}" if meant else "write auto, cpu, cuda, cuda:1 or mps"
        raise ConfigError(f"There is no device '{name}'; {advice}. `mint doctor` shows what is there.") from None
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"The device '{name}' cannot be used ({reason}); `mint doctor` shows what is there."
        ) from None
    return name


def _device_meant(name: str) -> str:
    """What torch calls the device that somebody means: `gpu` -> cuda, `GPU 1` -> cuda:1, `metal` -> mps; else empty."""
    found = re.fullmatch(r"(auto|cpu|cuda|gpu|nvidia|rocm|mps|metal|apple)?[\s:_-]*(\d*)", name.strip().lower())
    kind, number = (found[1] or "cuda", found[2]) if found else ("", "")
    device = {"gpu": "cuda", "nvidia": "cuda", "rocm": "cuda", "metal": "mps", "apple": "mps"}.get(kind, kind)
    return f"{device}:{int(number)}" if number and device == "cuda" else device


def resolve_dtype(name: str, device: str) -> torch.dtype:
    """`auto` -> bf16 on a GPU, fp32 on a CPU."""
    import torch

    if name == "auto":
        name = "bf16" if device.startswith("cuda") else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def load_student(config: StudentConfig, path: str | None = None) -> Student:
    """Loads weights, processor and chat template.

    Args:
        config: Which student and how.
        path: A folder to load from instead of `config.model` (the embedded student).

    Raises:
        ModelError: It cannot be found or loaded.
        ConfigError: The device cannot be used, or its weights cannot be quantised.
    """
    student = _load(config, path or config.model, weights=True)
    if config.quantize == "none":  # else the weights were put there while they were loaded
        student.model.to(student.device)
    student.model.eval()
    return student


def load_outline(config: StudentConfig, path: str | None = None) -> Student:
    """As `load_student`, but no weight is read: a folder with config and processor is enough.

    Returns:
        A student whose model has shapes and no numbers, and whose device is the one that training would use.
    """
    return _load(config, path or config.model, weights=False)


def _load(config: StudentConfig, source: str, *, weights: bool) -> Student:
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoProcessor,
        AutoTokenizer,
        GenerationConfig,
    )

    device = resolve_device(config.device)
    hub = {"revision": hub_commit(source, config.revision), "trust_remote_code": config.trust_remote_code}
    options: dict[str, Any] = {"dtype": resolve_dtype(config.dtype, device)}
    # A fused kernel is planned like sdpa, and may not be installed where only the outline is asked for.
    if config.attention != "auto" if weights else config.attention in ("sdpa", "eager"):
        options["attn_implementation"] = config.attention
    gguf = find_gguf(source)
    with load_failures(source), _place(source, gguf) as place:
        check_folder("student", source)
        held = gguf.numbers if gguf else check_weights(Path(source)) if Path(source).is_dir() else 0
        check_config(Path(source))
        hub |= {"gguf_file": gguf.path.name} if gguf else {}
        model_config = _model_config(place, hub, gguf)
        reads_images = is_image_text(model_config)
        check_quantize(config, source, model_config, gguf=gguf is not None)
        factory = AutoModelForImageTextToText if reads_images else AutoModelForCausalLM
        few_bits = config.quantize != "none" and weights
        if held or few_bits or not weights:
            with torch.device("meta"):
                model = factory.from_config(model_config, trust_remote_code=config.trust_remote_code, **options)
        if held:
            check_size(source, model, held)
        if weights:
            how = loading_options(config, model, options["dtype"], device) if few_bits else {}
            read = {**hub, **options, **how, **(_unpacked() if gguf else {}), "output_loading_info": True}
            model, told = factory.from_pretrained(place, use_safetensors=True, **read)
            if told["missing_keys"]:
                missing = sorted(told["missing_keys"])
                raise ModelError(
                    f"The student {source} lacks {len(missing)} of its weights, {missing[0]} among them; copy it again."
                )
        else:
            with suppress(OSError):  # it has none: what its config says, counts
                revision = hub["revision"]
                model.generation_config = GenerationConfig.from_pretrained(place, revision=revision)
        if gguf:
            model.name_or_path = model.config.name_or_path = str(gguf.path)  # an adapter names what it was made for
        processor = (AutoProcessor if reads_images else AutoTokenizer).from_pretrained(place, **hub)
        tokenizer = processor.tokenizer if reads_images else processor
        return finished(Student(model, processor, tokenizer, reads_images, torch.device(device), source), config)


@contextmanager
def _place(source: str, gguf: GgufFile | None) -> Iterator[str]:
    """What transformers reads: of a GGUF file a folder with a link to it and nothing else.

    Whatever lies beside the file, another model's tokenizer or chat template, would be taken for its own.
    """
    if gguf is None:
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / gguf.path.name).symlink_to(gguf.path.resolve())
        yield folder


def _model_config(place: str, hub: dict[str, Any], gguf: GgufFile | None) -> Any:
    """The config that transformers reads, or makes of a GGUF file's header.

    Raises:
        ModelError: transformers does not know the architecture of the file.
    """
    from transformers import AutoConfig, __version__

    try:
        return AutoConfig.from_pretrained(place, **hub)
    except Exception as error:
        if gguf is None:
            raise
        raise ModelError(
            f"The student {gguf.path} is of the architecture '{gguf.architecture}', which transformers {__version__} "
            "does not read from GGUF; give the folder or the hub id that the file was made from."
        ) from error


def _unpacked() -> dict[str, Any]:
    """Has transformers unpack the weights of a GGUF file: an adapter is trained on them."""
    try:
        from transformers import GgufConfig
    except ImportError:  # an older transformers always unpacks them
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def finished(student: Student, config: StudentConfig) -> Student:
    """The student with a chat template that no clock changes, and without settings of its own for answers.

    Args:
        student: With weights or without.
        config: The date of the template, and what the user sets in it.

    Raises:
        ModelError: It has no token that ends an answer.
        ConfigError: Its template does not read what the user sets.
    """
    pin(student.processor, config.chat_date, config.chat_template_kwargs, student.source)
    if student.tokenizer is not student.processor:
        pin(student.tokenizer, config.chat_date, {}, student.source)
    settle(student)
    return student


@contextmanager
def load_failures(source: str, role: str = "student") -> Iterator[None]:
    """Tells as one sentence whatever a library raises over files that it cannot use; a memory that is full is none.

    Raises:
        ModelError: It cannot be loaded.
    """
    import torch

    try:
        yield
    except (MintError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ModelError(explain_load_failure(role, source, error)) from error


def is_image_text(model_config: Any) -> bool:
    """Whether transformers loads this config as an image-text model, and it has a vision tower."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    has_vision = any(getattr(model_config, key, None) is not None for key in ("vision_config", "vq_config", "vision"))
    own_code = getattr(model_config, "auto_map", None) or {}
    return has_vision and (model_config.model_type in KNOWN or "AutoModelForImageTextToText" in own_code)


def explain_load_failure(role: str, source: str, error: Exception) -> str:
    """One sentence on why a model could not be loaded, with the next step."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    reason = textwrap.shorten(reason, 240, placeholder=" …")
    if isinstance(error, ImportError):
        return f"The {role} {source} needs a package that is not installed here ({reason})."
    if Path(source).exists():
        kind = "file" if Path(source).is_file() else "folder"
        return f"The {role} in {source} cannot be loaded ({reason}); check that the {kind} holds a complete model."
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or source.endswith(".gguf"):
        return f"The {role} {source} does not exist; check the path."
    chain = [error, error.__cause__, error.__context__]
    if any(isinstance(one, GatedRepoError) for one in chain):
        return (
            f"The {role} '{source}' is gated; ask for access on its page, then run `hf auth login` and "
            f"`hf download {source}`."
        )
    if any(isinstance(one, RepositoryNotFoundError | RevisionNotFoundError) for one in chain):
        return (
            f"The hub knows no {role} '{source}' of that name and revision, or it is private; check the spelling, or "
            "run `hf auth login`."
        )
    return (
        f"The {role} '{source}' is neither a local folder nor in the local hub cache, and the hub cannot be reached; "
        f"run `hf download {source}` where there is a network, or give a local folder."
    )


def hub_commit(source: str, revision: str | None) -> str | None:
    """The commit that a hub id stands for: the one in the local cache, else the hub's newest of that revision.

    A run is keyed and loaded by this commit, so that what the hub publishes later changes neither.

    Returns:
        The commit; `revision` where there is none to be found, and for what lies on this machine.
    """
    if Path(source).exists():
        return revision
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(source, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent.name
        return HfApi().model_info(source, revision=revision).sha or revision
    except Exception:  # a wrong name, no network, no access: loading it will say what is wrong
        return revision


def identity(config: StudentConfig, source: str) -> dict[str, Any]:
    """What decides a student's answers: its weights by content, its settings without the device, its precision.

    Args:
        config: The student.
        source: Where its weights lie: `config.model`, or the folder of the embedded student.
    """
    weights = fingerprint(source, config.revision)
    return {"student": {**decisive(config), "dtype": precision(config)}, "student_weights": weights}


def precision(config: StudentConfig) -> str:
    """Precision of the weights on the config's device, for example `float32`."""
    return str(resolve_dtype(config.dtype, resolve_device(config.device))).removeprefix("torch.")


def fingerprint(source: str, revision: str | None = None) -> str:
    """What identifies a model's weights in stage keys.

    Local files count by content up to 64 MiB, beyond that by size and modification time (hashing 22 GB at every start
    would take longer than many a run). A hub id counts by its commit.
    """
    path = Path(source)
    if path.exists():
        digest = hashlib.blake2b(digest_size=16)
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            stat = file.stat()
            digest.update(file.relative_to(path).as_posix().encode())
            large = stat.st_size > _WHOLE_FILE_BYTES
            digest.update(f"{stat.st_size}:{stat.st_mtime_ns}".encode() if large else file.read_bytes())
        return digest.hexdigest()
    return f"{source}@{hub_commit(source, revision) or 'main'}"
