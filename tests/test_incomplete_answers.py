"""Answers that are not whole: a server's are that sample's failure, those of a student here say so."""

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mint_core
from mint_core.answering.endpoint import Endpoint
from mint_core.answering.engine import Asking
from mint_core.answering.vllm import VllmEngine, _Written
from mint_core.config import EndpointConfig, PredictConfig
from mint_core.interfaces import Unreadable
from mint_core.types import LabelSpace, Message, Prediction, Prompt
from tests.predicting import TOY, lines
from tests.servers import LIST
from tests.tiny_students import HEADER, LABELS, build

SECRET = "SECRET-PATIENT-TEXT"  # noqa: S105 - no password


def body(message: Any = None, **choice: Any) -> str:
    said = {"role": "assistant", "content": LIST} if message is None else message
    return json.dumps({"choices": [{"index": 0, "message": said, **choice}]})


def ask(serve, *script: Any, samples: int = 1, retries: int = 0, **request: Any) -> list[Any]:
    """Answers of a server, or why there is none."""
    where = EndpointConfig(url=serve(*script).url, model="m", retries=retries, request=request)
    config = PredictConfig(engine="endpoint", endpoint=where, max_new_tokens=40)
    asked = {f"p{i}": Prompt((Message("user", SECRET),)) for i in range(samples)}
    with Endpoint(Asking(LabelSpace(LABELS), HEADER, 2, 2, config)) as engine:
        return [one for some in engine.answers("base", asked) for one in some]


LIMIT = "raise predict.max_new_tokens (--max-new-tokens)"
NOT_WHOLE: dict[str, tuple[str, str]] = {
    "cut": (body(finish_reason="length"), LIMIT),
    "cut, in another word": (body(finish_reason="MAX_TOKENS"), LIMIT),
    "filtered": (body(finish_reason="content_filter"), "filter cut the answer"),
    "a tool": (body(finish_reason="tool_calls"), "calls a tool"),
    "a function": (body(finish_reason="function_call"), "calls a tool"),
    "an error": (body(finish_reason="error"), "finish_reason error"),
    "an unknown end": (body(finish_reason="sunset"), "finish_reason sunset"),
    "an end of another type": (body(finish_reason=7), "finish_reason unknown"),
    "an end in whole sentences": (body(finish_reason=f"{SECRET} was too much"), "finish_reason unknown"),
    "no end yet": (body(finish_reason=None), "finish_reason none"),
    "refused": (body({"content": LIST, "refusal": "I cannot."}, finish_reason="stop"), "refuses to answer"),
    "refused without a text": (body({"content": None, "refusal": "No."}, finish_reason="stop"), "refuses to answer"),
    "calls in a whole answer": (body({"content": LIST, "tool_calls": [{}]}, finish_reason="stop"), "calls a tool"),
    "null": (body({"content": None}, finish_reason="stop"), "holds no text"),
    "no content": (body({"role": "assistant"}, finish_reason="stop"), "holds no text"),
    "parts": (body({"content": [{"type": "text", "text": LIST}]}, finish_reason="stop"), "holds parts"),
    "a number": (body({"content": 4}, finish_reason="stop"), "instead of a text"),
    "thoughts alone": (body({"content": "", "reasoning_content": "So"}, finish_reason="stop"), LIMIT),
    "thoughts beside null": (body({"content": None, "reasoning": "So"}, finish_reason="stop"), LIMIT),
    "thoughts that were cut": (body({"content": f"<think>\n{LIST}"}, finish_reason="stop"), LIMIT),
    "no choices": ('{"choices": []}', "no chat completion"),
    "no message": ('{"choices": [{"finish_reason": "stop"}]}', "no chat completion"),
    "a message of text": ('{"choices": [{"message": "x", "finish_reason": "stop"}]}', "no chat completion"),
    "choices that are none": ('{"choices": "x"}', "no chat completion"),
    "a list": ("[]", "no chat completion"),
    "a page": (f"<!DOCTYPE html><p>{LIST}</p>", "a page and no chat completion"),
    "cut JSON": (body(finish_reason="stop")[:-9], "is no JSON"),
    "nothing": ("", "is no JSON"),
    "nested without end": ("[" * 100_000, "no"),
    "an error with 200": ('{"error": {"message": "SECRET-PATIENT-TEXT", "code": "overloaded"}}', "overloaded"),
    "an error beside an answer": (body(finish_reason="stop")[:-1] + ', "error": {"code": "busy"}}', "busy"),
    "cut by the count": (
        json.dumps({"choices": [{"message": {"content": LIST}}], "usage": {"completion_tokens": 40}}), "40 tokens"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_WHOLE)
def test_what_is_no_whole_answer_is_a_failure_with_its_reason(serve, kind: str) -> None:
    text, said = NOT_WHOLE[kind]
    (answer,) = ask(serve, (200, text))
    assert isinstance(answer, Unreadable), kind
    assert answer.id == "p0"
    assert "p0" in answer.reason
    assert said in answer.reason
    assert SECRET not in answer.reason
    assert "\n" not in answer.reason


WHOLE = {
    "stop": body(finish_reason="stop"),
    "STOP": body(finish_reason="STOP"),
    "eos_token": body(finish_reason="eos_token"),
    "a server that never says": body(),
    "and counts": json.dumps({"choices": [{"message": {"content": LIST}}], "usage": {"completion_tokens": 12}}),
    "thoughts beside it": body({"content": LIST, "reasoning_content": "So."}, finish_reason="stop"),
    "thoughts before it": body({"content": f"<think>So.</think>\n{LIST}"}, finish_reason="stop"),
    "fields of no value": body(
        {"content": LIST, "refusal": None, "tool_calls": [], "function_call": None}, finish_reason="stop"
    ),
    "no error": body(finish_reason="stop")[:-1] + ', "error": null}',
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_answer_is_one(serve, kind: str) -> None:
    (answer,) = ask(serve, (200, WHOLE[kind]))
    assert isinstance(answer, Prediction), answer
    assert answer.labels == ("Colon", "Liver")
    assert not answer.truncated


def test_a_cut_answer_is_not_asked_for_again_and_stops_nobody(serve) -> None:
    cut = (200, body(finish_reason="length"))
    answers = ask(serve, cut, cut, cut, cut, (200, body(finish_reason="stop")), samples=5, retries=3)
    assert [type(one) for one in answers].count(Unreadable) == 4
    assert [type(one) for one in answers].count(Prediction) == 1


def test_what_may_be_whole_the_next_time_is_asked_for_again(serve) -> None:
    (answer,) = ask(serve, (200, '{"choices": []}'), (200, body(finish_reason="stop")), retries=1)
    assert isinstance(answer, Prediction)


# --- through the commands


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps({"id": f"n{i}", "text": "x"}) + "\n" for i in range(3)))
    return tmp_path / "notes.jsonl"


def test_mint_predict_names_the_sample_and_what_to_raise(mint, install_plugin, serve, notes: Path, tmp_path) -> None:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    server = serve((200, body(finish_reason="length")))
    how = ("predict", "--endpoint", server.url, "--model", "m", "--task", "toy", "--input", notes)
    stopped = mint(*how)
    assert stopped.code == 4
    assert "Sample n0" in stopped.err
    assert "raise predict.max_new_tokens" in stopped.err
    skipped = mint(*how, "--on-error", "skip")
    assert skipped.code == 9
    records = lines(skipped.out)
    assert all(record["labels"] == [] and "max_new_tokens" in record["error"] for record in records)


@pytest.fixture
def config(install_plugin, tmp_path: Path, monkeypatch) -> dict[str, Any]:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    return {
        "task": "toy", "student": {"model": str(build("llama", tmp_path / "llama"))}, "name": "t",
        "evaluate": {"bootstrap": 100},
    }  # fmt: skip


def test_a_run_says_how_many_of_how_many_were_cut(mint, config: dict[str, Any]) -> None:
    """A student with random weights never ends: all of its 8 answers are cut; lists that are constrained are not."""
    Path("c.json").write_text(json.dumps({**config, "aligner": "none", "predict": {"max_new_tokens": 5}}))
    answer = mint("run", "--config", "c.json")
    assert answer.code == 0, answer.err
    assert "8 of 8 free answers reached the limit on their length" in answer.err
    assert "raise predict.max_new_tokens" in answer.err
    records = lines(Path("runs/t/predictions.jsonl").read_text())
    assert [record["truncated"] for record in records] == [True] * 8
    facts = json.loads(Path("runs/t/run.json").read_text())["stages"]["predict"]["facts"]
    assert facts["truncated"] == {"base": 8}
    Path("c.json").write_text(
        json.dumps({**config, "aligner": "none", "predict": {"decode": "constrained", "free_beside": False}})
    )
    answer = mint("run", "--config", "c.json", "--overwrite")
    assert answer.code == 0, answer.err
    assert "were cut" not in answer.err


def test_mint_predict_says_which_answers_were_cut(mint, config: dict[str, Any], notes: Path) -> None:
    aligner = {"name": "sft", "epochs": 1, "warmup": 0, "lora_rank": 4}
    adapter = mint_core.run({**config, "aligner": aligner}, until="align").path / "adapter"
    how = ("predict", "--adapter", adapter, "--input", notes, "--max-new-tokens", 3)
    answer = mint(*how)
    assert answer.code == 0, answer.err
    assert [record["truncated"] for record in lines(answer.out)] == [True] * 3
    assert "3 of 3 free answers reached the limit" in answer.err
    assert mint(*how, "--output", "out.csv").code == 0
    assert [row["truncated"] for row in csv.DictReader(io.StringIO(Path("out.csv").read_text()))] == ["true"] * 3
    scored = mint("predict", "--adapter", adapter, "--input", notes, "--decode", "score")
    assert [record["truncated"] for record in lines(scored.out)] == [False] * 3


@pytest.mark.parametrize(
    ("reason", "kind", "truncated"),
    [("stop", Prediction, False), ("length", Prediction, True), ("abort", Unreadable, None), (None, Unreadable, None)],
)
def test_vllm_says_how_an_answer_ended(reason, kind, truncated) -> None:
    asking = Asking(LabelSpace(LABELS), HEADER, 2, 2, PredictConfig(engine="vllm"))
    answer = VllmEngine._answer(SimpleNamespace(asking=asking), "p", "aligned", _Written(LIST, reason))
    assert isinstance(answer, kind)
    assert getattr(answer, "truncated", None) is truncated
    if kind is Unreadable:
        assert "finish_reason" in answer.reason
