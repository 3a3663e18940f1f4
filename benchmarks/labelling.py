"""How fast the teacher labels patches, against the published way, and that its memory stays flat.

    python benchmarks/labelling.py                    images per second, and how far the rankings agree
    python benchmarks/labelling.py --memory           peak memory at 1,000 and at 100,000 patches

Both ways read the same JPEG files and load the same ViT-B/32 from one folder in transformers' CLIPModel layout. Its
weights are random but fixed, so that nothing has to be downloaded; speed does not depend on the weights.

published   as the script of PathologyFoundation/plip does it: CLIPImageProcessor and CLIPModel, batches of 8, fp32, one
            thread that decodes and preprocesses
mint        `Plip.log_probs` with its defaults and an empty feature cache: decode, encode, write the cache, rank

With random weights all images lie close together, and one order of the labels fits nearly all of them, whatever the
precision. The agreement is therefore also measured where it is hard: on `centred` rankings, in which every label's
mean over the patches is taken off, so that only what differs between patches counts.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mint_core.interfaces import Context
from mint_core.types import ImageRef, LabelSpace, Sample
from mint_plip.simulated import TISSUES, draw_morphology, draw_patch
from mint_plip.teacher import Plip, PlipConfig

ROOT = Path(__file__).parents[1]
HISTOLOGY = ROOT / ".." / "shared" / "data" / "histology"
RESULT = ROOT / "benchmarks" / "results" / "labelling.json"
PROMPT = "an H&E image of {} tissue"
NAMES = tuple(TISSUES)
PUBLISHED_BATCH = 8


@dataclass(frozen=True)
class File(ImageRef):
    """An image file, named by its content."""

    path: Path

    @cached_property
    def key(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def open(self) -> Image.Image:
        """Decodes the file."""
        with Image.open(self.path) as image:
            return image.convert("RGB")


class Repeated(Sequence[Sample]):
    """`count` samples that show a few images under distinct keys, made when they are asked for."""

    def __init__(self, images: list[Image.Image], count: int) -> None:
        self._images, self._count = images, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return Sample(str(index), "test", image=InMemory(self._images[index % len(self._images)], str(index)))


class InMemory(ImageRef):
    """A decoded image under a name of its own."""

    def __init__(self, image: Image.Image, key: str) -> None:
        self._image, self._key = image, key

    @property
    def key(self) -> str:
        """The name that was given."""
        return self._key

    def open(self) -> Image.Image:
        """A copy, as if it had been decoded."""
        return self._image.copy()


def patch_files(count: int, folder: Path) -> tuple[list[Path], str]:
    """Real patches where they are, else simulated ones of 224 pixels written as JPEG; and what they are."""
    manifest = HISTOLOGY / "manifest.csv"
    if manifest.exists():
        with manifest.open() as file:
            paths = [HISTOLOGY / row["image"] for row in csv.DictReader(file)]
        return paths[:count], "real H&E patches of 224 x 224 pixels"
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        path = folder / f"{number}.jpg"
        draw_patch(draw_morphology(NAMES[number % len(NAMES)], rng), rng, size=224).save(path, quality=95)
        paths.append(path)
    return paths, "simulated patches of 224 x 224 pixels"


def save_model(folder: Path) -> None:
    """A ViT-B/32 with fixed random weights as `vinid/plip` is laid out."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)


class Labelled(NamedTuple):
    """What one way gave."""

    seconds: float
    log_probs: NDArray[np.float32]
    """(n_patches, n_labels)."""
    by: str
    """The preprocessor's class, or the precision."""


def published(folder: Path, files: Sequence[Path]) -> Labelled:
    """Labels the files as the published script does."""
    import torch
    from open_clip.tokenizer import SimpleTokenizer
    from torch.utils.data import DataLoader
    from transformers import CLIPImageProcessor, CLIPModel

    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPImageProcessor.from_pretrained(folder)
    tokens = SimpleTokenizer()([PROMPT.replace("{}", name) for name in NAMES])

    def collate(paths: list[Path]) -> Any:
        images = [Image.open(path).convert("RGB") for path in paths]
        return processor(images=images, return_tensors="pt")["pixel_values"]

    def run(paths: Sequence[Path]) -> Iterator[Any]:
        listed: Any = list(paths)
        for pixels in DataLoader(listed, batch_size=PUBLISHED_BATCH, collate_fn=collate):
            yield model.get_image_features(pixel_values=pixels).pooler_output

    with torch.no_grad():
        text = torch.nn.functional.normalize(model.get_text_features(input_ids=tokens).pooler_output, dim=-1)
        list(run(files[:16]))
        begin = time.perf_counter()
        features = torch.cat(list(run(files)))
        logits = model.logit_scale.exp() * torch.nn.functional.normalize(features, dim=-1) @ text.T
        log_probs = logits.log_softmax(-1).numpy()
        seconds = time.perf_counter() - begin
    return Labelled(seconds, log_probs, type(processor).__name__)


def mint(folder: Path, files: Sequence[Path], cache: Path) -> Labelled:
    """Labels the files with the teacher, into an empty feature cache."""
    context = Context(labels=LabelSpace(NAMES), seed=0, device="cpu", cache=cache, advance=lambda count: None)
    teacher = Plip(PlipConfig(model=str(folder), prompts=(PROMPT,)), context)
    warm = [InMemory(File(path).open(), f"warm {row}") for row, path in enumerate(files[:16])]
    teacher.log_probs([Sample(image.key, "test", image=image) for image in warm])
    samples = [Sample(str(path), "test", image=File(path)) for path in files]
    begin = time.perf_counter()
    log_probs = teacher.log_probs(samples)
    seconds = time.perf_counter() - begin
    return Labelled(seconds, log_probs, teacher.describe()["precision"])


def agreement(reference: NDArray[np.float32], other: NDArray[np.float32]) -> dict[str, float]:
    """Share of equal first labels, and the mean Spearman correlation of the rows."""
    ranks = [np.argsort(np.argsort(values, axis=1), axis=1).astype(float) for values in (reference, other)]
    centred = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    spearman = (centred[0] * centred[1]).sum(1) / np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return {
        "top1": float((reference.argmax(1) == other.argmax(1)).mean()),
        "mean_spearman": float(spearman.mean()),
        "min_spearman": float(spearman.min()),
        "distinct_first_labels": len(np.unique(reference.argmax(1))),
    }


def measure_speed(count: int, repeats: int) -> dict[str, Any]:
    """Both ways on the same files, in turn; the best of `repeats` each."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save_model(folder)
        files, source = patch_files(count, Path(scratch))
        runs: dict[str, list[Labelled]] = {"published": [], "mint": []}
        for repeat in range(repeats):
            runs["mint"].append(mint(folder, files, Path(scratch) / f"cache{repeat}"))
            runs["published"].append(published(folder, files))
    rates = {name: len(files) / min(run.seconds for run in done) for name, done in runs.items()}
    theirs, ours = runs["published"][0], runs["mint"][0]
    return {
        "patches": len(files),
        "source": source,
        "images_per_second": rates,
        "ratio": rates["mint"] / rates["published"],
        "seconds": {name: [run.seconds for run in done] for name, done in runs.items()},
        "published_preprocessor": theirs.by,
        "precision": ours.by,
        "agreement": agreement(theirs.log_probs, ours.log_probs),
        "agreement_centred": agreement(*(run.log_probs - run.log_probs.mean(0) for run in (theirs, ours))),
    }


def measure_memory(counts: Sequence[int]) -> dict[str, Any]:
    """Peak memory of one process per count."""
    peaks = {}
    for count in counts:
        command = [sys.executable, __file__, "--memory-of", str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this file itself
        peaks[str(count)] = json.loads(done.stdout)
    first, last = peaks[str(counts[0])]["peak_mib"], peaks[str(counts[-1])]["peak_mib"]
    return {"model": "embedded", "runs": peaks, "growth_mib": round(last - first, 1)}


def memory_of(count: int) -> dict[str, float]:
    """Labels `count` patches with the embedded teacher and an empty cache; peak memory in MiB."""
    rng = np.random.default_rng(0)
    images = [draw_patch(draw_morphology(NAMES[row % len(NAMES)], rng), rng) for row in range(38)]
    with tempfile.TemporaryDirectory() as cache:
        teacher = Plip(
            PlipConfig(),
            Context(labels=LabelSpace(NAMES), seed=0, device="cpu", cache=Path(cache), advance=lambda done: None),
        )
        log_probs = teacher.log_probs(Repeated(images, count))
    assert log_probs.shape == (count, len(NAMES))  # noqa: S101 - a benchmark checks itself
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return {"peak_mib": round(peak, 1)}


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import open_clip
    import torch
    import transformers

    cpu = torch.cpu.get_capabilities()
    return {
        "python": platform.python_version(), "torch": torch.__version__, "open_clip": open_clip.__version__,
        "transformers": transformers.__version__, "cpu": cpu.get("cpu_name"), "cores": os.cpu_count(),
        "bf16_instructions": bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16")), "threads": torch.get_num_threads(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="measure memory in place of speed")
    parser.add_argument("--patches", type=int, default=1024, help="patches of the speed run")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions of the speed run; the best counts")
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 100_000], help="patches of the memory runs")
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON file; its other mode's part is kept")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(memory_of(options.memory_of)))
        return
    result = json.loads(options.out.read_text()) if options.out.exists() else {}
    part, measured = machine(), measure_memory(options.counts) if options.memory else None
    result["memory" if options.memory else "speed"] = part | (
        measured or measure_speed(options.patches, options.repeats)
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
