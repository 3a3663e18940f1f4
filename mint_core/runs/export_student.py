"""A run's aligned student for other programs: its adapter, merged weights, and recipes for servers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from mint_core.answering.vllm import allowed_rank
from mint_core.config import read_config, resolve
from mint_core.errors import ConfigError, StorageError
from mint_core.files import read_json, replaced, storage_errors
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.report.card import hub_id, without_folders
from mint_core.runs.record import RECORD
from mint_core.stages.card import CARD
from mint_core.stages.outputs import ADAPTER
from mint_core.stages.run import Run
from mint_core.students.adapter_files import CONFIG, WEIGHTS, changed_files, check_files, check_finite, check_recorded
from mint_core.students.adapter_files import RECORD as SEAL
from mint_core.students.merge import write_merged

_GUARD = "What it was trained on binds who may get it; see the card."


@dataclass(frozen=True, slots=True)
class Given:
    """What was written."""

    path: Path
    told: str
    """What it is and how it is used, for a person: one sentence, or a recipe."""


def export_student(folder: Path, target: str, out: Path, observer: Observer | None = None) -> Given:
    """Writes the aligned student of a run for other programs.

    Args:
        folder: The run folder; its adapter must be there and as the training left it.
        target: `peft` (the adapter as it is), `merged` (whole weights that transformers loads alone), `vllm` (the
            adapter and the commands for vLLM's server), `ollama` (merged weights, a Modelfile and the commands).
        out: Where to: a folder that does not exist, or is empty.
        observer: Hears of the progress.

    Raises:
        ConfigError: The folder holds no run or no adapter, or there is no recipe for its student.
        ModelError: The adapter was changed, or cannot be merged.
        StorageError: There is something in the folder already, or it cannot be written.
    """
    run = _run(folder, observer or Observer())
    with _fresh(out) as place:
        return Given(out, _TARGETS[target](run, place, out))


def _run(folder: Path, observer: Observer) -> Run:
    if not (folder / RECORD).is_file():
        raise ConfigError(
            f"{folder} holds no run.json; name a run folder, for example runs/NAME (`mint runs` lists them)."
        )
    run = Run(resolve(read_config(folder / RECORD), registry()), folder, observer, folder.parent / ".cache")
    adapter = folder / ADAPTER
    if run.resolved.aligner is None or not adapter.is_dir():
        raise ConfigError(f"{folder} holds no adapter; train one with `mint align --config {folder / RECORD}`.")
    check_recorded(adapter)
    check_files(adapter)
    check_finite(adapter)
    return run


@contextmanager
def _fresh(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes `out` when all is written."""
    with storage_errors(out):
        if out.is_dir() and not any(out.iterdir()):
            out.rmdir()
    if out.exists():
        raise StorageError(f"{out} exists already; choose another folder, or delete it.")
    with replaced(out) as temporary:
        temporary.mkdir()
        yield temporary


def _peft(run: Run, place: Path, out: Path) -> str:
    _copy_adapter(run.path / ADAPTER, place)
    return f"The adapter, as it is: {out}. {_GUARD}"


def _copy_adapter(adapter: Path, place: Path) -> None:
    """Copies what belongs to an adapter, and nothing else that lies there; the copy is checked."""
    with storage_errors(place):
        place.mkdir(exist_ok=True)
        for name in (CONFIG, WEIGHTS, SEAL, CARD):
            if (adapter / name).is_file():
                shutil.copyfile(adapter / name, place / name)
    changed = changed_files(place, read_json(place / SEAL)["files"]) if (place / SEAL).is_file() else []
    if changed:
        raise StorageError(f"{' and '.join(changed)} came to {place} damaged; look at the disk, and export again.")


def _merged(run: Run, place: Path, out: Path) -> str:
    dtype = _write_merged(run, place)
    return f"Merged weights in {dtype}, which transformers loads alone: {out}. {_trained_on(run)}{_GUARD}"


def _trained_on(run: Run) -> str:
    """What must be known of an adapter that was trained on quantised weights, wherever it meets others."""
    if not run.student_held:
        return ""
    return f"The adapter was trained on {run.student_held}, and these are not: measure the student again. "


def _write_merged(run: Run, place: Path) -> str:
    run.observer.message("Merging the adapter into the student's weights.")
    with storage_errors(place):
        place.mkdir(exist_ok=True)
    dtype = write_merged(run.resolved.config.student, run.student_path, run.path / ADAPTER, place)
    with storage_errors(place):
        card = merged_card(_card(run), _student(run), dtype, run.student_held)
        (place / CARD).write_text(card, encoding="utf-8")
    return dtype


def _card(run: Run) -> str:
    place = run.path / ADAPTER / CARD
    return place.read_text(encoding="utf-8") if place.is_file() else ""


def merged_card(card: str, student: str, dtype: str, held: str = "") -> str:
    """The adapter's card for the merged weights: what it was merged from, and how it is loaded now.

    Args:
        card: The adapter's card; empty where there is none.
        student: What it was merged into.
        dtype: Precision of the weights.
        held: How the student's weights were held while the adapter was trained; empty where as here.
    """
    head, found, body = card.removeprefix("---\n").partition("\n---\n") if card.startswith("---\n") else ("", "", card)
    header: dict[str, Any] = cast(dict[str, Any], yaml.safe_load(head)) if found else {"tags": ["mint"]}
    header["library_name"] = "transformers"
    if "base_model_relation" in header:
        header["base_model_relation"] = "finetune"
    header["tags"] = [tag for tag in header.get("tags", []) if tag != "lora"] + ["merged"]
    told = f"**Merged weights ({dtype}).** The adapter that is described here was added to the weights of {student}."
    told += f" It was trained on {held}; the results below are of those." if held else ""
    body = re.sub(r"^## How to use it\n.*?(?=^## |\Z)", _USE, body.lstrip("\n"), flags=re.MULTILINE | re.DOTALL)
    title, _, rest = body.partition("\n") if body.startswith("# ") else ("# An aligned student", "", body)
    dumped = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{dumped}---\n\n{title}\n\n{told}\n{rest}"


_USE = """## How to use it

transformers loads this folder as any model, without peft and without mint. With the prompts of the training:

    mint run --config run.json --aligner none --student THIS_FOLDER

"""


def _student(run: Run) -> str:
    model = run.resolved.config.student.model
    told = run.student_told or (f"{Path(model).name}, a local folder" if Path(model).exists() else model)
    return without_folders(told).rstrip(".")


def _rank(adapter: Path) -> int:
    config = read_json(adapter / CONFIG)
    return max(int(rank) for rank in (config["r"], *(config.get("rank_pattern") or {}).values()))


def _served(run: Run) -> str:
    """How servers name the model."""
    return re.sub(r"[^a-z0-9._-]+", "-", run.path.name.lower()).strip("-._") or "mint"


def _vllm(run: Run, place: Path, out: Path) -> str:
    config, name = run.resolved.config.student, _served(run)
    known = hub_id(config.model) if not Path(config.model).exists() and not run.embedded else None
    student = known or str(Path(run.student_path or config.model).resolve())
    revision = f" --revision {config.revision}" if known and config.revision else ""
    dtype = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "auto": "auto"}[config.dtype]
    _copy_adapter(run.path / ADAPTER, place / ADAPTER)
    begin = (
        "vLLM does not read this student's GGUF file with an adapter; serve merged weights:"
        if run.gguf
        else "The student with its adapter:"
    )
    merged = [
        f"    mint export {run.path} --to merged --out {out / 'model'}",
        f"    vllm serve {out / 'model'} --served-model-name {name} --dtype {dtype}",
    ]
    adapter = [
        f"    vllm serve {student}{revision} --enable-lora --lora-modules {name}={out / ADAPTER} \\",
        f"        --max-lora-rank {allowed_rank(_rank(run.path / ADAPTER))} --dtype {dtype}",
    ]
    images = ["", "Image students need vLLM's support for LoRA on that model; where it has none, serve merged weights."]
    lines = [
        f"# {run.path.name} on vLLM's server",
        "",
        begin,
        "",
        *(merged if run.gguf else adapter),
        *(images if "image" in run.task.modality else []),
        *([] if run.gguf else ["", "The same from merged weights, which need no support for LoRA:", "", *merged]),
        "",
        "mint asks it with the prompts of the training:",
        "",
        f"    mint predict --endpoint http://localhost:8000/v1 --model {name} --adapter {out / ADAPTER} --input FILE",
        "",
        f"{_trained_on(run)}Other clients must write these prompts themselves. Nothing here was run on your machine.",
        "",
    ]
    return _recipe(place / "vllm.md", lines)


def _ollama(run: Run, place: Path, out: Path) -> str:
    if "image" in run.task.modality:
        raise ConfigError(
            "There is no recipe for image students in Ollama; use `mint export --to vllm`, or --to merged and follow "
            "llama.cpp's instructions for multimodal models."
        )
    name = _served(run)
    _write_merged(run, place / "model")
    with storage_errors(place):
        (place / "Modelfile").write_text("FROM ./model.gguf\nPARAMETER temperature 0\n", encoding="utf-8")
    lines = [
        f"# {run.path.name} in Ollama and llama.cpp",
        "",
        "In this folder, with a checkout of https://github.com/ggml-org/llama.cpp and its Python requirements:",
        "",
        "    python llama.cpp/convert_hf_to_gguf.py model --outfile model.gguf --outtype f16",
        f"    ollama create {name} -f Modelfile",
        f"    ollama run {name}",
        "",
        "llama.cpp's own server reads the same file:",
        "",
        f"    llama-server -m model.gguf --alias {name} --port 8000",
        "",
        "Ollama has chat templates of its own for the families it knows: compare `ollama show --template` with the",
        "chat_template.jinja in model/, and write a TEMPLATE into the Modelfile where they differ. Quantised further",
        "(`llama-quantize`), the student answers otherwise than in the run: measure it again.",
        "",
        "mint asks both with the prompts of the training (Ollama at port 11434):",
        "",
        f"    mint predict --endpoint http://localhost:8000/v1 --model {name} \\",
        f"        --adapter {run.path / ADAPTER} --input FILE",
        "",
        f"Files: {out}. {_trained_on(run)}Nothing here was run on your machine.",
        "",
    ]
    return _recipe(place / "ollama.md", lines)


def _recipe(file: Path, lines: list[str]) -> str:
    text = "\n".join(lines)
    with storage_errors(file):
        file.write_text(text, encoding="utf-8")
    return text


_TARGETS: dict[str, Callable[[Run, Path, Path], str]] = {
    "peft": _peft,
    "merged": _merged,
    "vllm": _vllm,
    "ollama": _ollama,
}
