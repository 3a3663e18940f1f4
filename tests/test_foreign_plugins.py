"""Whatever the code of a plugin does, mint ends as documented and says whose fault it is."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mint_core import cli, guard
from mint_core.errors import ContractError, DataError
from mint_core.interfaces import Aligner, Context
from mint_core.plugins import SEAMS, registry
from mint_core.types import LabelSpace, Sample

TOY = (Path(__file__).parent / "toy_plugin.py").read_text(encoding="utf-8")
WORDS = "Anna Meyer, born 1970"
RAISES = {
    "RuntimeError": f'raise RuntimeError("{WORDS}")',
    "SystemExit": "raise SystemExit(0)",
    "sys.exit": "import sys; sys.exit()",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "GeneratorExit": "raise type('Odd', (BaseException,), {})()",
    "FileNotFoundError": "open('/nowhere/at/all')",
    "RecursionError": "f = lambda: f(); f()",
    "StopIteration": "raise StopIteration",
    "own __str__": "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()",
}


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Whoever starts the tests in the background makes them deaf to it, and every process that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("code", RAISES.values(), ids=RAISES)
def test_what_an_import_raises_is_named_and_the_others_work(install_plugin, mint, code: str) -> None:
    install_plugin("mint-mischief", "mischief_at_import", code)
    answer = mint("plugins", "--json")
    assert answer.code == 3
    assert [one["distribution"] for one in json.loads(answer.out)["broken"]] == ["mint-mischief"]
    assert "mint-mischief" in answer.err and "Traceback" not in answer.err
    assert registry().names("aligner")


@pytest.mark.parametrize("place", ["at import", "in the hook"])
def test_what_a_plugin_prints_does_not_stand_on_stdout(install_plugin, capfd, place: str) -> None:
    noise = 'import os; print("python prints"); os.write(1, b"so does C\\n"); os.system("echo a child too")'
    code = TOY + f"\n{noise}\n" if place == "at import" else TOY.replace("return [Toy]", f"{noise}; return [Toy]")
    install_plugin("mint-toy", "prints", code)
    with pytest.raises(SystemExit):
        from mint_core.cli import main

        main(["plugins", "--json"])
    said = capfd.readouterr()
    assert any(one["component"] == "toy" for one in json.loads(said.out)["components"])
    assert all(words in said.err for words in ("python prints", "so does C", "a child too"))


CALLS = {
    "construction": ("    def log_probs(self, samples):\n", "    def __init__(self, *a):\n        {}\n"),
    "fit": ("    def log_probs(self, samples):\n", "    def fit(self, samples):\n        {}\n"),
    "log_probs": ("        rows = np.random", "        {}\n"),
    "describe": ("    def log_probs(self, samples):\n", "    def describe(self):\n        {}\n"),
    "load": ('        if self.config.source == "file":\n', "        {}\n"),
    "fingerprint": (
        "    def log_probs(self, samples):\n",
        "    @classmethod\n    def fingerprint(cls, config):\n        {}\n",
    ),
}


@pytest.mark.parametrize("place", CALLS)
@pytest.mark.parametrize("kind", ["RuntimeError", "SystemExit", "KeyboardInterrupt", "FileNotFoundError"])
def test_what_a_call_raises_is_exit_code_5_with_the_names(
    install_plugin, mint, tmp_path, place: str, kind: str
) -> None:
    anchor, code = CALLS[place]
    changed = TOY.replace(anchor, code.format(RAISES[kind]) + anchor, 1)
    assert changed != TOY
    install_plugin("mint-strange", "strange_plugin", changed)
    given = ["run", "--task", "toy", "--metric", "top-1", "--until", "label", "--out", tmp_path, "--aligner", "none"]
    given += ["--student", tmp_path]
    answer = mint(*given)
    assert answer.code == 5, answer.err
    assert all(words in answer.err for words in ("mint-strange", kind)), answer.err
    assert ("task 'toy'" if place == "load" else "teacher 'oracle'") in answer.err
    assert WORDS not in answer.out + answer.err
    assert len(answer.err.strip().splitlines()[-1]) < 300
    if kind == "RuntimeError":
        assert WORDS in mint(*given, "--debug").err


def _made(kind: str, name: str, **context: object):
    labels = LabelSpace(("Adrenal gland", "Bile duct", "Colon", "Kidney", "Liver", "Skin"))
    return registry().get(kind, name).make(None, Context(labels=labels, **context))


WRONG = {
    "describe as a list": ("describe(self)", "[1]"),
    "describe with an object": ("describe(self)", "{'a': object()}"),
    "describe with numbers as keys": ("describe(self)", "{1: 2}"),
    "describe of bytes": ("describe(self)", "{'a': b'x'}"),
    "log_probs as a list": ("log_probs(self, samples)", "[[0.0] * 6] * len(samples)"),
    "log_probs of texts": ("log_probs(self, samples)", "np.array([['a']])"),
    "log_probs as nothing": ("log_probs(self, samples)", "None"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_record_of_a_wrong_type_is_refused(install_plugin, case: str) -> None:
    signature, value = WRONG[case]
    source = TOY + f"\n\nclass Wrong(Oracle):\n    name = 'wrong'\n    def {signature}:\n        return {value}\n"
    source = source.replace("return [Oracle]", "return [Oracle, Wrong]")
    install_plugin("mint-wrong", "wrong_types", source)
    teacher = _made("teacher", "wrong")
    call = (lambda: teacher.log_probs([])) if "log_probs" in signature else teacher.describe
    with pytest.raises(ContractError, match=r"teacher 'wrong' of mint-wrong returned .* which must return"):
        call()


CLASSES = {
    "modality": ('modality = "text"', 'modality = "both"', "= 'both', which must be `text` or `image`"),
    "no header": (
        '    header = "MOST_LIKELY_TISSUE:"\n',
        "",
        "has no `header`, which must be one line that ends with a colon",
    ),
    "header": ("TISSUE:", "TISSUE", "which must be one line that ends with a colon"),
    "default_teacher": (
        '    default_teacher = "oracle"\n',
        "",
        "has no `default_teacher`, which must be a teacher's name",
    ),
    "sources": ('("simulated", "file")', '"simulated"', "= 'simulated', which must be a tuple of names"),
    "no sources": ('("simulated", "file")', "()", "of one at least"),
    "version": ('name = "toy"', 'name = "toy"\n    version = 2', "`version` = 2, which must be a text"),
    "tasks": (
        'name = "oracle"',
        'name = "oracle"\n    tasks = "toy"',
        "`tasks` = 'toy', which must be a tuple of names",
    ),
    "reads": (
        'name = "oracle"',
        'name = "oracle"\n    reads = ("sound",)',
        "which must be a tuple of `text` or `image`",
    ),
    "another kind": ('name = "oracle"', 'name = "oracle"\n    kind = "task"', "Oracle.kind must stay 'teacher'"),
}


@pytest.mark.parametrize("case", CLASSES)
def test_what_a_class_says_of_itself_is_checked_when_it_is_loaded(install_plugin, mint, tmp_path, case: str) -> None:
    good, bad, words = CLASSES[case]
    assert good in TOY
    install_plugin("mint-odd", "odd_class", TOY.replace(good, bad, 1))
    answer = mint("run", "--task", "toy", "--teacher", "oracle", "--out", tmp_path / "runs")
    assert answer.code == 3
    sentence = answer.err.strip()
    kind = "teacher" if 'name = "oracle"' in good else "task"
    assert sentence.startswith(f"mint: mint-odd cannot be used: the {kind} ") and words in sentence, sentence
    assert "\n" not in sentence and len(sentence) < 300
    assert not (tmp_path / "runs").exists()


FIRST_CALLS = {
    "training_prompt": ("str", "def training_prompt(self, sample: Sample, n: int) -> Prompt:", "return 'Name them.'"),
    "inference_prompt": (
        "Prompt",
        "def inference_prompt(self, sample: Sample, n: int) -> Prompt:",
        "return Prompt(('Name them.',))",
    ),
    "retrieve": ("list", "def retrieve(self, samples):", "return ['passage']"),
}


@pytest.mark.parametrize("method", FIRST_CALLS)
def test_what_later_stages_call_is_tried_before_the_first(install_plugin, mint, tmp_path, method: str) -> None:
    returned, signature, code = FIRST_CALLS[method]
    assert signature in TOY
    install_plugin("mint-odd", "odd_calls", TOY.replace(signature, f"{signature}\n        {code}", 1))
    given = [
        "run",
        "--task",
        "toy",
        "--metric",
        "top-1",
        "--out",
        tmp_path / "runs",
        "--name",
        "x",
        "--aligner",
        "none",
    ]
    answer = mint(*given, "--retriever", "echo", "--student", tmp_path)
    assert answer.code == 5, answer.err
    assert f"of mint-odd returned {returned} from {method}, which must return " in answer.err
    assert not (tmp_path / "runs" / "x" / "rankings").exists()


def test_log_probs_of_another_type_are_refused_with_what_they_are(install_plugin) -> None:
    install_plugin("mint-wide", "wide_rows", TOY.replace("rows.astype(np.float32)", "rows"))
    with pytest.raises(
        ContractError, match=r"oracle' of mint-wide returned ndarray of float64 and shape \(1, 6\) from"
    ):
        _made("teacher", "oracle").log_probs([Sample("p0", "train", "Colon", text="a")])


def test_log_probs_that_are_no_logarithms_are_told_as_such(install_plugin, mint, tmp_path) -> None:
    install_plugin("mint-odd", "odd_rows", TOY.replace("rows.astype(np.float32)", "np.exp(rows).astype(np.float32)"))
    given = ["run", "--task", "toy", "--metric", "top-1", "--until", "label", "--out", tmp_path, "--aligner", "none"]
    answer = mint(*given, "--student", tmp_path)
    assert answer.code == 5
    assert "The teacher 'oracle' of mint-odd returned a row whose exponentials add up to " in answer.err
    assert "must return natural logarithms" in answer.err


def test_every_method_that_returns_something_has_a_rule_for_it() -> None:
    nothing = {"extract", "fit", "build", "check", "check_installed", "publish"}
    items = {"read_inputs", "labels", "n"}
    public = {
        name
        for _, seam in SEAMS.values()
        for name in dir(seam)
        if not name.startswith("_") and (callable(getattr(seam, name)) or isinstance(getattr(seam, name), property))
    }
    assert len(public) > 25
    assert public - {"Config"} - nothing - items <= set(guard._RETURNS)


def test_a_record_that_holds_itself_is_refused(install_plugin) -> None:
    source = TOY + "\n\nclass Round(Oracle):\n    name = 'round'\n    def describe(self):\n"
    source += "        a = {}\n        a['a'] = a\n        return a\n"
    install_plugin("mint-round", "round_record", source.replace("return [Oracle]", "return [Oracle, Round]"))
    with pytest.raises(ContractError, match="describe"):
        _made("teacher", "round").describe()


def test_new_samples_are_read_under_guard_one_by_one(install_plugin, tmp_path) -> None:
    """A generator raises where it is read, not where it is called; wrong items are refused."""
    odd = TOY + "\n\nclass Odd(Toy):\n    name = 'odd'\n    def read_inputs(self, place, facts):\n"
    odd += "        yield Sample('a', 'test', text='t')\n        {}\n"
    odd = odd.replace("return [Toy]", "return [Toy, Odd]")
    for number, (code, words) in enumerate(
        {"yield 3": "returned int from read_inputs", "raise SystemExit(0)": "failed in read_inputs"}.items()
    ):
        install_plugin(
            f"mint-odd{number}", f"odd_reader{number}", odd.replace("{}", code).replace("'odd'", f"'odd{number}'")
        )
        items = registry()._found[("task", f"odd{number}")][0].make().read_inputs(tmp_path, {})
        assert next(items).id == "a"
        with pytest.raises(ContractError, match=words):
            next(items)


def test_errors_of_mint_and_full_disks_pass(install_plugin) -> None:
    owner = guard.Owner("teacher 'x'", "mint-x")
    for error in (DataError("no"), OSError(28, "No space left"), MemoryError(), RuntimeError("CUDA out of memory")):
        with pytest.raises(type(error)) as caught, guard.guarded(owner, "fit"):
            raise error
        assert caught.value is error


def test_a_guarded_component_is_still_what_it_was(install_plugin) -> None:
    install_plugin("mint-toy", "toy_for_guard", TOY)
    teacher, raw = _made("teacher", "oracle"), registry().get("teacher", "oracle").component
    assert isinstance(teacher, raw) and type(teacher).__name__ == raw.__name__
    samples = [Sample("p0", "train", "Colon", text="a")]
    assert np.array_equal(teacher.log_probs(samples), raw(None, teacher.context).log_probs(samples))
    assert type(pickle.loads(pickle.dumps(teacher))) is raw  # noqa: S301 - made here
    aligner = registry().get("aligner", "trl-sft").make()
    shortened = aligner.shortened(1)
    assert isinstance(shortened, Aligner) and type(shortened) is type(aligner)


SLEEPS = TOY.replace(
    "        rows = np.random",
    """        import os, pathlib, time
        pathlib.Path(os.environ["READY"]).touch()
        {}
        rows = np.random""",
    1,
)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    "wait",
    ["time.sleep(60)", "\n        try: time.sleep(60)\n        except BaseException: pass",
     "\n        try: time.sleep(60)\n        except BaseException: raise SystemExit(0)"],
    ids=["plain", "swallowed", "turned into an exit"],
)  # fmt: skip
def test_ctrl_c_of_the_user_stays_an_interrupt(install_plugin, tmp_path: Path, wait: str) -> None:
    install_plugin("mint-sleeps", "sleeps", SLEEPS.replace("{}", wait))
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "READY": str(tmp_path / "ready"),
    }
    given = ["--task", "toy", "--metric", "top-1", "--until", "label", "--aligner", "none", "--student", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "mint_core", "run", *given, "--out", str(tmp_path / "runs")],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _wait_for(lambda: (tmp_path / "ready").exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, "Interrupted." in said) == (130, True), said


def _wait_for(there: Callable[[], bool]) -> None:
    import time

    for _ in range(1200):
        if there():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened for a minute")


def test_what_an_observer_raises_is_not_the_plugins_fault(install_plugin) -> None:
    """Progress is told from within the plugin's code."""
    install_plugin("mint-toy", "toy_observed", TOY)

    def listener(_: int) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        _made("teacher", "oracle", advance=listener).log_probs([Sample("p0", "train", "Colon", text="a")])


def test_attributes_that_are_computed_are_guarded(install_plugin) -> None:
    source = TOY + "\n\nfrom functools import cached_property\n\nclass Lazy(Toy):\n    name = 'lazy'\n"
    source += "    @property\n    def header(self):\n        raise SystemExit(0)\n"
    source += "    @cached_property\n    def modality(self):\n        return 'text'\n"
    install_plugin("mint-lazy", "lazy_task", source.replace("return [Toy]", "return [Toy, Lazy]"))
    task = registry().get("task", "lazy").make()
    assert (task.modality, task.modality) == ("text", "text")
    with pytest.raises(ContractError, match=r"task 'lazy' of mint-lazy failed in header \(SystemExit\)"):
        _ = task.header


@pytest.mark.parametrize("kind", ["RuntimeError", "SystemExit"])
def test_an_image_of_a_plugin_that_fails_is_the_plugins_fault(install_plugin, mint, monkeypatch, kind: str) -> None:
    """It is opened by mint, where no method of a component is called."""
    source = TOY + "\n\nfrom mint_core.types import ImageRef\n\n\nclass Broken(ImageRef):\n    key = 'k'\n"
    install_plugin("mint-shown", "shown_images", source + f"    def open(self):\n        {RAISES[kind]}\n")
    import shown_images

    monkeypatch.setattr(cli.cli, "main", lambda **_: shown_images.Broken().open())
    answer = mint("doctor")
    assert answer.code == 5
    assert "mint-shown" in answer.err and kind in answer.err and WORDS not in answer.err
