"""What it costs to turn training prompts and responses into tokens: anew in every epoch, or once and kept.

    python benchmarks/encoding.py            both tasks, about ten minutes on two cores
    python benchmarks/encoding.py --quick    a few samples, to see that it works; nothing is written

The embedded students of `rare-disease` (text) and `tissue-type` (images) read the simulated training samples of their
tasks with one list of N labels chosen and one rejected per sample, drawn at random. `anew` is how mint encoded until it
kept its rows, written out below as the peer: the chat template runs five times per prompt, and every response goes
through the tokenizer again. `first` encodes all rows and writes them, `kept` reads them as an epoch does. All are
seconds per 1,000 groups, and the tokens of the three are compared. `step` is the median time of an optimiser step of
`orpo` on both, runs of the two taking turns in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from engine import RESULTS, machine

TASKS = ("rare-disease", "tissue-type")


def plain_messages(prompt: Any, owner: Any, *, parts: bool, image: Any = None) -> list[dict[str, Any]]:
    """The turns; one rendering shows whether the template keeps them all."""
    for messages in (prompt.messages, without_system(prompt.messages)):
        turns = [
            {"role": m.role, "content": [{"type": "text", "text": m.content}] if parts else m.content} for m in messages
        ]
        if parts and prompt.image is not None:
            user = next(turn for turn in turns if turn["role"] == "user")
            user["content"].insert(0, {"type": "image"} if image is None else {"type": "image", "image": image})
        try:
            text = str(owner.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
        except Exception:  # noqa: S112 - jinja raises what the template's author chose
            continue
        if all(" ".join(message.content.split()) in " ".join(text.split()) for message in messages):
            return turns
    raise ValueError("The chat template refuses the prompt.")


def without_system(messages: Any) -> Any:
    """The same turns with the system lines in front of the first user turn."""
    system = "\n".join(message.content for message in messages if message.role == "system")
    first, *others = (message for message in messages if message.role == "user")
    return (replace(first, content=f"{system}\n{first.content}"), *others)


def plain_prompt(student: Any, sample_id: str, prompt: Any) -> Any:
    """A prompt as tensors, and the end of a turn worked out again."""
    from mint_core.students.encoding import EncodedPrompt

    owner, parts = student.processor, student.reads_images
    image = prompt.image.open() if prompt.image is not None else None
    turns = plain_messages(prompt, owner, parts=parts)
    probe = "\u2983response\u2984"
    answer = {"role": "assistant", "content": [{"type": "text", "text": probe}] if parts else probe}
    owner.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    whole = str(owner.apply_chat_template([*turns, answer], tokenize=False))
    turns = plain_messages(prompt, owner, parts=parts, image=image)
    encoded = owner.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    tensors = {
        key: value.to(student.model.dtype) if value.is_floating_point() else value
        for key, value in encoded.items()
        if hasattr(value, "shape")
    }
    return EncodedPrompt(sample_id, tensors, whole.partition(probe)[2].strip())


def plain_rows(job: Any, **_: Any) -> Any:
    """Rows that are encoded anew whenever they are asked for."""
    from mint_core.aligners.rows import TrainingRows
    from mint_core.students.encoding import encode_response
    from mint_core.students.prompts import write_response

    class Plain(TrainingRows):
        def prompt(self, sample_id: str) -> Any:
            return plain_prompt(job.student, sample_id, job.prompts[sample_id])

        def response(self, response: Any) -> list[int]:
            return encode_response(job.student, write_response(job.header, response), self.end_of_turn)

        def check_lengths(self) -> None:
            return None

    return Plain(replace(job, cache=None))


def make_job(task_name: str, count: int | None, folder: Path) -> Any:
    """The task's simulated training samples with its embedded student, and responses drawn at random."""
    from mint_core.config import StudentConfig
    from mint_core.interfaces import AlignmentJob
    from mint_core.plugins import registry
    from mint_core.students.load import load_student
    from mint_core.types import PreferenceGroup

    task: Any = registry().get("task", task_name).component()
    data = task.load()
    n = task.list_length(len(data.labels))
    samples = [sample.for_student(task.modality) for sample in data.split("train")][:count]
    rng = np.random.default_rng(0)
    groups = []
    for sample in samples:
        drawn = [data.labels.names[place] for place in rng.permutation(len(data.labels))]
        groups.append(PreferenceGroup(sample.id, (tuple(drawn[:n]),), (tuple(drawn[-n:]),)))
    return AlignmentJob(
        student=load_student(StudentConfig(device="cpu"), str(task.embedded_student().path)),
        groups=groups,
        prompts={sample.id: task.training_prompt(sample, n) for sample in samples},
        header=task.header,
        seed=0,
        work=folder / "work",
        adapter=folder / "adapter",
        advance=lambda *_: None,
        cache=folder / "cache",
    )


def epoch(rows: Any) -> float:
    """Seconds to read every group once, per 1,000 groups."""
    from mint_core.aligners.batches import GroupCollator

    collator = GroupCollator(rows)
    begin = time.process_time()
    for group in rows.job.groups:
        collator.row(group)
    return (time.process_time() - begin) / len(rows.job.groups) * 1000


def equal(one: Any, other: Any) -> bool:
    """Whether two kinds of rows hold the same tokens and pixels, and the same end of a turn."""
    import torch

    for group in one.job.groups:
        first, second = one.prompt(group.sample_id), other.prompt(group.sample_id)
        same = first.tensors.keys() == second.tensors.keys() and first.end_of_turn == second.end_of_turn
        if not same or not all(torch.equal(value, second.tensors[key]) for key, value in first.tensors.items()):
            return False
        if any(one.response(response) != other.response(response) for response in one.responses_of(group)):
            return False
    return True


def step_seconds(job: Any, make_rows: Callable[..., Any], batch_size: int) -> list[float]:
    """Seconds of every optimiser step but the first of one epoch of `orpo`."""
    from mint_core.aligners import trainer
    from mint_core.aligners.orpo import Orpo, OrpoConfig
    from mint_core.config import StudentConfig
    from mint_core.students.load import load_student

    ticks: list[float] = []
    config = OrpoConfig(epochs=1, warmup=0, batch_size=batch_size, lora_rank=16, log_steps=1000, save_steps=100_000)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(trainer, "TrainingRows", make_rows):
        student = load_student(StudentConfig(device="cpu"), job.student.source)
        places = {"work": Path(folder, "work"), "adapter": Path(folder, "adapter")}
        given = replace(job, student=student, advance=lambda *_: ticks.append(time.process_time()), **places)
        Orpo(config).align(given)
    return [after - before for before, after in pairwise(ticks)]


def measure(task_name: str, *, quick: bool) -> dict[str, Any]:
    """One task."""
    import torch

    from mint_core.aligners.rows import TrainingRows

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        job = make_job(task_name, 24 if quick else None, Path(name))
        TrainingRows(replace(job, groups=job.groups[:2], cache=Path(name, "other")))  # libraries are loaded
        plain = plain_rows(job)
        anew = [epoch(plain) for _ in range(1 if quick else 3)]
        begin = time.process_time()
        rows = TrainingRows(job)
        first = (time.process_time() - begin) / len(job.groups) * 1000
        kept = [epoch(rows) for _ in range(1 if quick else 3)]
        steps: dict[str, list[float]] = {"anew": [], "kept": []}
        some = replace(job, groups=job.groups[: 24 if quick else 160])
        TrainingRows(some)
        for _ in range(1 if quick else 3):
            steps["anew"] += step_seconds(some, plain_rows, 8)
            steps["kept"] += step_seconds(some, TrainingRows, 8)
        sizes = [file.stat().st_size for file in Path(name, "cache", "rows").glob("*.arrow")]
        return {
            "groups": len(job.groups),
            "tokens_of_a_prompt": statistics.median(rows.prompt(group.sample_id).length for group in job.groups),
            "equal": equal(plain, rows),
            "seconds_per_1000_groups": {
                "anew": round(statistics.median(anew), 3),
                "first": round(first, 3),
                "kept": round(statistics.median(kept), 3),
            },
            "times_faster": round(statistics.median(anew) / statistics.median(kept), 1),
            "seconds_per_step": {way: round(statistics.median(taken), 4) for way, taken in steps.items()},
            "kept_mib": round(max(sizes) / 2**20, 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=TASKS, help="tasks to measure; others are kept")
    parser.add_argument("--quick", action="store_true", help="a few samples; nothing is written")
    parser.add_argument("--out", type=Path, default=RESULTS / "encoding.json", help="JSON file")
    options = parser.parse_args()
    result = json.loads(options.out.read_text()) if options.out.exists() and not options.quick else {}
    for task in options.only:
        result[task] = {"machine": machine(), **measure(task, quick=options.quick)}
        print(
            f"{task}: {json.dumps({key: value for key, value in result[task].items() if key != 'machine'})}", flush=True
        )
        if not options.quick:
            options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
