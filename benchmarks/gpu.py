"""The engine on one GPU: Llama 3.2 3B and 11B Vision from their configs, random weights, LoRA, bf16.

    python benchmarks/gpu.py           under 10 minutes on one H100
    python benchmarks/gpu.py --tiny    the same code on tiny configs, on a CPU; nothing is written

Per way of computing (see engine.py): tokens per second, peak memory, and model FLOP utilisation: the floating-point
operations that the mathematics needs, over those that the GPU does in the same time on a large bf16 matrix product,
measured in the same process. Frozen weights need 2 operations per parameter and token forward and 2 backward (their own
gradient is not computed), the adapter 6; the output head counts at label positions only, attention as 2 x 2 x length x
width per token, layer and pass, with three passes. Operations that are repeated (checkpointing) do not count.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine import RESULTS, Size, compare, machine, time_variant, words_tokenizer

SIZES = {
    "3b": Size("text", 3072, 28, 146, 10, rank=128, device="cuda", dtype="bf16", batch=8),
    "11b-vision": Size("image", 4096, 40, 146, 5, rank=128, device="cuda", dtype="bf16", batch=2, patches=40),
}
TINY = {"hidden": 64, "layers": 2, "rank": 4, "device": "cpu", "dtype": "fp32", "patches": 2}
IMAGE = "<|image|>"


def make_student(size: Size) -> Any:
    """Llama 3.2's text model, or its vision model, at the given width and depth."""
    import torch
    import transformers as tf

    from mint_core.interfaces import Student

    words = words_tokenizer()
    tiny = size.hidden < 1024
    text: dict[str, Any] = {
        "vocab_size": len(words) if tiny else 128_256, "hidden_size": size.hidden,
        "intermediate_size": size.hidden * 2 if tiny else {3072: 8192, 4096: 14_336}[size.hidden],
        "num_hidden_layers": size.layers, "num_attention_heads": 2 if tiny else {3072: 24, 4096: 32}[size.hidden],
        "num_key_value_heads": 1 if tiny else 8, "max_position_embeddings": 16_384,
        "pad_token_id": words.pad_token_id, "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
    }  # fmt: skip
    device = torch.device(size.device)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if size.dtype == "bf16" else torch.float32)
    torch.manual_seed(0)
    try:
        with device:
            if size.kind == "text":
                model: Any = tf.LlamaForCausalLM(tf.LlamaConfig(**text, tie_word_embeddings=True))
                processor: Any = words
            else:
                model, processor = _vision(size, text, words, tiny=tiny)
    finally:
        torch.set_default_dtype(before)
    return Student(model.eval(), processor, words, size.kind == "image", device, "random weights")


def _vision(size: Size, text: dict[str, Any], words: Any, *, tiny: bool) -> tuple[Any, Any]:
    import transformers as tf

    words.add_special_tokens({"additional_special_tokens": [IMAGE]})
    words.chat_template = words.chat_template.replace("<image>", IMAGE)
    image_id = words.convert_tokens_to_ids(IMAGE)
    side = size.patches * 14
    text["vocab_size"] = image_id if tiny else 128_256
    text["cross_attention_layers"] = [1] if tiny else [3, 8, 13, 18, 23, 28, 33, 38]
    vision = {"image_size": side, "patch_size": 14, "max_num_tiles": 4}
    if tiny:
        vision |= {
            "hidden_size": 32, "attention_heads": 2, "num_hidden_layers": 2, "num_global_layers": 1,
            "intermediate_size": 48, "intermediate_layers_indices": [0, 1], "vision_output_dim": 96,
        }  # fmt: skip
    config = tf.MllamaConfig(text_config=text, vision_config=vision, image_token_index=image_id)
    images = tf.MllamaImageProcessor(size={"height": side, "width": side}, max_image_tiles=4)
    processor = tf.MllamaProcessor(images, words, chat_template=words.chat_template)
    return tf.MllamaForConditionalGeneration(config), processor


def matrix_peak(device: str) -> float:
    """Floating-point operations per second of a large bf16 matrix product."""
    import torch

    if device == "cpu":
        return float("nan")
    n, repeats = 8192, 50
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(repeats):
        a @ b
    torch.cuda.synchronize()
    return 2 * n**3 * repeats / (time.perf_counter() - begin)


def operations(size: Size, tokens: dict[str, Any], variant: str, counts: dict[str, int]) -> float:
    """Floating-point operations per sample that the mathematics of one step needs; the vision tower is left out.

    Args:
        size: What is trained on.
        tokens: `engine.lengths`.
        variant: shared, distinct, pairs or trl.
        counts: Parameters: `linear` (frozen layers without the head), `adapter`, `head`.
    """
    key = "pairs" if variant == "trl" else variant
    count = tokens["tokens"][key]
    row = count if key == "shared" else tokens["prompt"] + tokens["response"]
    labels = count - tokens["prompt"] if key == "shared" else count / row * tokens["response"]
    attention = 3 * 2 * 2 * row * size.hidden * size.layers * count / 2  # causal: half of the square
    return count * (4 * counts["linear"] + 6 * counts["adapter"]) + labels * 4 * counts["head"] + attention


def one(variant: str, size: Size, steps: int) -> dict[str, Any]:
    """One way, with its utilisation."""
    import torch

    counts: dict[str, int] = {}

    def make(given: Size) -> Any:
        student = make_student(given)
        head = student.model.get_output_embeddings()
        towers = ("vision", "multi_modal")
        counts["head"] = head.weight.numel()
        counts["linear"] = sum(
            module.weight.numel() for name, module in student.model.named_modules()
            if isinstance(module, torch.nn.Linear) and module is not head and not any(t in name for t in towers)
        )  # fmt: skip
        counts["adapter"] = sum(
            size.rank * (module.in_features + module.out_features) for name, module in student.model.named_modules()
            if isinstance(module, torch.nn.Linear) and module is not head and not any(t in name for t in towers)
        )  # fmt: skip
        return student

    peak = matrix_peak(size.device)
    found = time_variant(variant, size, steps, make)
    needed = operations(size, found, variant, counts)
    tokens = found["tokens"]["pairs" if variant == "trl" else variant]
    seconds = found["seconds_per_sample"]
    return {
        **found, "matrix_peak_tflops": peak / 1e12, "tokens_per_second": tokens / seconds,
        "model_flop_utilisation": needed / seconds / peak,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny configs on a CPU; nothing is written")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.json", help="JSON file")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        given = json.loads(options.variant)
        print(json.dumps(one(given["variant"], Size(**given["size"]), given["steps"])))
        return
    sizes = {name: replace(size, **TINY) if options.tiny else size for name, size in SIZES.items()}
    few = 1 if options.tiny else 5
    text = sizes["3b"]
    plans = {
        "3b": (text, {"shared": 4 * few, "distinct": few}),
        "3b, one sample per step": (replace(text, batch=1), {"shared": 4 * few, "distinct": few, "trl": 1}),
        "3b, checkpointing": (replace(text, checkpointing=True), {"shared": few}),
        "11b-vision": (sizes["11b-vision"], {"shared": few, "distinct": 1}),
    }
    result: dict[str, Any] = {"machine": machine()}
    if not options.tiny:
        import torch

        result["machine"]["gpu"] = torch.cuda.get_device_name()
    for name, (size, variants) in plans.items():
        result[name] = compare(size, variants, script=__file__)
        shown = {
            key: {
                "tokens/s": round(one["tokens_per_second"]), "utilisation": round(one["model_flop_utilisation"], 3),
                "peak MiB": one["peak_mib"],
            } if "failed" not in one else one["failed"]
            for key, one in result[name]["variants"].items()
        }  # fmt: skip
        print(f"{name}: {json.dumps(result[name]['times_faster_than'])} {json.dumps(shown)}", flush=True)
        if not options.tiny:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
