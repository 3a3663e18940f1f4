"""`mint predict`: answers for new samples, from an adapter or an endpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from mint_core.cli.choices import component_option, source_option, word_option
from mint_core.cli.run import DEVICES, Finite, gather, quiet_option
from mint_core.errors import ConfigError, PartialError
from mint_core.files import access

if TYPE_CHECKING:
    from mint_core.answering.confidence import Threshold
    from mint_core.answering.formats import Format
    from mint_core.answering.new_samples import Ask, Summary
    from mint_core.answering.output import Output
    from mint_core.answering.setting import Setting
    from mint_core.cli.progress import Terminal

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--adapter", type=_PATH, metavar="DIR", help="The adapter/ folder of a run: task, labels and student.")
@click.option(
    "--input",
    "place",
    type=_PATH,
    required=True,
    help="The new samples: a file, a folder, or - for JSON lines or CSV on standard input.",
)
@click.option(
    "--output", type=_PATH, help="FILE.jsonl, FILE.csv or FILE.html, continued where it exists. [default: stdout]"
)
@click.option(
    "--decode",
    type=click.Choice(["free", "score", "constrained"]),
    help="free = the student writes; score = every label by likelihood; constrained = it writes known labels only. "
    "[default: free; with an embedded student on your own labels constrained]",
)
@click.option("--top", type=click.IntRange(1), help="score: labels to list; beyond their number all. [default: N]")
@click.option("--threshold", type=Finite(0, 1), help="score: abstain where the best label's probability is below it.")
@click.option(
    "--target-precision",
    type=Finite(0, 1, min_open=True),
    help='score: say "not sure" where less sure than the val split needed for this share of right answers, as 0.9.',
)
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="A sample that cannot be read or answered: stop, or write why and go on.",
)
@click.option("--response", is_flag=True, help="Also write what the student wrote.")
@click.option("--echo-text", is_flag=True, help="Also write the text that the student read: patients' text.")
@click.option("--allow-changed", is_flag=True, help="Use an adapter whose files are not as its training left them.")
@click.option("--student", help="Where the adapter's student lies now: Hugging Face id, folder or GGUF file.")
@component_option("--retriever", kind="retriever", help="What puts passages into the prompt.")
@click.option(
    "--fuse",
    type=click.Choice(["none", "rrf", "weighted"]),
    help="Combine the student's ranking with the retriever's (retrieval.fuse); weighted needs retrieval.weight.",
)
@word_option("--device", words=DEVICES, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--batch-size", type=click.IntRange(1), help="Prompts per batch. [default: 32; with vllm 512]")
@click.option("--max-new-tokens", type=click.IntRange(1), help="Length limit of a response. [default: by the labels]")
@click.option(
    "--engine",
    type=click.Choice(["transformers", "vllm"]),
    help="What writes free answers: vllm for many samples on a GPU. [default: transformers]",
)
@click.option("--vllm", multiple=True, metavar="KEY=VALUE", help="vllm: a further option of its engine.")
@click.option("--endpoint", metavar="URL", help="Ask an OpenAI-compatible server instead, as http://localhost:8000/v1.")
@click.option("--model", help="Endpoint: the model's name there.")
@click.option("--send-text", is_flag=True, help="Endpoint: allow that the samples leave this machine.")
@click.option("--api-key-env", help="Endpoint: environment variable with the key. [default: MINT_API_KEY]")
@click.option("--timeout", type=Finite(0, min_open=True), help="Endpoint: seconds. [default: 120]")
@click.option("--retries", type=click.IntRange(0), help="Endpoint: further attempts. [default: 4]")
@click.option("--parallel", type=click.IntRange(1), help="Endpoint: requests at a time. [default: 4]")
@click.option("--request", multiple=True, metavar="KEY=VALUE", help="Endpoint: a further field; null takes one out.")
@click.option("--config", "-c", "config_file", type=_PATH, help="Endpoint without an adapter: the task's config.")
@component_option("--task", kind="task", help="Endpoint without an adapter: what to predict.")
@source_option(help="Endpoint without an adapter: data source that names the labels (task.source).")
@click.option("--data", type=_PATH, help="Endpoint without an adapter: its file or folder (task.data).")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override one key; may be repeated.")
@click.option(
    "--access",
    type=click.Choice(["private", "group", "umask"]),
    default="private",
    help="Who may read the output and the cache: you alone, your group, or as the umask says [private].",
)
@click.option(
    "--out", type=_PATH, default=Path("runs"), help="Folder of the runs, in whose cache indexes are kept [runs]."
)
@quiet_option
def predict(**given: Any) -> None:
    """Predict for new samples without labels, line by line; the same command again goes on.

    \b
    mint predict --adapter runs/NAME/adapter --input notes.jsonl --output answers.jsonl
    mint predict --adapter runs/NAME/adapter --input patches/ --decode score --threshold 0.3 --output answers.csv
    mint predict --adapter runs/NAME/adapter --input - < notes.jsonl
    mint predict --adapter runs/NAME/adapter --input notes.jsonl --engine vllm --output answers.html
    mint predict --endpoint http://localhost:8000/v1 --model NAME --adapter runs/NAME/adapter --input notes.csv

    The stage of a run is `mint run --until predict`. docs/how-to/predict.md tells formats and fields.
    """  # noqa: D301 - click wants the backspace itself
    from mint_core.cli.progress import Terminal

    _check(given)
    stdout = sys.stdout  # the progress bar puts a stream of its own in its place
    with (
        _input(given),
        access(given["access"], given["out"] / ".cache"),
        Terminal(quiet=given["quiet"]) as terminal,
        _closed_pipe(stdout),
    ):
        summary = _predict(given, stdout, terminal)
    _conclude(summary, given["output"], terminal)


@contextmanager
def _input(given: dict[str, Any]) -> Iterator[None]:
    """Puts a file with what standard input holds in the place of `-`."""
    from mint_core.answering.standard_input import DASH, as_file

    given["standard_input"] = given["place"] == DASH
    with ExitStack() as stack:
        if given["standard_input"]:
            if sys.stdin is None:
                raise ConfigError("--input - reads standard input, which is closed; name a file instead.")
            given["place"] = stack.enter_context(as_file(sys.stdin.buffer))
        yield


def _check(given: dict[str, Any]) -> None:
    """What can be refused before the adapter or a sample is read."""
    if given["adapter"] is None and given["endpoint"] is None:
        raise ConfigError(
            "`mint predict` answers for new samples: give --adapter DIR or --endpoint URL. The stage of a run is "
            "`mint run --until predict`."
        )
    for option in ("config_file", "task", "source", "data"):
        if given["adapter"] is not None and given[option] is not None:
            name = option.removesuffix("_file")
            raise ConfigError(f"The adapter knows its task; leave --{name} out, and change options with --set.")
    if given["engine"] is not None and given["endpoint"] is not None:
        raise ConfigError("--engine is for a student on this machine, and --endpoint asks a server; leave one out.")
    if given["vllm"] and given["engine"] != "vllm":
        raise ConfigError("--vllm sets an option of vLLM's engine; add --engine vllm.")
    if given["endpoint"] is None and given["model"] is not None:
        raise ConfigError("--model names a model of an --endpoint; the student on this machine is --student.")
    if given["endpoint"] is not None and given["model"] is None:
        raise ConfigError("--endpoint needs --model NAME, the model's name on that server.")
    from mint_core.config import PredictConfig, check_engine, validated

    config = validated(PredictConfig, _section(given).get("predict", {}), "predict")
    check_engine(config, aligned=False)
    if config.engine == "vllm":
        from mint_core.answering.vllm import check_options

        check_options(config.vllm)


def _section(given: dict[str, Any]) -> dict[str, Any]:
    """The flags that belong to the config's section `predict`."""
    from mint_core.config import merge, parse_override

    section = {key: given[key] for key in ("decode", "batch_size", "max_new_tokens", "engine")}
    if given["vllm"]:
        section["vllm"] = merge(*map(parse_override, given["vllm"]))
    if given["endpoint"] is not None:
        server = {key: given[key] for key in ("model", "api_key_env", "timeout", "retries", "parallel")}
        request: dict[str, Any] = {}
        for field in given["request"]:
            request |= parse_override(field)
        server |= {"url": given["endpoint"], "send_text": given["send_text"] or None, "request": request or None}
        section |= {"engine": "endpoint", "endpoint": {key: v for key, v in server.items() if v is not None}}
    return {"predict": {key: value for key, value in section.items() if value is not None}}


def _setting(given: dict[str, Any]) -> Setting:
    from mint_core.answering.setting import from_adapter, from_config
    from mint_core.config import merge

    if given["adapter"] is None:
        options = {key: given[key] for key in ("task", "source", "data", "retriever", "fuse")}
        user = gather(given["config_file"], given["overrides"], **options)
        return from_config(merge(user, _section(given)), given["out"])
    options = {key: given[key] for key in ("student", "device", "retriever")}
    user = gather(None, given["overrides"], **options, fuse=given["fuse"])
    where = (given["place"], given["out"], given["top"])
    return from_adapter(given["adapter"], merge(user, _section(given)), *where, allow_changed=given["allow_changed"])


def _check_scored(given: dict[str, Any], setting: Setting) -> None:
    """Refuses options that need the labels' probabilities, where there are none."""
    for option in ("top", "threshold", "target_precision"):
        if given[option] is not None and setting.predict.decode != "score":
            raise ConfigError(f"--{option.replace('_', '-')} needs the labels' probabilities; add --decode score.")
    if setting.retrieval.fuse == "rrf" and given["threshold"] is not None:
        raise ConfigError("--threshold needs probabilities, and reciprocal ranks are none; use --fuse weighted.")


def _threshold(given: dict[str, Any], setting: Setting) -> Threshold | None:
    """What --target-precision stands for; None without it."""
    target = given["target_precision"]
    if target is None:
        return None
    from mint_core.answering.confidence import choose, how_asked
    from mint_core.answering.record import read_record

    if given["threshold"] is not None:
        raise ConfigError("--threshold and --target-precision both say when to abstain; leave one out.")
    if setting.adapter is None:
        raise ConfigError("--target-precision is chosen from an adapter's val split; name the adapter with --adapter.")
    for reason, hinders in (
        ("--fuse", setting.retrieval.fuse != "none"),
        ("predict.normalise=tokens", setting.predict.normalise != "none"),
    ):
        if hinders:
            raise ConfigError(
                f"--target-precision was measured on the student's own ranking by likelihood; leave {reason} out."
            )
    if setting.changed:
        raise ConfigError(f"{setting.changed}, so that its val split says nothing of it; leave --target-precision out.")
    passages = None
    if setting.retriever is not None:
        passages = {**setting.retriever.identity(), "tokens": setting.retrieval.tokens}
    asked = how_asked(setting.n, setting.predict, passages)
    return choose(setting.adapter, read_record(setting.adapter), target, asked)


@contextmanager
def _closed_pipe(stdout: TextIO) -> Iterator[None]:
    """A reader such as `head` that has seen enough is no error."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # Python flushes once more when it ends
        sys.exit(0)


def _predict(given: dict[str, Any], stdout: TextIO, terminal: Terminal) -> Summary:
    from mint_core.answering.asker import open_asker
    from mint_core.answering.endpoint import check_consent
    from mint_core.answering.new_samples import Job, predict
    from mint_core.answering.output import Stdout
    from mint_core.observer import Observer

    setting = _setting(given)
    if given["standard_input"] and "image" in setting.task.modality:
        raise ConfigError("--input - takes texts, and this task reads images; name a folder, or a table beside them.")
    _check_scored(given, setting)
    given["chosen"] = chosen = _threshold(given, setting)
    for caution in setting.cautions:
        terminal.message(f"The adapter was {caution}.")
    if setting.changed:
        terminal.message(f"{setting.changed}; its answers are used all the same, as --allow-changed says.")
    if setting.predict.engine == "endpoint":
        notice = check_consent(setting.predict.endpoint, setting.task.modality)
        if notice:
            terminal.message(notice)
    if chosen is not None:
        terminal.message(chosen.told())
    decode, threshold = setting.predict.decode, given["threshold"]
    sure = None if chosen is None else chosen.confidence
    job = Job(setting.task, setting.labels, given["place"], decode, threshold, given["on_error"], sure)
    with ExitStack() as stack:

        def open_ask() -> Ask:
            asker = open_asker(setting, terminal)
            stack.enter_context(asker.engine)
            return asker.answers

        to_screen = given["output"] is None and stdout.isatty()  # a bar would run through the answers
        output = _output(given, setting) or Stdout(stdout, _form(given, setting))
        return predict(job, output, open_ask, Observer() if to_screen else terminal)


def _output(given: dict[str, Any], setting: Setting) -> Output | None:
    """The file that --output names, or None."""
    from mint_core.answering.output import Output

    path: Path | None = given["output"]
    if path is None:
        return None
    if path.suffix.lower() not in (".jsonl", ".csv", ".html"):
        raise ConfigError(f"--output takes a file that ends in .jsonl, .csv or .html, not {path.name}.")
    return Output(path, _form(given, setting), _settings(given, setting))


def _form(given: dict[str, Any], setting: Setting) -> Format:
    from mint_core.answering.formats import Csv, JsonLines
    from mint_core.answering.page import Heading, HtmlPage

    path: Path | None = given["output"]
    extra = {"response": given["response"], "echo": given["echo_text"], "passages": setting.retriever is not None}
    if path is not None and path.suffix.lower() == ".csv":
        scored = setting.predict.decode == "score" and setting.retrieval.fuse != "rrf"
        return Csv(width=setting.listed, scored=scored, free=setting.predict.decode == "free", **extra)
    if path is not None and path.suffix.lower() == ".html":
        return HtmlPage(
            Heading(
                f"Predictions: {setting.task.name}",
                _how(given, setting),
                setting.cautions,
            ),
            **extra,
        )
    return JsonLines(**extra)


def _how(given: dict[str, Any], setting: Setting) -> str:
    """How the student answered, for the page."""
    how = {
        "free": "The student wrote its lists freely.",
        "constrained": "The student wrote lists, and could only write known labels.",
        "score": "Every label was scored by its likelihood. Percentages are normalised over the labels; they are not "
        "calibrated.",
    }[setting.predict.decode]
    abstained = "" if given["threshold"] is None else f" It abstains below a probability of {given['threshold']:g}."
    if given["chosen"] is not None:
        abstained = f" {given['chosen'].told()}"
    return f"{len(setting.labels)} labels, {setting.listed} listed. {how}{abstained}"


def _settings(given: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """What decides the outcomes; an output that other settings made is not continued."""
    from mint_core.config import decisive
    from mint_core.files import digest_of_adapter

    asked = ("top", "threshold", "response", "echo_text")
    options = setting.task.config.model_dump(mode="json", exclude={"data"})
    predict = decisive(setting.predict)
    local = setting.predict.engine != "endpoint"
    return {
        "adapter": digest_of_adapter(setting.adapter) if setting.adapter else None,
        "student": setting.student.model if setting.student and local else None,
        "retriever": [setting.retriever.identity(), decisive(setting.retrieval)] if setting.retriever else None,
        "task": {"name": setting.task.name, "version": setting.task.version, **options},
        "input": given["place"].resolve().name.encode("utf-8", "replace").decode(),
        **{key: given[key] for key in asked},
        **({"target_precision": [chosen.target, chosen.confidence]} if (chosen := given["chosen"]) else {}),
        **{key: value for key, value in predict.items() if key not in ("base", "shuffled")},
    }


def _conclude(summary: Summary, output: Path | None, terminal: Terminal) -> None:
    from mint_core.answering.engine import count_truncated

    for fact, count in summary.facts.items():
        if count:
            terminal.message(f"{fact}: {count}")
    parts = [f"{summary.samples} samples", f"{summary.answered} answered"]
    counts = {"there already": summary.already, "abstained": summary.abstained, "failed": summary.failed}
    parts += [f"{count} {what}" for what, count in counts.items() if count]
    terminal.message(", ".join(parts) + (f": {output}" if output else ""))
    cut = count_truncated(summary.truncated, summary.answered)
    if cut:
        terminal.message(cut)
    if summary.failed:
        again = ", and the same command tries them again" if output else ""
        raise PartialError(
            f"{summary.failed} of {summary.samples} samples failed; `error` in their lines says why{again}."
        )
