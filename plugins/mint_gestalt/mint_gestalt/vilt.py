"""ViLT: loading it in its published layouts, and running it on faces that may be missing."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mint_core.plugin import LabelSpace, ModelError, check_regular, parse_json, read_utf8

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded" / "teacher"
_PREFIXES = ("module.", "model.")
"""What wrappers such as DataParallel put in front of every name of a state dict."""
_LFS = b"version https://git-lfs"
_HEAD = "classifier.3"
"""The last layer of ViltForQuestionAnswering: one row per label."""


@dataclass
class Vilt:
    """A loaded ViLT with a head over a label space.

    Attributes:
        model: A transformers ViltForQuestionAnswering, in fp32.
        tokenizer: Its tokenizer.
        processor: Its image processor.
        source: Where it came from, for the run record.
        unknown_labels: Positions of labels that the published head does not know; empty where no head was read.
    """

    model: Any
    tokenizer: Any
    processor: Any
    source: str
    unknown_labels: tuple[int, ...] = ()

    @property
    def positions(self) -> int:
        """How many tokens a text may have, [CLS] and [SEP] included."""
        return int(self.model.config.max_position_embeddings)


def folder_or_id(model: str) -> str:
    """Where the weights of a config's `model` lie."""
    return str(EMBEDDED_FOLDER) if model == EMBEDDED else model


def load_vilt(model: str, labels: LabelSpace, seed: int) -> Vilt:
    """Loads a ViLT and puts a new head over the label space on it.

    Args:
        model: `embedded`, a folder as `save_pretrained` writes it, or a Hugging Face id.
        labels: The label space; the head gets one row per label.
        seed: Seed of what the folder does not hold, at least the last layer.

    Raises:
        ModelError: It cannot be found or loaded, or it is no ViLT.
    """
    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, ViltForQuestionAnswering

    from mint_core.plugin import explain_load_failure

    source = folder_or_id(model)
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type != "vilt":
            raise ModelError(
                f"The teacher {model} is a '{config.model_type}', not a ViLT; name a ViLT, for example "
                "dandelin/vilt-b32-mlm."
            )
        with torch.random.fork_rng([]), _quiet():
            torch.manual_seed(seed)
            loaded = ViltForQuestionAnswering.from_pretrained(
                source, num_labels=len(labels), ignore_mismatched_sizes=True, dtype=torch.float32
            )
        tokenizer, processor = AutoTokenizer.from_pretrained(source), AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(explain_load_failure("teacher", source, error)) from error
    return Vilt(loaded, tokenizer, processor, model)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report on the head, which is always new."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def load_published(vilt: Vilt, weights: Path, dictionary: Path, labels: LabelSpace) -> None:
    """Puts a published state dict into a ViLT, its head re-ordered to the label space.

    The file is what `torch.save(model.state_dict())` writes for a ViltForQuestionAnswering. Only tensors are read:
    torch's `weights_only` reader refuses everything else before it runs. Names may carry the prefix `module.` or
    `model.`. Labels are found in the dictionary by name or alias; those that it lacks are noted in `unknown_labels`.

    Args:
        vilt: The model that the weights belong to; changed in place.
        weights: The `.pt` file.
        dictionary: JSON of index -> name, `;` parts aliases.
        labels: The label space.

    Raises:
        ModelError: The file is missing, holds more than tensors, belongs to another architecture, or contradicts its
            dictionary; or no label is found.
    """
    import torch

    state = read_state(weights)
    entries = read_dictionary(dictionary)
    rows = state.get(f"{_HEAD}.weight") if f"{_HEAD}.bias" in state else None
    if rows is None or rows.shape[0] != len(entries) or set(entries) != set(range(len(entries))):
        found = "no head" if rows is None else f"a head of {rows.shape[0]} labels"
        raise ModelError(
            f"The weights {weights} hold {found}, and {dictionary} names {len(entries)}; give the dictionary that "
            "belongs to the weights (indices 0, 1, 2 ...)."
        )
    places = _places(entries, labels)
    if all(place is None for place in places):
        raise ModelError(
            f"None of the {len(labels)} labels is in {dictionary}; give the data the names of that file "
            "(task.labels), or leave teacher.weights out and fit the head."
        )
    index = torch.tensor([0 if place is None else place for place in places])
    unknown = tuple(position for position, place in enumerate(places) if place is None)
    for name, blank in ((f"{_HEAD}.weight", 0.0), (f"{_HEAD}.bias", float(state[f"{_HEAD}.bias"].min()))):
        state[name] = state[name][index]
        state[name][list(unknown)] = blank
    _fill(vilt.model, state, weights)
    vilt.unknown_labels = unknown
    vilt.source = f"{vilt.source} + {weights.name}"


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, by name without prefix; nothing in the file is run.

    Raises:
        ModelError: The file is missing or damaged, or holds more than tensors.
    """
    import torch

    try:
        check_regular(path)
        with path.open("rb") as file:
            start = file.read(len(_LFS))
        if start == _LFS or start.lstrip()[:1] == b"<":
            raise ModelError(
                f"The weights {path} are a {'Git LFS pointer' if start == _LFS else 'web page'}, not the weights: a "
                "download failed; fetch the file itself."
            )
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"The weights {path} hold more than tensors, so mint does not read them, and nothing in them was run; "
            "save the model's state_dict alone."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else "it is damaged or no torch file"
        raise ModelError(
            f"The weights {path} cannot be read ({reason}); check the path or fetch them again."
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelError(f"The weights {path} are not a plain state dict; save the model's state_dict alone.")
    return {_without_prefix(str(name)): value for name, value in content.items()}


def _without_prefix(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def read_dictionary(path: Path) -> dict[int, tuple[str, ...]]:
    """Names and aliases by index.

    Raises:
        ModelError: It is not JSON of index -> name.
    """
    try:
        content = parse_json(read_utf8(path))
        entries = {int(index): str(names) for index, names in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"The label dictionary {path} cannot be read; it must be a JSON object of index to name."
        ) from error
    return {index: tuple(part.strip() for part in names.split(";") if part.strip()) for index, names in entries.items()}


def _places(entries: Mapping[int, Sequence[str]], labels: LabelSpace) -> list[int | None]:
    """The row of every label in the published head; the lowest where several entries name one label."""
    places: list[int | None] = [None] * len(labels)
    for index in sorted(entries, reverse=True):
        for form in entries[index]:
            known = labels.find(form)
            if known is not None:
                places[labels.index(known)] = index
    return places


def _fill(model: Any, state: dict[str, Tensor], weights: Path) -> None:
    kept = {name: value for name, value in state.items() if not name.endswith("position_ids")}  # transformers < 4.31
    own = model.state_dict()
    missing, foreign = sorted(own.keys() - kept.keys()), sorted(kept.keys() - own.keys())
    shapes = [name for name in own.keys() & kept.keys() if own[name].shape != kept[name].shape]
    if missing or foreign or shapes:
        odd = (missing or foreign or sorted(shapes))[0]
        raise ModelError(
            f"The weights {weights} belong to another model ({len(missing)} tensors are missing, {len(foreign)} are "
            f"unknown, {len(shapes)} have another shape; first: {odd}); name the model that they were trained from."
        )
    model.load_state_dict(kept)


def extend_positions(model: Any, positions: int) -> None:
    """Gives the text more positions: the learned ones, interpolated along the text.

    Args:
        model: A ViltForQuestionAnswering; changed in place.
        positions: How many; at least as many as it has.

    Raises:
        ModelError: It has more.
    """
    import torch

    text = model.vilt.embeddings.text_embeddings
    learned = text.position_embeddings.weight.data
    if positions < len(learned):
        raise ModelError(f"The teacher has {len(learned)} text positions; teacher.positions cannot be {positions}.")
    stretched = torch.nn.functional.interpolate(learned.T[None], size=positions, mode="linear", align_corners=True)[
        0
    ].T.contiguous()
    text.position_embeddings = torch.nn.Embedding(positions, learned.shape[1])
    text.position_embeddings.weight.data = stretched
    text.position_ids = torch.arange(positions)[None]
    text.token_type_ids = torch.zeros(1, positions, dtype=torch.long)
    model.config.max_position_embeddings = positions


@dataclass(frozen=True, slots=True)
class Batch:
    """What ViLT reads."""

    tokens: Tensor
    """(n, length) ids."""
    token_mask: Tensor
    """(n, length); 0 where a text was padded."""
    pixels: Tensor | None
    """(n, 3, height, width); None where no sample has a face."""
    pixel_mask: Tensor | None
    """(n, height, width); 0 where an image was padded, and everywhere where there is none."""


def collate(vilt: Vilt, texts: Sequence[Sequence[int]], faces: Sequence[Image | None]) -> Batch:
    """Pads texts and faces to tensors.

    Args:
        vilt: Whose tokenizer and image processor are used.
        texts: Token ids, special tokens included.
        faces: RGB images; None where there is none.
    """
    import torch

    longest = max(len(ids) for ids in texts)
    tokens = torch.full((len(texts), longest), int(vilt.tokenizer.pad_token_id))
    mask = torch.zeros(len(texts), longest, dtype=torch.long)
    for row, ids in enumerate(texts):
        tokens[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
    there = [row for row, face in enumerate(faces) if face is not None]
    if not there:
        return Batch(tokens, mask, None, None)
    read = vilt.processor([faces[row] for row in there], return_tensors="pt")
    pixels = torch.zeros(len(texts), *read["pixel_values"].shape[1:])
    pixel_mask = torch.zeros(len(texts), *pixels.shape[2:], dtype=torch.long)
    pixels[there], pixel_mask[there] = read["pixel_values"].float(), read["pixel_mask"].long()
    return Batch(tokens, mask, pixels, pixel_mask)


def logits(model: Any, batch: Batch) -> Tensor:
    """The head's output, shape (n, n_labels), fp32.

    A missing face is masked out: no text token attends to any image token of that row, the image's class token
    included. A batch without any face has no image tokens at all, which is the same.

    Args:
        model: A ViltForQuestionAnswering.
        batch: On the model's device.
    """
    result: Tensor = model.classifier(pooled(model, batch)).float()
    return result


def pooled(model: Any, batch: Batch) -> Tensor:
    """What the head reads, shape (n, hidden); see `logits`."""
    tokens, mask = image_tokens(model.vilt.embeddings, batch)
    out = model.vilt(input_ids=batch.tokens, attention_mask=batch.token_mask, image_embeds=tokens, pixel_mask=mask)
    result: Tensor = out.pooler_output
    return result


def image_tokens(embeddings: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Embedded image tokens (n, 1 + patches, hidden) and their mask (n, 1 + patches).

    transformers selects patches with a random permutation and fails on an image that is masked out as a whole; this
    keeps all patches in place and masks those that are padding, which gives the same output.
    """
    import torch
    from torch.nn import functional as F

    rows = len(batch.tokens)
    first = embeddings.cls_token + embeddings.position_embeddings[:, :1]
    if batch.pixels is None or batch.pixel_mask is None:
        return first.expand(rows, -1, -1), torch.zeros(rows, 1, dtype=torch.long, device=first.device)
    patches = embeddings.patch_embeddings(batch.pixels)
    hidden, high, wide = patches.shape[1:]
    mask = F.interpolate(batch.pixel_mask[:, None].float(), size=(high, wide)).long()[:, 0]
    edge = embeddings.config.image_size // embeddings.config.patch_size
    learned = embeddings.position_embeddings[:, 1:].transpose(1, 2).reshape(1, hidden, edge, edge)
    sizes = list(zip(mask[:, :, 0].sum(1).tolist(), mask[:, 0].sum(1).tolist(), strict=True))
    by_size = {size: _positions(learned, size, (high, wide)) for size in set(sizes)}
    placed = (patches + torch.cat([by_size[size] for size in sizes])).flatten(2).transpose(1, 2)
    flat = mask.flatten(1)
    seen = (flat.sum(1, keepdim=True) > 0).long()
    return torch.cat([first.expand(rows, -1, -1), placed], 1), torch.cat([seen, flat], 1)


def _positions(learned: Tensor, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """Position embeddings of an image of `size` patches in a batch of `padded`; (1, hidden, *padded)."""
    from torch.nn import functional as F

    if 0 in size:
        return learned.new_zeros(1, learned.shape[1], *padded)
    stretched = F.interpolate(learned, size=size, mode="bilinear", align_corners=True)
    return F.pad(stretched, (0, padded[1] - size[1], 0, padded[0] - size[0]))
