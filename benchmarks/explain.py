"""What leave-one-phrase-out costs against one row per phrase, on patients of the rare-disease task.

    python benchmarks/explain.py                              20 patients, 5 long notes: two minutes on one core
    python benchmarks/explain.py --student FOLDER --patients 4 --notes 1 --joined 3      a larger text student; the
                                                              figures of others are kept

shared   `mint_core.answering.alike.label_log_probs`: the whole prompt once, of each prompt without a phrase what
         follows the tokens that it has in common with the whole one
rows     one row per phrase: prompt and label in one row, all rows of a sample in batches, padded on the right, one
         forward pass each, no cache, logits for the label's tokens only

Both score the same label for the same prompts and agree to 1e-3 nats, which is checked. Patients are the simulated ones
with the prompt of the inference phase (ten diseases are asked for, so that much stands behind the text); notes are the
phrases of several patients behind one another. Seconds are those of the processor (one thread): other work on the
machine does not count; `tokens_fewer` is the ratio of the tokens that go through the student.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "explain.json"
BATCH = 32


def rows(student: Any, prompts: Mapping[str, Any], label: str, header: str) -> tuple[Any, int]:
    """(prompts,) log p of the label, from one row per prompt; and the tokens of all rows, without padding."""
    import torch

    from mint_core.answering.trie import candidates
    from mint_core.students.encoding import append_response, encode_prompt, stack
    from mint_core.types import LabelSpace

    encoded = [encode_prompt(student, key, prompt) for key, prompt in prompts.items()]
    known = candidates(student, LabelSpace((label, "another one")), header, encoded[0].end_of_turn).some([0])
    (path,), (closers,) = known.branches.paths, known.branches.closers
    order = sorted(range(len(encoded)), key=lambda row: encoded[row].length)
    found = np.zeros(len(encoded))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            full = [append_response(encoded[row], [*known.shared, *path]) for row in some]
            batch = stack(full, student.tokenizer.pad_token_id, "right")
            hidden = student.model.base_model(**batch, use_cache=False).last_hidden_state
            for place, row in enumerate(some):
                first = encoded[row].length + len(known.shared) - 1
                own = hidden[place, first : first + len(path) + 1]
                after = student.model.get_output_embeddings()(own).float().log_softmax(-1)
                steps = after[:-1].gather(1, torch.tensor(path, dtype=torch.long)[:, None]).sum()
                found[row] = float(steps + after[-1, closers].logsumexp(0))
    return found, sum(one.length + len(known.shared) + len(path) for one in encoded)


def shared_tokens(student: Any, prompts: Mapping[str, Any], label: str, header: str) -> int:
    """What goes through the student where the beginning is shared."""
    from mint_core.answering.trie import candidates, common
    from mint_core.students.encoding import encode_prompt
    from mint_core.types import LabelSpace

    encoded = [encode_prompt(student, key, prompt) for key, prompt in prompts.items()]
    known = candidates(student, LabelSpace((label, "another one")), header, encoded[0].end_of_turn).some([0])
    tail = len(known.shared) + len(known.branches.paths[0])
    ids = [one.tensors["input_ids"][0].tolist() for one in encoded]
    return len(ids[0]) + sum(len(own) - len(common(ids[0], own)) + tail for own in ids)


def prompts_of(task: Any, text: str) -> dict[str, Any]:
    """The prompt of a text, and that of the text without each of its phrases."""
    from mint_core.phrases import without
    from mint_core.types import Sample

    spans = task.phrases(Sample("s", "test", text=text))
    texts = [text, *(without(text, spans, {number}) for number in range(len(spans)))]
    made = [task.inference_prompt(Sample(str(i), "test", text=one), 10) for i, one in enumerate(texts)]
    return {str(i): prompt for i, prompt in enumerate(made)}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and its seconds."""
    begin = time.process_time()
    found = work()
    return found, time.process_time() - begin


def measure(student: Any, task: Any, texts: Sequence[str], label: str, labels: Any) -> dict[str, Any]:
    """Both ways on the same prompts, text by text, the one that is first changing from text to text."""
    from mint_core.answering.alike import label_log_probs

    ratios, tokens, phrases, seconds = [], [], [], {"shared": 0.0, "rows": 0.0}
    for number, text in enumerate([texts[0], *texts]):  # the first one warms up
        prompts = prompts_of(task, text)
        if not number:
            prompts = {key: prompts[key] for key in list(prompts)[:3]}
        ways: dict[str, Callable[[], Any]] = {
            "shared": lambda prompts=prompts: label_log_probs(
                student, prompts, labels, label, task.header, batch_size=BATCH
            ),
            "rows": lambda prompts=prompts: rows(student, prompts, label, task.header),
        }
        took = {}
        for name in sorted(ways, reverse=bool(number % 2)):
            made, took[name] = timed(ways[name])
            if name == "shared":
                ours = made
            else:
                theirs, whole = made
        worst = float(np.abs(ours - theirs).max())
        if worst > 1e-3:
            raise SystemExit(f"the two ways differ by {worst:.2g} nats")
        if number:
            ratios.append(took["rows"] / took["shared"])
            tokens.append(whole / shared_tokens(student, prompts, label, task.header))
            phrases.append(len(prompts) - 1)
            seconds = {name: seconds[name] + took[name] for name in seconds}
    return {
        "n": len(texts),
        "phrases": statistics.mean(phrases),
        "prompt_tokens": statistics.mean(shared_prompt(student, task, text) for text in texts),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "times_faster": round(seconds["rows"] / seconds["shared"], 2),
        "median_ratio": round(statistics.median(ratios), 2),
        "least": round(min(ratios), 2),
        "most": round(max(ratios), 2),
        "tokens_fewer": round(statistics.mean(tokens), 2),
    }


def shared_prompt(student: Any, task: Any, text: str) -> int:
    """Tokens of the whole prompt."""
    from mint_core.students.encoding import encode_prompt
    from mint_core.types import Sample

    return encode_prompt(student, "s", task.inference_prompt(Sample("s", "test", text=text), 10)).length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path, help="folder of a text student. [default: the embedded one]")
    parser.add_argument("--patients", type=int, default=20, help="0 = none")
    parser.add_argument("--notes", type=int, default=5, help="0 = none")
    parser.add_argument("--joined", type=int, default=8, help="patients whose phrases make a note")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    import torch

    from mint_core.config import StudentConfig
    from mint_core.students.load import load_student
    from mint_gestalt.task import RareDisease

    torch.set_num_threads(1)
    task = RareDisease()
    data = task.load()
    found = [sample.text or "" for sample in data.split("test")]
    patients = found[: options.patients]
    notes = [
        " ".join(found[options.joined * number : options.joined * (number + 1)]) for number in range(options.notes)
    ]
    label = next(sample.label for sample in data.split("test") if sample.label)
    path = options.student or task.embedded_student().path
    student = load_student(StudentConfig(model=str(path), device="cpu"))
    measured: dict[str, Any] = {
        "parameters": sum(one.numel() for one in student.model.parameters()), "python": platform.python_version(),
        "torch": torch.__version__, "transformers": version("transformers"), "threads": torch.get_num_threads(),
        "cpu": torch.cpu.get_capabilities().get("cpu_name"), "load_at_start": round(os.getloadavg()[0], 2),
    }  # fmt: skip
    for part, texts in {"patients": patients, "notes": notes}.items():
        if texts:
            measured[part] = measure(student, task, texts, label, data.labels)
            print(part, json.dumps(measured[part]), flush=True)
    result = json.loads(options.out.read_text()) if options.out.exists() else {}
    result["embedded" if options.student is None else path.name] = measured
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
