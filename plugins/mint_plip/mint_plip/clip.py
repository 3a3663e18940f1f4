"""Finds and loads a CLIP: the embedded one, a folder, a file, an id on the hub, or an open_clip architecture.

Two layouts are read: open_clip's (open_clip_config.json and its weights) and transformers' (config.json and its
weights). A CLIPModel, as `vinid/plip` is published, is converted to open_clip's; transformers runs SigLIP and others.
Weights are safetensors, or files that torch reads with `weights_only=True`: nothing inside a weights file is ever
executed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mint_core.plugin import ModelError, check_regular, parse_json, read_utf8
from mint_plip.clip_conversion import convert_config, convert_preprocess, convert_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded" / "teacher"
HUB = "hf-hub:"
OPEN_CLIP_CONFIG, CLIP_CONFIG, PREPROCESSOR = "open_clip_config.json", "config.json", "preprocessor_config.json"
PROCESSOR = "processor_config.json"
CLIP_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
CLIP_EXTRAS = (
    PREPROCESSOR, PROCESSOR, "spiece.model", "vocab.txt",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt",
)  # fmt: skip
CLIP_TYPE = "clip"
"""The model type that open_clip's CLIP can hold; transformers runs the others."""
CLIP_VOCABULARY = 49408
"""Size of the vocabulary that open_clip carries inside."""

Tokenizer = Callable[[Sequence[str]], "Tensor"]


@dataclass(frozen=True, slots=True)
class Clip:
    """A loaded model, in fp32 on the CPU, in evaluation mode."""

    model: nn.Module
    """open_clip's CLIP, CustomTextCLIP or CoCa, or a `DualEncoderModel`: both towers and `logit_scale`."""
    tokenizer: Tokenizer
    """Sentences -> token ids (n, context length)."""
    preprocess: dict[str, Any]
    """open_clip's preprocess_cfg: size, mean, std, interpolation, resize_mode."""
    fingerprint: str
    """Hash of the weights, the architecture and the preprocessing, in hexadecimal."""
    source: str
    """What was loaded, for the run record."""


def load_clip(model: str, pretrained: str | None = None) -> Clip:
    """Loads a CLIP with its tokenizer and preprocessing.

    Args:
        model: `embedded`, a folder, a weights file that lies beside its config, `hf-hub:owner/name`, `owner/name`, or
            the name of an open_clip architecture.
        pretrained: For an architecture name: open_clip's tag, or a weights file.

    Raises:
        ModelError: It cannot be found, downloaded or read.
    """
    import open_clip

    path = EMBEDDED_FOLDER if model == EMBEDDED else Path(model).expanduser()
    if path.exists():
        if pretrained is not None:
            raise ModelError(f"'{model}' holds its own weights; leave `pretrained` out.")
        return _load_path(path, model)
    if model in open_clip.list_models():
        return _load_architecture(model, pretrained)
    repository = model.removeprefix(HUB)
    if repository.count("/") == 1 and not repository.startswith((".", "/", "~")):
        return _load_hub(repository)
    raise ModelError(
        f"There is no model '{model}': no such file or folder, no id of the form owner/name, and no open_clip "
        "architecture; check the path, or list the architectures with open_clip.list_models()."
    )


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turns whatever goes wrong while reading a model into one sentence, and keeps open_clip's log lines away."""
    root, silent = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(silent)  # without any handler, logging.info() would configure the root logger for good
    root.setLevel(logging.CRITICAL)
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"The model {what} cannot be loaded ({type(error).__name__}: {reason}); "
            "check its files, or download it again."
        ) from error
    finally:
        root.setLevel(level)
        root.removeHandler(silent)


def _load_path(path: Path, name: str) -> Clip:
    folder = path if path.is_dir() else path.parent
    weights = None if path.is_dir() else path
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return _load_open_clip(f"local-dir:{folder}", name, weights=weights)
    if (folder / CLIP_CONFIG).is_file():
        return _load_transformers(folder, name, weights)
    if weights is None:
        raise ModelError(f"{folder} holds neither {OPEN_CLIP_CONFIG} nor {CLIP_CONFIG}; give a model's folder.")
    raise ModelError(
        f"The weights {path} have no config beside them; name the architecture as the model (for example ViT-B-32) and "
        "give the file as `pretrained`."
    )


def _load_architecture(name: str, pretrained: str | None) -> Clip:
    if pretrained is None:
        raise ModelError(f"The architecture {name} has no weights; set `pretrained` to a tag or a weights file.")
    is_file = Path(pretrained).expanduser().is_file()
    if is_file:
        pretrained = str(Path(pretrained).expanduser())
    return _load_open_clip(name, f"{name} with {pretrained}", pretrained=pretrained)


def _load_open_clip(name: str, shown: str, weights: Path | None = None, pretrained: str | None = None) -> Clip:
    import open_clip

    with _reading(shown):
        model = open_clip.create_model(
            name, pretrained=pretrained, load_weights=weights is None, require_pretrained=weights is None,
            pretrained_text=False, output_dict=False, weights_only=True,
        )  # fmt: skip
        if weights is not None:
            open_clip.load_checkpoint(model, str(weights), weights_only=True)
        config = open_clip.factory.get_model_config(name)
        return _finish(model, open_clip.get_tokenizer(name), dict(model.visual.preprocess_cfg), config, shown)


def _load_transformers(folder: Path, shown: str, weights: Path | None) -> Clip:
    import open_clip

    with _reading(shown):
        published = _read_json(folder / CLIP_CONFIG)
        if published.get("model_type") != CLIP_TYPE:
            return _load_other(folder, shown, weights)
        config = convert_config(published)
        files = [weights] if weights else [folder / name for name in CLIP_WEIGHTS if (folder / name).is_file()]
        if not files:
            raise ModelError(f"The folder {folder} holds no weights ({' or '.join(CLIP_WEIGHTS)}); download it again.")
        preprocess = convert_preprocess(_preprocessor(folder), config["vision_cfg"]["image_size"])
        model = open_clip.CLIP(**config)
        model.load_state_dict(convert_state(read_tensors(files[0])), strict=True)
        return _finish(model, _tokenizer(folder, config["text_cfg"]), preprocess, config, shown)


def _load_other(folder: Path, shown: str, weights: Path | None) -> Clip:
    """SigLIP and its like, as transformers runs them."""
    from mint_plip.transformers_encoder import load, load_tokenizer

    if weights is not None and weights.name not in CLIP_WEIGHTS:
        raise ModelError(f"{shown}: give the folder {folder} instead of the weights file.")
    model = load(folder, shown)
    config, stated = model.model.config, _preprocessor(folder)
    if not stated:
        raise ModelError(f"The folder {folder} holds no {PREPROCESSOR}; download it again.")
    preprocess = convert_preprocess(stated, config.vision_config.image_size)
    tokenizer = load_tokenizer(folder, config.text_config.max_position_embeddings)
    return _finish(model, tokenizer, preprocess, config.to_diff_dict(), shown)


def _preprocessor(folder: Path) -> dict[str, Any]:
    """What the folder says of images; empty where it says nothing."""
    if (folder / PREPROCESSOR).is_file():
        return _read_json(folder / PREPROCESSOR)
    whole = _read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    found: dict[str, Any] = whole.get("image_processor") or {}
    return found


def _tokenizer(folder: Path, text: dict[str, Any]) -> Tokenizer:
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    if text["vocab_size"] == CLIP_VOCABULARY:
        tokenizer: Tokenizer = SimpleTokenizer(context_length=text["context_length"])
        return tokenizer
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"The model has {text['vocab_size']} tokens and {folder} has no tokenizer.json; put its tokenizer there."
        )
    own: Tokenizer = HFTokenizer(str(folder), context_length=text["context_length"])
    return own


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, on the CPU. A file that holds anything else is refused, and nothing is executed.

    Raises:
        ModelError: It holds more than tensors.
    """
    import pickle

    import torch
    from safetensors.torch import load_file

    try:
        check_regular(path)
    except OSError as error:
        raise ModelError(f"The weights {path} cannot be read ({error.strerror}); check the path.") from error
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} holds more than tensors and is refused; ask for a safetensors file.") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(x, torch.Tensor) for x in state.values()):
        raise ModelError(f"The weights {path} are no table of tensors; ask for a safetensors file.")
    return state


def _load_hub(repository: str) -> Clip:
    """Loads what the hub's cache holds; downloads only where the cache is not enough."""
    for cached_only in (True, False):
        if _fetch(repository, OPEN_CLIP_CONFIG, cached_only):
            return _load_open_clip(HUB + repository, HUB + repository)
        config = _fetch(repository, CLIP_CONFIG, cached_only)
        found = (_fetch(repository, name, cached_only) for name in CLIP_WEIGHTS) if config else iter(())
        weights = next(filter(None, found), None)
        if config and weights:
            for name in CLIP_EXTRAS:
                _fetch(repository, name, cached_only)
            return _load_transformers(config.parent, HUB + repository, weights)
    raise ModelError(
        f"The repository '{repository}' on the hub holds no dual encoder: {OPEN_CLIP_CONFIG}, or {CLIP_CONFIG} and "
        f"with it {' or '.join(CLIP_WEIGHTS)}; give another id, or a local folder."
    )


def _fetch(repository: str, name: str, cached_only: bool) -> Path | None:
    """One file of a repository, or None where the repository (with `cached_only`: the cache) has none of that name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RemoteEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, name, local_files_only=cached_only))
    except RemoteEntryNotFoundError:
        return None
    except GatedRepoError as error:
        raise ModelError(
            f"The model '{repository}' asks for permission; accept its terms on the hub and run `hf auth login`."
        ) from error
    except Exception as error:
        if cached_only and isinstance(error, LocalEntryNotFoundError):
            return None
        raise ModelError(
            f"The model '{repository}' is no local folder, and {name} of it is neither in the Hugging Face cache nor "
            f"can it be downloaded ({type(error).__name__}); run `hf download {repository} --local-dir FOLDER` where "
            "there is a network, and give the folder's path as the model."
        ) from error


def _finish(model: nn.Module, tokenizer: Tokenizer, preprocess: dict[str, Any], config: Any, shown: str) -> Clip:
    model.eval().requires_grad_(False)
    return Clip(model, tokenizer, preprocess, _fingerprint(model, config, preprocess), shown)


def _fingerprint(model: nn.Module, config: Any, preprocess: dict[str, Any]) -> str:
    """SHA-256 over the architecture, the preprocessing and every tensor's name, shape and bytes."""
    import torch

    digest = hashlib.sha256(json.dumps([config, preprocess], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    content = parse_json(read_utf8(path))
    if not isinstance(content, dict):
        raise ModelError(f"{path} is no JSON object; download it again.")
    return content
