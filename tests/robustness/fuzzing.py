"""Input that nobody expected, drawn by hypothesis: what the readers make of it is an answer or one sentence.

Every example is a sound input with a few changes, or plain noise. The draw is fixed, so that an example can be tried
again. `_try` does what the command line does with errors; anything else that comes out of a reader is a bug, and so is
a message of several lines, or one that quotes a patient's text.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import struct
import tempfile
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.robustness.table import Trial
from tests.robustness.world import CANARY, World, is_a_bug

TOO_LONG = 20
"""Seconds that a reader may take for an input of a few KiB."""
TOKENS = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b",", b";", b"\t", b"\n", b"\r", b"\x0b", b"\x1b[31m", b"{",
    b"}", b"[" * 2000, b"[", b"]", b":", b"\\", b"\\ud800", b"1e999", b"-1", b"NaN", b"null", b"true", b"9" * 5000,
    b"=1+1", b"!!python/object/apply:os.system ['true']", b"&a [*a]", b"\xed\xa0\x80", b"\xc2\x85", b"\xe2\x80\xa8",
    b"../../x", b"%s", b"{{1}}", b"x" * 200_000,
)  # fmt: skip
VALUES = (
    None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400, "", " ", "\x00", "\ud800", "x" * 100_000, [], {},
    [[]], {"": {}}, "NaN", "\u202e", ["a", 1],
)  # fmt: skip
PACKET = {
    "id": "PMID_1_a",
    "subject": {"id": "a", "sex": "FEMALE", "timeAtLastEncounter": {"age": {"iso8601duration": "P3Y6M"}}},
    "phenotypicFeatures": [{"type": {"id": "HP:0000322", "label": CANARY}}, {"type": {"id": "HP:0001250"}}],
    "diseases": [{"term": {"id": "OMIM:900001", "label": "Alphan syndrome"}}],
    "interpretations": [
        {
            "diagnosis": {
                "disease": {"id": "OMIM:900001", "label": "Alphan syndrome"},
                "genomicInterpretations": [
                    {
                        "interpretationStatus": "CAUSATIVE",
                        "variantInterpretation": {"variationDescriptor": {"geneContext": {"symbol": "GENEA1"}}},
                    }
                ],
            }
        }
    ],
    "metaData": {"phenopacketSchemaVersion": "2.0.2", "externalReferences": [{"id": "PMID:1"}]},
}
NOTES = "".join(f"n{i},{CANARY} number {i},{'Alpha' if i % 2 else 'Beta'} disease,GEN{i % 2}\n" for i in range(8))
CONFIG = b"""task:
  name: toy
  count: 6
aligner: {name: orpo, epochs: 1, lora_rank: 2}
student: {model: embedded, device: cpu}
predict:
  decode: score
evaluate:
  bootstrap: 100
seed: 3
"""
LIST = b"MOST_LIKELY_TISSUE:\n1. Colon\n2. Liver"


@dataclass(frozen=True)
class Subject:
    """One reader.

    Attributes:
        examples: A hypothesis strategy.
        read: Writes an example to a folder and reads it; raises what the reader raises.
    """

    examples: Any
    read: Callable[[Any], None]


# --- strategies


def _noisy(*bases: bytes) -> Any:
    """A base with up to six changes: pieces cut, doubled, swapped for tokens, bits flipped; or noise."""
    from hypothesis import strategies as st

    change = st.tuples(st.floats(0, 1), st.integers(0, 40), st.integers(0, 3), st.sampled_from(TOKENS))

    def apply(base: bytes, changes: list[tuple[float, int, int, bytes]]) -> bytes:
        data = base
        for place, length, kind, token in changes:
            at = int(place * len(data))
            piece = data[at : at + length]
            new = (b"", piece * 3, token, bytes(byte ^ 0x41 for byte in piece))[kind]
            data = data[:at] + new + data[at + (0 if kind == 2 and length % 2 else length) :]
        return data

    changed = st.builds(apply, st.sampled_from(bases), st.lists(change, min_size=1, max_size=6))
    return st.one_of(changed, changed, changed, st.binary(max_size=300))


def _odd(base: Any) -> Any:
    """JSON with one or two leaves or branches replaced, or taken out."""
    from hypothesis import strategies as st

    def apply(places: list[tuple[int, Any, bool]]) -> Any:
        content = json.loads(json.dumps(base))
        for number, value, gone in places:
            spots = list(_spots(content))
            if not spots:
                return value
            owner, key = spots[number % len(spots)]
            if gone:
                del owner[key]
            else:
                owner[key] = value
        return content

    place = st.tuples(st.integers(0, 10_000), st.sampled_from(VALUES), st.booleans())
    return st.builds(apply, st.lists(place, min_size=1, max_size=2))


def _spots(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in list(keys):
        yield content, key
        yield from _spots(content[key])


def _dumped(content: Any) -> bytes:
    return json.dumps(content).encode("utf-8", "surrogatepass")


# --- readers


def _rare(source: str, suffix: str, base: bytes) -> Callable[[Path], Subject]:
    """The rare-disease task's tables, as training data and as new samples."""

    def make(folder: Path) -> Subject:
        from mint_core.plugins import registry

        task = registry().get("task", "rare-disease").component
        place = folder / f"notes{suffix}"

        def read(data: bytes) -> None:
            place.write_bytes(data)
            failed = None
            try:
                task(task.Config(source=source, data=place, privileged=("gene",))).load()
            except Exception as error:
                failed = error
            list(task(task.Config()).read_inputs(place, Counter()))
            if failed is not None:
                raise failed

        return Subject(_noisy(base), read)

    return make


def _phenopackets(folder: Path) -> Subject:
    from hypothesis import strategies as st

    from mint_core.plugins import registry

    task = registry().get("task", "rare-disease").component
    store = folder / "store" / "cohort"
    store.mkdir(parents=True)
    for number in range(2, 8):
        packet = {**PACKET, "id": f"PMID_{number}_a"}
        (store / f"PMID_{number}_a.json").write_text(json.dumps(packet))

    def read(data: bytes) -> None:
        (store / "PMID_1_a.json").write_bytes(data)
        failed = None
        try:
            task(task.Config(source="phenopackets", data=folder / "store")).load()
        except Exception as error:
            failed = error
        list(task(task.Config()).read_inputs(store / "PMID_1_a.json", Counter()))
        if failed is not None:
            raise failed

    return Subject(st.one_of(_odd(PACKET).map(_dumped), _noisy(_dumped(PACKET))), read)


def _manifest(folder: Path) -> Subject:
    from PIL import Image

    from mint_core.plugins import registry

    task = registry().get("task", "tissue-type").component
    for number in range(8):
        Image.new("RGB", (16, 16), (number * 20, 9, 90)).save(folder / f"{number}.png")
    base = "image,label,group\n" + "".join(f"{i}.png,{'Colon' if i % 2 else 'Liver'},p{i}\n" for i in range(8))

    def read(data: bytes) -> None:
        (folder / "manifest.csv").write_bytes(data)
        task(task.Config(source="folder", data=folder / "manifest.csv")).load()

    return Subject(_noisy(base.encode()), read)


def _labels(folder: Path) -> Subject:
    from mint_core.plugins import registry

    task = registry().get("task", "rare-disease").component
    (folder / "notes.csv").write_text("id,text,label,gene\n" + NOTES)
    names = b"Alpha disease;ALP\nBeta disease\nGamma disease\n"

    def read(data: bytes) -> None:
        (folder / "names.txt").write_bytes(data)
        task(task.Config(source="csv", data=folder / "notes.csv", labels=folder / "names.txt")).load()

    return Subject(_noisy(names), read)


def _yaml(folder: Path) -> Subject:
    def read(data: bytes) -> None:
        (folder / "mint.yaml").write_bytes(data)
        _command(["config", "show", "-c", str(folder / "mint.yaml")])

    return Subject(_noisy(CONFIG), read)


def _responses(folder: Path) -> Subject:
    from mint_core.answering.outcome import outcome
    from mint_core.names import recognise
    from mint_core.students.prompts import parse_response
    from mint_core.types import LabelSpace, Prediction

    labels = LabelSpace(("Colon", "Liver", "Skin"))

    def read(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        for reasons in (False, True):
            parsed = parse_response(text, "MOST_LIKELY_TISSUE:", reasons=reasons)
            recognise(parsed.labels, labels)
        answer = Prediction("s", "aligned", text, parsed.labels, len(parsed.labels), parsed.well_formed)
        outcome(answer, labels, "free", None, "")

    return Subject(_noisy(LIST), read)


def _adapters(folder: Path, name: str, examples: Callable[[bytes], Any]) -> Subject:
    """One file of an adapter's folder, as `mint predict` and DPO read it."""
    from mint_core.answering.record import read_record
    from mint_core.config import StudentConfig
    from mint_core.students.adapter import adapter_config, load_adapter
    from mint_core.students.load import load_student

    adapter = folder / "adapter"
    sound = (adapter / name).read_bytes()
    student = load_student(StudentConfig(model=str(folder / "student"), device="cpu"))

    def read(data: bytes) -> None:
        (adapter / name).write_bytes(data)
        read_record(adapter)
        adapter_config(adapter)
        base = student.model
        try:
            load_adapter(base, adapter)
        finally:
            if hasattr(base, "peft_config"):  # peft changes the student in its place
                fresh = load_student(StudentConfig(model=str(folder / "student"), device="cpu"))
                object.__setattr__(student, "model", fresh.model)

    return Subject(examples(sound), read)


def _headers(sound: bytes) -> Any:
    """safetensors with another header, another length of it, or short."""
    from hypothesis import strategies as st

    length = struct.unpack("<Q", sound[:8])[0]
    header, body = json.loads(sound[8 : 8 + length]), sound[8 + length :]

    def packed(content: Any) -> bytes:
        text = _dumped(content)
        return struct.pack("<Q", len(text)) + text + body

    lengths = st.sampled_from((0, 1, 7, 2**31, 2**63, 2**64 - 1)).map(lambda n: struct.pack("<Q", n) + sound[8:])
    return st.one_of(_odd(header).map(packed), _noisy(sound), lengths)


def _safetensors(folder: Path) -> Subject:
    return _adapters(folder, "adapter_model.safetensors", _headers)


def _adapter_configs(folder: Path) -> Subject:
    return _adapters(folder, "adapter_config.json", lambda sound: _odd(json.loads(sound)).map(_dumped))


def _records(folder: Path) -> Subject:
    return _adapters(folder, "mint.json", lambda sound: _odd(json.loads(sound)).map(_dumped))


def _servers(folder: Path) -> Subject:
    from hypothesis import strategies as st

    from mint_core.answering import endpoint
    from tests.servers import Server

    said: list[bytes] = [b""]

    class Body(str):
        """The server sends a text; this one is any bytes."""

        def encode(self, *_: Any) -> bytes:
            return said[0]

    server = Server(lambda _: (200, Body()))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint.FIRST_WAIT = 0.001
    sound = {"choices": [{"message": {"role": "assistant", "content": LIST.decode()}, "finish_reason": "stop"}]}
    (folder / "notes.jsonl").write_text(json.dumps({"id": "n0", "text": CANARY}) + "\n")

    def read(data: bytes) -> None:
        said[0] = data
        _command(
            ["predict", "--endpoint", server.url, "--model", "m", "--task", "toy", "--input",
             str(folder / "notes.jsonl"), "--retries", "0", "--quiet"]
        )  # fmt: skip

    return Subject(st.one_of(_odd(sound).map(_dumped), _noisy(_dumped(sound))), read)


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "CSV of notes": _rare("csv", ".csv", ("id,text,label,gene\n" + NOTES).encode()),
    "TSV of notes": _rare("csv", ".tsv", ("id,text,label,gene\n" + NOTES).replace(",", "\t").encode()),
    "JSONL of notes": _rare(
        "jsonl", ".jsonl",
        b"".join(_dumped(dict(zip(("id", "text", "label", "gene"), line.split(","), strict=True))) + b"\n"
                 for line in NOTES.splitlines()),
    ),
    "phenopackets": _phenopackets,
    "CSV of images": _manifest,
    "label names": _labels,
    "YAML configs": _yaml,
    "responses": _responses,
    "safetensors": _safetensors,
    "adapter_config.json": _adapter_configs,
    "mint.json": _records,
    "server answers": _servers,
}  # fmt: skip


# --- trying


class _Refused(Exception):
    """A command ended with a documented exit code and a sentence."""


def _command(argv: list[str]) -> None:
    """`mint` in this process; its failure as an exception."""
    from mint_core.cli import main
    from tests.robustness.forks import Answer

    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(argv)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    answer = Answer(code, out.getvalue(), err.getvalue())
    if is_a_bug(answer):
        raise AssertionError(f"exit {code}: {answer.told}")
    if code:
        raise _Refused(answer.told)


def examine(name: str, count: int, adapter: str, student: str) -> list[list[str]]:
    """Reads so many examples; runs in a child.

    Args:
        name: Of SUBJECTS.
        count: Examples.
        adapter: A sound adapter's folder.
        student: Its student's.

    Returns:
        Per example how it ended (`read`, `refused`, or `FAILED`) and what was said.
    """
    from hypothesis import HealthCheck, Phase, given, settings

    from mint_core.errors import MintError

    ended: list[list[str]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copytree(adapter, folder / "adapter")
        (folder / "student").symlink_to(student)
        subject = SUBJECTS[name](folder)

        def late(*_: Any) -> None:
            raise AssertionError(f"it took longer than {TOO_LONG} s")

        signal.signal(signal.SIGALRM, late)

        @settings(
            max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(subject.examples)
        def each(example: Any) -> None:
            signal.alarm(TOO_LONG)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    subject.read(example)
                ended.append(["read", ""])
            except (MintError, _Refused, OSError) as error:
                said = str(error)
                bad = "\n" in said or CANARY in said or not said
                ended.append(["FAILED" if bad else "refused", f"{type(error).__name__}: {said[:300]!r}"])
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                said = f"{type(error).__name__}: {str(error)[:200]!r} at {where.filename}:{where.lineno}"
                ended.append(["FAILED", f"{said}; input {repr(example)[:200]}"])
            finally:
                signal.alarm(0)

        each()
    return ended


def bad_inputs(world: World, count: int) -> Iterator[Trial]:
    """As many examples of every reader."""
    adapter = world.ran / "runs" / "t" / "adapter"
    for name in SUBJECTS:
        folder = world.folder()
        answer = world.forks.call(
            folder,
            function="tests.robustness.fuzzing:examine",
            arguments=[name, count, str(adapter), str(world.student)],
        )
        world.done(folder)
        if answer.result is None:
            yield Trial(f"bad input: {name}", "all", f"the reader ended the process: {answer.told}", survived=False)
            continue
        for number, (end, said) in enumerate(answer.result):
            case = f"example {number} of {count}"
            how = {"read": "read", "refused": "refused in one sentence"}.get(end, said)
            yield Trial(f"bad input: {name}", case, how, survived=end != "FAILED")
