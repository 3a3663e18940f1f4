"""`mint predict`: answers for new samples, from an adapter or an endpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from mint_core.cli.run import gather
from mint_core.errors import ConfigError, PartialError

if TYPE_CHECKING:
    from mint_core.answering.endpoint import EndpointOptions
    from mint_core.answering.formats import Format
    from mint_core.answering.output import Output
    from mint_core.answering.predict import Answer, Summary
    from mint_core.answering.setting import Setting
    from mint_core.cli.progress import Terminal
    from mint_core.config import PredictConfig

_PATH = click.Path(path_type=Path)
_NO_RETRIEVER = "--{option}: passages are counted with the student's tokenizer; retrieval does not go with --endpoint."


@click.command()
@click.option("--adapter", type=_PATH, metavar="DIR", help="The adapter/ folder of a run: task, labels and student.")
@click.option("--input", "place", type=_PATH, required=True, help="The new samples: a file or a folder.")
@click.option("--output", type=_PATH, help="FILE.jsonl or FILE.csv, continued where it exists. [default: stdout]")
@click.option(
    "--decode",
    type=click.Choice(["free", "score", "constrained"]),
    default="free",
    show_default=True,
    help="free = the student writes; score = every label by likelihood; constrained = it writes known labels only.",
)
@click.option("--top", type=click.IntRange(1), help="score: labels to list; beyond their number all. [default: N]")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), help="score: abstain where the best label's probability is below it."
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
@click.option("--student", help="Where the adapter's student lies now: Hugging Face id or folder.")
@click.option("--retriever", help="What puts passages into the prompt.")
@click.option(
    "--fuse",
    type=click.Choice(["none", "rrf", "weighted"]),
    help="Combine the student's ranking with the retriever's (retrieval.fuse); weighted needs retrieval.weight.",
)
@click.option("--device", help="auto, cpu, cuda, cuda:1, mps.")
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
@click.option(
    "--api-key-env", default="MINT_API_KEY", show_default=True, help="Endpoint: environment variable with the key."
)
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=120.0, show_default=True, help="Endpoint: seconds."
)
@click.option("--retries", type=click.IntRange(0), default=4, show_default=True, help="Endpoint: further attempts.")
@click.option("--parallel", type=click.IntRange(1), default=4, show_default=True, help="Endpoint: requests at a time.")
@click.option("--request", multiple=True, metavar="KEY=VALUE", help="Endpoint: a further field; null takes one out.")
@click.option("--config", "-c", "config_file", type=_PATH, help="Endpoint without an adapter: the task's config.")
@click.option("--task", help="Endpoint without an adapter: what to predict.")
@click.option("--source", help="Endpoint without an adapter: data source that names the labels (task.source).")
@click.option("--data", type=_PATH, help="Endpoint without an adapter: its file or folder (task.data).")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=C",
    help="Override one key; may be repeated.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
def predict(**given: Any) -> None:
    """Predict for new samples without labels, line by line; the same command again goes on.

    \b
    mint predict --adapter runs/NAME/adapter --input notes.jsonl --output answers.jsonl
    mint predict --adapter runs/NAME/adapter --input patches/ --decode score --threshold 0.3 --output answers.csv
    mint predict --adapter runs/NAME/adapter --input notes.jsonl --engine vllm --output answers.jsonl
    mint predict --endpoint http://localhost:8000/v1 --model NAME --adapter runs/NAME/adapter --input notes.csv

    The stage of a run is `mint run --until predict`. docs/predict.md tells formats and fields.
    """  # noqa: D301 - click wants the backspace itself
    from mint_core.cli.progress import Terminal

    _check(given)
    stdout = sys.stdout  # the progress bar puts a stream of its own in its place
    with Terminal(quiet=given["quiet"]) as terminal, _closed_pipe(stdout):
        summary = _predict(given, stdout, terminal)
    _conclude(summary, given["output"], terminal)


def _check(given: dict[str, Any]) -> None:
    """What can be refused before anything is imported or read."""
    if given["adapter"] is None and given["endpoint"] is None:
        raise ConfigError(
            "`mint predict` answers for new samples: give --adapter DIR or --endpoint URL. The stage of a run is "
            "`mint run --until predict`."
        )
    _check_engine(given)
    scored = given["decode"] == "score"
    for option in ("top", "threshold"):
        if given[option] is not None and not scored:
            raise ConfigError(f"--{option} needs the labels' probabilities; add --decode score.")
    for option in ("config_file", "task", "source", "data"):
        if given["adapter"] is not None and given[option] is not None:
            name = option.removesuffix("_file")
            raise ConfigError(f"The adapter knows its task; leave --{name} out, and change options with --set.")
    if given["endpoint"] is None:
        if given["model"] is not None:
            raise ConfigError("--model names a model of an --endpoint; the student on this machine is --student.")
        return
    if given["model"] is None:
        raise ConfigError("--endpoint needs --model NAME, the model's name on that server.")
    if given["decode"] != "free":
        raise ConfigError(f"An endpoint writes freely; --decode {given['decode']} needs the student on this machine.")
    for option in ("retriever", "fuse"):
        if given[option] is not None:
            raise ConfigError(_NO_RETRIEVER.format(option=option))


def _check_engine(given: dict[str, Any]) -> None:
    if given["engine"] is not None and given["endpoint"] is not None:
        raise ConfigError("--engine is for a student on this machine, and --endpoint asks a server; leave one out.")
    if given["engine"] != "vllm":
        if given["vllm"]:
            raise ConfigError("--vllm sets an option of vLLM's engine; add --engine vllm.")
        return
    if given["decode"] != "free":
        raise ConfigError(f"vLLM writes freely; --decode {given['decode']} needs --engine transformers.")
    from mint_core.answering.vllm import check_options

    check_options(_vllm_options(given))


def _vllm_options(given: dict[str, Any]) -> dict[str, Any]:
    from mint_core.config import merge, parse_override

    return merge(*(parse_override(option) for option in given["vllm"]))


def _check_retrieval(given: dict[str, Any], setting: Setting) -> None:
    if given["endpoint"] is not None and setting.retriever is not None:
        raise ConfigError(_NO_RETRIEVER.format(option="set retriever"))
    fuse = setting.retrieval.fuse
    if fuse == "weighted" and given["decode"] != "score":
        raise ConfigError("--fuse weighted weighs the scores of all labels; add --decode score, or use --fuse rrf.")
    if fuse == "rrf" and given["threshold"] is not None:
        raise ConfigError("--threshold needs probabilities, and reciprocal ranks are none; use --fuse weighted.")


@contextmanager
def _closed_pipe(stdout: TextIO) -> Iterator[None]:
    """A reader such as `head` that has seen enough is no error."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # Python flushes once more when it ends
        sys.exit(0)


def _predict(given: dict[str, Any], stdout: TextIO, terminal: Terminal) -> Summary:
    from mint_core.answering.endpoint import Endpoint
    from mint_core.answering.output import Stdout
    from mint_core.answering.predict import Job, predict
    from mint_core.observer import Observer

    setting = _setting(given)
    _check_retrieval(given, setting)
    if setting.simulated:
        terminal.message("The adapter was trained on simulated data: it knows nothing about patients.")
    config = _predict_config(given, setting)
    listed = min(given["top"] or setting.n, len(setting.labels))
    options = _endpoint_options(given, setting, terminal) if given["endpoint"] else None
    job = Job(
        task=setting.task,
        labels=setting.labels,
        n=setting.n,
        place=given["place"],
        decode=given["decode"],
        threshold=given["threshold"],
        on_error=given["on_error"],
    )
    with ExitStack() as stack:
        if options is None:
            from mint_core.answering.local import load

            vllm = _vllm_options(given) if given["engine"] == "vllm" else None

            def answer() -> Answer:
                return load(setting, config, listed, terminal, vllm)
        else:
            endpoint = stack.enter_context(Endpoint(options, setting.task.header))

            def answer() -> Answer:
                return lambda _, prompts: endpoint.answers(prompts)

        to_screen = given["output"] is None and stdout.isatty()  # a bar would run through the answers
        output = _output(given, setting, config, listed) or Stdout(stdout, _form(given, setting, listed))
        return predict(job, output, answer, Observer() if to_screen else terminal)


def _setting(given: dict[str, Any]) -> Setting:
    from mint_core.answering.setting import from_adapter, from_config

    if given["adapter"] is None:
        options = {key: given[key] for key in ("task", "source", "data")}
        return from_config(gather(given["config_file"], given["overrides"], **options))
    options = {key: given[key] for key in ("student", "device", "retriever")}
    user = gather(None, given["overrides"], **options, fuse=given["fuse"])
    return from_adapter(given["adapter"], user, given["place"])


def _predict_config(given: dict[str, Any], setting: Setting) -> PredictConfig:
    from mint_core.answering.setting import valid
    from mint_core.answering.vllm import BATCH
    from mint_core.config import PredictConfig

    options = {key: given[key] for key in ("decode", "batch_size", "max_new_tokens") if given[key] is not None}
    batch = {"batch_size": BATCH} if given["engine"] == "vllm" else {}
    return valid(PredictConfig, {**batch, **setting.predict, **options}, "predict")


def _endpoint_options(given: dict[str, Any], setting: Setting, terminal: Terminal) -> EndpointOptions:
    """Which server; nothing leaves this machine unless the user has said so."""
    from mint_core.answering.endpoint import EndpointOptions, checked_url, is_local, shown, token_limit
    from mint_core.config import parse_override

    url = given["endpoint"]
    where = shown(checked_url(url))
    if not is_local(url):
        what = "texts" if setting.task.modality == "text" else "images"
        if not given["send_text"]:
            raise ConfigError(
                f"{where} is another machine: patients' {what} would be sent there; add --send-text if you may do that."
            )
        plain = ", unencrypted" if url.startswith("http:") else ""
        terminal.message(f"Patients' {what} leave this machine: they are sent to {where}{plain}.")
    request: dict[str, Any] = {}
    for field in given["request"]:
        request |= parse_override(field)
    return EndpointOptions(
        url=url,
        model=given["model"],
        key=os.environ.get(given["api_key_env"], "").strip() or None,
        key_name=given["api_key_env"],
        timeout=given["timeout"],
        retries=given["retries"],
        parallel=given["parallel"],
        max_tokens=given["max_new_tokens"] or token_limit(setting.task.header, setting.labels, setting.n),
        request=request,
    )


def _output(given: dict[str, Any], setting: Setting, config: PredictConfig, listed: int) -> Output | None:
    """The file that --output names, or None."""
    from mint_core.answering.output import Output

    path: Path | None = given["output"]
    if path is None:
        return None
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise ConfigError(f"--output takes a file that ends in .jsonl or .csv, not {path.name}.")
    return Output(path, _form(given, setting, listed), _settings(given, setting, config))


def _form(given: dict[str, Any], setting: Setting, listed: int) -> Format:
    from mint_core.answering.formats import Csv, JsonLines

    path: Path | None = given["output"]
    extra = {
        "response": given["response"],
        "echo": given["echo_text"],
        "passages": setting.retriever is not None,
    }
    if path is not None and path.suffix.lower() == ".csv":
        scored = given["decode"] == "score" and setting.retrieval.fuse != "rrf"
        return Csv(width=listed, scored=scored, **extra)
    return JsonLines(**extra)


def _settings(given: dict[str, Any], setting: Setting, config: PredictConfig) -> dict[str, Any]:
    """What decides the outcomes; an output that other settings made is not continued."""
    from mint_core.answering.endpoint import checked_url, shown
    from mint_core.files import digest_of_path

    asked = ("top", "threshold", "response", "echo_text")
    options = setting.task.config.model_dump(mode="json", exclude={"data"})
    return {
        "adapter": digest_of_path(setting.adapter) if setting.adapter else None,
        "student": setting.student.model if setting.student and not given["endpoint"] else None,
        **({"engine": ["vllm", _vllm_options(given)]} if given["engine"] == "vllm" else {}),
        "endpoint": shown(checked_url(given["endpoint"])) if given["endpoint"] else None,
        "model": given["model"],
        "request": list(given["request"]),
        "retriever": _retriever_record(setting),
        "task": {"name": setting.task.name, "version": setting.task.version, **options},
        "input": given["place"].resolve().name.encode("utf-8", "replace").decode(),
        **{key: given[key] for key in asked},
        **config.model_dump(mode="json", exclude={"batch_size", "base", "shuffled"}),
    }


def _retriever_record(setting: Setting) -> dict[str, Any] | None:
    one = setting.retriever
    if one is None:
        return None
    config = one.config.model_dump(mode="json")
    about = {"name": one.name, "version": one.version, "knowledge": one.fingerprint(one.config)}
    return {**about, "options": config, **setting.retrieval.model_dump(mode="json")}


def _conclude(summary: Summary, output: Path | None, terminal: Terminal) -> None:
    for fact, count in summary.facts.items():
        if count:
            terminal.message(f"{fact}: {count}")
    parts = [f"{summary.samples} samples", f"{summary.answered} answered"]
    counts = {"there already": summary.already, "abstained": summary.abstained, "failed": summary.failed}
    parts += [f"{count} {what}" for what, count in counts.items() if count]
    terminal.message(", ".join(parts) + (f": {output}" if output else ""))
    if summary.failed:
        again = ", and the same command tries them again" if output else ""
        raise PartialError(
            f"{summary.failed} of {summary.samples} samples failed; `error` in their lines says why{again}."
        )
