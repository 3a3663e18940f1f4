"""Training rows: prompts and responses as token ids, encoded once and kept in the cache by content.

Two Arrow files are kept, memory-mapped, for `datasets.Dataset.from_file`: one of prompts, which trainings on other
preferences share, and one of responses. Their names are made from all that decides their content. A prompt's token ids
are a patient's text: the cache belongs where the data belong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import torch
import transformers
from torch import Tensor

from mint_core import processes
from mint_core.files import digest_of, replaced, seal_file, sealed_file
from mint_core.interfaces import AlignmentJob, Student
from mint_core.students.encoding import PER_TOKEN, EncodedPrompt, check_length, encode_prompt, encode_response
from mint_core.students.load import fingerprint
from mint_core.students.prompts import render_prompt, write_response
from mint_core.types import PreferenceGroup, Response

VERSION = 1
"""Raise it when the same prompt or response is encoded in another way."""
PIXELS_KEPT = 2 * 2**30
"""Bytes: where the images of all prompts take more, they are prepared anew each time that they are needed."""
MEASURED = 8
"""So many prompts tell how large the images of all will be."""
_ROWS_PER_BATCH = 64
_TENSOR = {"name": pa.string(), "dtype": pa.string(), "shape": pa.list_(pa.int64()), "data": pa.binary()}
_PROMPTS = pa.schema(
    {"sample_id": pa.string(), "length": pa.int64(), "tensors": pa.list_(pa.struct(list(_TENSOR.items())))}
)
_RESPONSES = pa.schema({"labels": pa.list_(pa.string()), "ids": pa.list_(pa.int64())})


class TrainingRows:
    """The prompts and responses of a job, each encoded once.

    Without a cache they are encoded when they are asked for, and what holds no image stays in memory.

    Args:
        job: Student, groups, prompts, and the cache where there is one.
        rejected: Whether the rejected responses are read.
        keep: Write into the cache; off = only use what is there.

    Raises:
        ModelError: The student refuses a prompt.
        DataError: An image cannot be decoded.
    """

    def __init__(self, job: AlignmentJob, *, rejected: bool = True, keep: bool = True) -> None:
        self.job = job
        self.rejected = rejected
        self._asked = {group.sample_id: job.prompts[group.sample_id] for group in job.groups}
        self._encoded: dict[str, EncodedPrompt] = {}
        self._ids: dict[Response, list[int]] = {}
        self._prompts: _Kept | None = None
        self._responses: _Kept | None = None
        if job.cache is not None and (keep or job.cache.is_dir()):
            self._open(job.cache / "rows", keep=keep)

    def responses_of(self, group: PreferenceGroup) -> tuple[Response, ...]:
        """What is read of a group: the chosen responses, then the rejected ones."""
        return (*group.chosen, *(group.rejected if self.rejected else ()))

    def prompt(self, sample_id: str) -> EncodedPrompt:
        """The training prompt of a sample as tensors."""
        if self._prompts is not None:
            tensors = {kept["name"]: _tensor(kept) for kept in self._prompts.value("tensors", sample_id)}
            return EncodedPrompt(sample_id, tensors, self.end_of_turn)
        found = self._encoded.get(sample_id)
        if found is None:
            found = encode_prompt(self.job.student, sample_id, self.job.prompts[sample_id])
            if set(found.tensors).issubset(PER_TOKEN):  # no pixels
                self._encoded[sample_id] = found
        return found

    def response(self, response: Response) -> list[int]:
        """Token ids of a response with the end of its turn."""
        if self._responses is not None and response in self._responses.places:
            ids: list[int] = self._responses.value("ids", response)
            return ids
        if response not in self._ids:
            text = write_response(self.job.header, response)
            self._ids[response] = encode_response(self.job.student, text, self.end_of_turn)
        return self._ids[response]

    @cached_property
    def end_of_turn(self) -> str:
        """What the student's chat format writes behind a response; the same for all prompts."""
        student, first = self.job.student, next(iter(self._asked.values()))
        return render_prompt(first, student.processor, parts=student.reads_images).end_of_turn

    def check_lengths(self) -> None:
        """Refuses a prompt that does not fit the student's context with its responses, before training begins.

        Where images are prepared anew each time, every batch is checked when it is made instead.

        Raises:
            DataError: A row is longer than the context.
        """
        kept = self._prompts
        if kept is None and self._shows_images:
            return
        for group in self.job.groups:  # of what is kept only the column of lengths is read
            prompt = kept.value("length", group.sample_id) if kept else self.prompt(group.sample_id).length
            for response in self.responses_of(group):
                check_length(self.job.student, group.sample_id, prompt + len(self.response(response)))

    @property
    def _shows_images(self) -> bool:
        return any(prompt.image is not None for prompt in self._asked.values())

    def _open(self, folder: Path, *, keep: bool) -> None:
        """Uses the files of these rows, and makes those that are not there."""
        job, student = self.job, student_key(self.job.student)
        prompts = [
            [sample_id, [[m.role, m.content] for m in prompt.messages], prompt.image.key if prompt.image else None]
            for sample_id, prompt in self._asked.items()
        ]
        file = folder / f"prompts-{digest_of([student, prompts])}.arrow"
        if sealed_file(file) or (keep and self._are_small()):
            self._prompts = _kept(file, _PROMPTS, self._asked, self._prompt_row, keep=keep)
        responses = dict.fromkeys(response for group in job.groups for response in self.responses_of(group))
        file = folder / f"responses-{digest_of([student, job.header, self.end_of_turn, list(responses)])}.arrow"
        self._responses = _kept(file, _RESPONSES, responses, self._response_row, keep=keep)
        self._ids.clear()

    def _are_small(self) -> bool:
        """Whether the prompts may be kept: text always, images as far as PIXELS_KEPT goes."""
        if not self._shows_images:
            return True
        some = [self.prompt(sample_id) for sample_id in islice(self._asked, MEASURED)]
        taken = sum(tensor.nbytes for prompt in some for tensor in prompt.tensors.values())
        return taken / len(some) * len(self._asked) <= PIXELS_KEPT

    def _prompt_row(self, sample_id: str) -> dict[str, Any]:
        encoded = encode_prompt(self.job.student, sample_id, self.job.prompts[sample_id])
        tensors = [
            {
                "name": name,
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "shape": list(tensor.shape),
                "data": tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
            }
            for name, tensor in encoded.tensors.items()
        ]
        return {"sample_id": sample_id, "length": encoded.length, "tensors": tensors}

    def _response_row(self, response: Response) -> dict[str, Any]:
        return {"labels": response, "ids": self.response(response)}


def student_key(student: Student) -> str:
    """What decides how rows are encoded: tokenizer, processor and chat template by content, and precision."""
    with TemporaryDirectory(prefix="mint-student-") as folder:
        student.processor.save_pretrained(folder)
        content = fingerprint(folder)
    pixels = str(student.model.dtype) if student.reads_images else None
    return digest_of([VERSION, transformers.__version__, content, pixels])


class _Kept:
    """A kept Arrow file, read through `datasets`: no row is in memory before it is asked for."""

    def __init__(self, file: Path, keys: Iterable[Any]) -> None:
        from datasets import Dataset

        self._table = Dataset.from_file(str(file)).data
        self.places = {key: place for place, key in enumerate(keys)}

    def value(self, column: str, key: Any) -> Any:
        """One value as Python data."""
        return self._table.column(column)[self.places[key]].as_py()


def _kept(
    file: Path, schema: pa.Schema, keys: Iterable[Any], row: Callable[[Any], dict[str, Any]], *, keep: bool
) -> _Kept | None:
    """The rows of a file named by content, which is written where it is not there and may be; None = there is none."""
    if keep:
        if processes.is_first():
            _write(file, schema, keys, row)
        processes.wait()
        _write(file, schema, keys, row)  # where processes of other machines do not see the first one's files
    return _Kept(file, keys) if sealed_file(file) else None


def _write(file: Path, schema: pa.Schema, keys: Iterable[Any], row: Callable[[Any], dict[str, Any]]) -> None:
    if sealed_file(file):
        return
    with replaced(file) as temporary, temporary.open("wb") as stream, pa.ipc.new_stream(stream, schema) as writer:
        rest = iter(keys)
        while some := list(islice(rest, _ROWS_PER_BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist([row(key) for key in some], schema=schema))
    seal_file(file)


def _tensor(kept: dict[str, Any]) -> Tensor:
    dtype: torch.dtype = getattr(torch, kept["dtype"])
    return torch.frombuffer(bytearray(kept["data"]), dtype=dtype).reshape(kept["shape"])
