"""Canaries: code, formulas, patients' words and keys that are planted, and must neither run nor come out anywhere."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from mint_core.aligners.checkpoints import COMPLETE
from mint_core.files import digest_of_path, seal
from tests.robustness.corruption import CODE, interrupted
from tests.robustness.forks import Answer
from tests.robustness.table import Trial
from tests.robustness.world import CANARY, COMPARE, PREDICT, RUN, World, is_a_bug

KEY = "sk-canary-7f3e9b"
WORDS = (f"{CANARY} number", f"{CANARY} of note")
"""How patients' texts begin; the word alone stands in the config."""
_SHELL = f"touch {CODE}"
_JINJA = (
    "{{ cycler.__init__.__globals__.os.popen('" + _SHELL + "').read() }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ lipsum.__globals__['os'].system('" + _SHELL + "') }}",
    "{% for c in [].__class__.__base__.__subclasses__() %}{% if c.__name__ == 'Popen' %}"
    "{{ c('" + _SHELL + "', shell=True) }}{% endif %}{% endfor %}",
)
_TAGS = (
    f'!!python/object/apply:os.system ["{_SHELL}"]',
    f'!!python/object/new:subprocess.Popen [["touch", "{CODE}"]]',
    "!!python/name:os.system",
)
_NAMES = (f"__import__('os').system('{_SHELL}')", f"toy; {_SHELL}", f"$({_SHELL})", "../../evil", "os:system", "evil")
FORMULAS = (
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\u00a0=1", "\u3000=1", "\u0085=1", "\x0b=1", "\x1f=1",
    "\x00=1", "\ufeff=1", "\u200b=1", "\uff1d1", "\u2028=1", '"=1', "=cmd|' /C calc'!A0",
)  # fmt: skip
_STRIPPED = (
    "".join(map(chr, range(33))) + "\x7f\u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff\u200b\u200c\u200d"
)


class _Live:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (_SHELL,))


def canaries(world: World, count: int) -> Iterator[Trial]:
    """All of them, or the first so many of each kind.

    Args:
        world: Where.
        count: Of each kind; 0 = all.
    """
    for trials in (_code(world), _formulas(world), _words(world), _keys(world)):
        for number, trial in enumerate(trials):
            if count and number >= count:
                break
            yield trial


# --- code


def _code(world: World) -> Iterator[Trial]:
    pickled = pickle.dumps(_Live())
    yield _ran(world, "the adapter's weights are a pickle", PREDICT, world.ran, _overwrite(WEIGHTS, pickled))

    def bin_beside(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / WEIGHTS).with_name("adapter_model.bin").write_bytes(pickled)

    yield _ran(world, "a pickled adapter in place of the weights", PREDICT, world.ran, bin_beside)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):

        def poison(folder: Path, name: str = name) -> None:
            for checkpoint in folder.rglob("checkpoint-*"):
                if (checkpoint / COMPLETE).exists():
                    (checkpoint / name).write_bytes(pickled)
                    seal(checkpoint, COMPLETE)

        yield _ran(world, f"a pickle as {name} of a sealed checkpoint", RUN, interrupted(world), poison)
    for number, tag in enumerate(_TAGS):
        config = f"task: toy\nname: {tag}\n".encode()
        yield _ran(world, f"YAML tag {number}", RUN, None, _overwrite("mint.yaml", config))
    for number, name in enumerate(_NAMES):

        def evil_beside(folder: Path) -> None:
            (folder / "evil.py").write_text(f"open({CODE!r}, 'w')\n")

        for option in ("--task", "--aligner"):
            yield _ran(world, f"component name {number} after {option}", (*RUN, option, name), None, evil_beside)
    for number, template in enumerate(_JINJA):

        def talk(folder: Path, template: str = template) -> None:
            student = _own_student(world, folder)
            place = student / "chat_template.jinja"
            place.write_text(template + place.read_text())

        yield _ran(world, f"chat template {number}", RUN, None, talk)

    def own_code(folder: Path) -> None:
        student = _own_student(world, folder)
        (student / "evil.py").write_text(f"open({CODE!r}, 'w')\nclass Evil: pass\n")
        for name in ("config.json", "tokenizer_config.json"):
            content = json.loads((student / name).read_text())
            kinds = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "AutoProcessor")
            content["auto_map"] = dict.fromkeys(kinds, "evil.Evil")
            if name == "config.json":
                content["model_type"] = "evil"
            (student / name).write_text(json.dumps(content))

    yield _ran(world, "a student with code of its own (auto_map)", RUN, None, own_code)

    def pickled_student(folder: Path) -> None:
        student = _own_student(world, folder)
        (student / "model.safetensors").unlink()
        (student / "pytorch_model.bin").write_bytes(pickled)

    yield _ran(world, "a student whose weights are a pickle", RUN, None, pickled_student)

    def mapped_adapter(folder: Path) -> None:
        place = folder / "runs/t/adapter/adapter_config.json"
        content = json.loads(place.read_text())
        content["auto_mapping"] = {"base_model_class": "Evil", "parent_library": "evil"}
        place.write_text(json.dumps(content))
        (folder / "evil.py").write_text(f"open({CODE!r}, 'w')\nclass Evil: pass\n")
        (folder / "runs/t/adapter/evil.py").write_text(f"open({CODE!r}, 'w')\nclass Evil: pass\n")

    yield _ran(world, "an adapter that names a library (auto_mapping)", PREDICT, world.ran, mapped_adapter)

    def pickled_scores(folder: Path) -> None:
        run = folder / "runs/t"
        place = run / "scores/aligned.npy"
        import numpy as np

        np.save(place, np.array([_Live()], dtype=object), allow_pickle=True)
        _claim(run, "predict", "scores/aligned.npy")
        (run / "stages/evaluate.json").unlink()

    yield _ran(world, "a pickle in the scores, with its digest", RUN, world.finished, pickled_scores)
    markup = f"<img src=x onerror=alert('{CODE}')>"
    folder = world.folder()
    answer = world.forks.call(folder, (*RUN, "--name", markup))
    pages = [page for page in folder.rglob("report.html") if markup in page.read_text(encoding="utf-8")]
    how = "the report holds live markup" if pages else "a bug" if is_a_bug(answer) else ""
    world.done(folder)
    yield Trial("canaries: code", "a run's name is HTML", how or "did not run", survived=not how)


WEIGHTS = "runs/t/adapter/adapter_model.safetensors"


def _overwrite(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def _own_student(world: World, folder: Path) -> Path:
    """A copy of the student in a trial folder, which its config names."""
    student = Path(shutil.copytree(world.student, folder / "student"))
    config = yaml.safe_load((folder / "mint.yaml").read_text())
    config["student"]["model"] = str(student)
    (folder / "mint.yaml").write_text(yaml.safe_dump(config))
    return student


def _claim(run: Path, stage: str, name: str) -> None:
    """Writes a file's digest into a manifest, as somebody would who wants it used."""
    place = run / "stages" / f"{stage}.json"
    manifest = json.loads(place.read_text())
    manifest["files"][name] = digest_of_path(run / name)
    place.write_text(json.dumps(manifest))


def _ran(
    world: World, case: str, command: tuple[str, ...], template: Path | None, plant: Callable[[Path], None]
) -> Trial:
    """Whether planted code ran; what the command says of it does not matter, but for errors that nobody foresaw."""
    folder = world.folder(template)
    if command == PREDICT:
        for path in folder.glob("*answers*"):
            path.unlink()
    plant(folder)
    answer = world.forks.call(folder, command)
    how = "it ran" if list(folder.rglob(CODE)) else ""
    if not how and is_a_bug(answer):
        how = f"did not run, but exit {answer.code}: {answer.told}"
    world.done(folder)
    return Trial("canaries: code", case, how or "did not run", survived=not how)


# --- formulas


def _formulas(world: World) -> Iterator[Trial]:
    """Ids that a spreadsheet would take for formulas, in `mint predict --output x.csv`."""
    folder = world.folder(world.ran)
    notes = [{"id": f"{formula}", "text": f"{CANARY} of note {n}"} for n, formula in enumerate(FORMULAS)]
    (folder / "notes.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))
    command = tuple("answers.csv" if part == "answers.jsonl" else part for part in PREDICT)
    answer = world.forks.call(folder, (*command, "--on-error", "skip"))
    place = folder / "answers.csv"
    if not place.exists():
        yield Trial("canaries: formulas", "all", f"exit {answer.code}: {answer.told}", survived=False)
        return
    with place.open(encoding="utf-8", newline="") as stream:
        cells = [row[0] for row in csv.reader(stream)][1:]
    if len(cells) != len(FORMULAS):
        yield Trial("canaries: formulas", "all", f"{len(cells)} rows of {len(FORMULAS)}", survived=False)
    for formula, cell in zip(FORMULAS, cells, strict=False):
        live = cell.strip(_STRIPPED)[:1] in tuple("=+-@\uff1d\uff0b\uff0d\uff20")
        how = f"comes out as {cell!r}" if live else "came out as text"
        yield Trial("canaries: formulas", repr(formula), how, survived=not live)
    world.done(folder)


# --- patients' words


def _words(world: World) -> Iterator[Trial]:
    """Commands that end well or badly, with texts of patients that stand nowhere else."""
    broken = json.dumps({"id": "n0", "broken": f"{CANARY} of note 0"}) + "\n" + '{"id": "n1", "text": "' + WORDS[1]
    scenarios: list[tuple[str, Path | None, tuple[str, ...], Callable[[Path], None] | None, str | None]] = [
        ("mint run", None, RUN, None, None),
        ("mint compare", None, COMPARE, None, None),
        ("mint predict", world.ran, PREDICT, None, None),
        ("mint run --debug", None, ("--debug", *RUN), None, None),
        ("a loss that is not finite", None, ("--debug", *RUN, "--set", "aligner.learning_rate=1e30"), None, None),
        ("a teacher that breaks its contract", None, ("--debug", *RUN, "--set", "teacher.fail=true"), None, None),
        ("a text that is too long", None, ("--debug", *RUN, "--set", f"task.secret={'x ' * 3000}{CANARY}"), None, None),
        ("a student that cannot be loaded", None, ("--debug", *RUN, "--student", "nowhere"), None, None),
        ("lines that cannot be read", world.ran, ("--debug", *PREDICT), _overwrite("notes.jsonl", broken.encode()),
         None),
        ("a server that answers with the request", world.ran, ("--debug", *PREDICT), None, "echo"),
        ("a server that refuses with the request", world.ran, ("--debug", *PREDICT), None, "refuse"),
        ("a server that is broken", world.ran, ("--debug", *PREDICT), None, "break"),
    ]  # fmt: skip
    for case, template, command, plant, server in scenarios:
        folder = world.folder(template)
        if plant is not None:
            plant(folder)
        answer = _call(world, folder, command, server)
        found = _where(folder, answer, WORDS, but=("mint.yaml", "compare.yaml", "notes.jsonl"))
        world.done(folder)
        yield _told("canaries: patients' words", case, found, answer)


def _keys(world: World) -> Iterator[Trial]:
    """A key in the environment, with servers that say it back; last, one in the address."""
    for server in ("list", "echo", "refuse", "break", "address"):
        for debug in ((), ("--debug",)):
            folder = world.folder(world.ran)
            answer = _call(world, folder, (*debug, *PREDICT), server)
            case = f"mint {' '.join((*debug, 'predict'))}, a server that says: {server}"
            yield _told("canaries: keys", case, _where(folder, answer, (KEY,)), answer)
            world.done(folder)
        folder = world.folder()
        answer = _call(world, folder, ("--debug", *RUN, "--aligner", "none"), server)
        yield _told("canaries: keys", f"mint run, a server that says: {server}", _where(folder, answer, (KEY,)), answer)
        world.done(folder)


def _told(kind: str, case: str, found: list[str], answer: Answer) -> Trial:
    how = f"found in {', '.join(found)}" if found else ""
    if not how and "Unexpected " in answer.err:
        how = f"not found, but exit {answer.code}: {answer.told}"
    return Trial(kind, case, how or "not found", survived=not how)


def _where(folder: Path, answer: Answer, secrets: tuple[str, ...], but: tuple[str, ...] = ()) -> list[str]:
    """Which files and streams hold a secret."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in but and any(secret.encode() in path.read_bytes() for secret in secrets):
            found.append(name)
    streams = {"stdout": answer.out, "stderr": answer.err}
    return [*found, *(name for name, text in streams.items() if any(secret in text for secret in secrets))]


def _call(world: World, folder: Path, command: tuple[str, ...], server: str | None) -> Answer:
    if server is None:
        return world.forks.call(folder, command)
    return world.forks.call(
        folder,
        function="tests.robustness.canaries:ask",
        arguments=[list(command), server],
        environment={"MINT_API_KEY": KEY},
    )


def ask(command: list[str], kind: str) -> None:
    """Gives a command with a server beside it; runs in a child."""
    from mint_core.answering import endpoint
    from mint_core.cli import main
    from tests.servers import LIST, Server, says

    endpoint.FIRST_WAIT = 0.001

    def answer(request: Any) -> tuple[int, str]:
        told = json.dumps({"error": {"message": f"{server.keys[-1]} {json.dumps(request)}"}})
        return {
            "list": says(LIST),
            "address": says(LIST),
            "echo": (200, told),
            "refuse": (401, told),
            "break": (500, told),
        }[kind]

    server = Server(answer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"{server.url}?key={KEY}" if kind == "address" else server.url
    if "predict" in command:
        options = ["--endpoint", url, "--model", "m", "--retries", "1"]
        command = [part for part in command if part not in ("--decode", "score", "--device", "cpu")]
    else:
        section = {"engine": "endpoint", "decode": "free", "endpoint.url": url, "endpoint.model": "m"}
        options = [part for key, value in section.items() for part in ("--set", f"predict.{key}={value}")]
    main([*command, *options])
