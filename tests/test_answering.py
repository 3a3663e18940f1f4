"""One path from a prompt to an answer: batches, long answers, examples, reasons, models that are only asked."""

import json
import threading
from pathlib import Path

import pytest

import mint_core
from mint_core.answering.asking import Example, Wording
from mint_core.answering.engine import Asking, batches, one_by_one
from mint_core.answering.generate import generate
from mint_core.answering.transformers import TransformersEngine
from mint_core.config import PredictConfig, resolve
from mint_core.errors import ConfigError, DataError
from mint_core.files import read_lines
from mint_core.interfaces import Unreadable
from mint_core.plugins import registry
from mint_core.students.encoding import StudentCounter
from mint_core.students.prompts import parse_response
from mint_core.types import LabelSpace, Message, Prediction, Prompt
from tests.servers import LIST, Server, says
from tests.tiny_students import HEADER, LABELS, build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
SPACE = LabelSpace(LABELS)


def prompts(*lengths: int) -> dict[str, Prompt]:
    return {f"p{i}": Prompt((Message("user", "word " * length),)) for i, length in enumerate(lengths)}


def engine(student, **options) -> TransformersEngine:
    asking = {key: options.pop(key) for key in ("ordered",) if key in options}
    isolate = options.pop("isolate", False)
    config = PredictConfig(**options)
    return TransformersEngine(
        student, Asking(SPACE, HEADER, 2, 2, config, **asking), shows_images=False, isolate=isolate
    )


def test_prompts_of_like_length_share_a_batch_and_none_is_lost() -> None:
    asked = prompts(1, 9, 2, 8, 3, 7, 5)
    made = [list(batch) for batch in batches(asked, 2, ordered=False)]
    assert made == [["p1", "p3"], ["p5", "p6"], ["p4", "p2"], ["p0"]]
    assert [list(batch) for batch in batches(asked, 2, ordered=True)] == [
        ["p0", "p1"],
        ["p2", "p3"],
        ["p4", "p5"],
        ["p6"],
    ]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("limit", [1, 7, 40])
def test_answers_that_go_on_are_those_of_one_piece(students, ordered: bool, limit: int) -> None:
    """The tiny student seldom stops; what it writes in two pieces is what it writes in one."""
    student = students("llama")
    asked = prompts(1, 4, 2, 6, 3)
    whole = dict(generate(student, asked, max_new_tokens=limit, batch_size=1))
    answers = engine(student, max_new_tokens=limit, batch_size=2, ordered=ordered).answers("base", asked)
    found = [one for some in answers for one in some]
    assert {one.sample_id: one.text for one in found} == whole
    if ordered:
        assert [one.sample_id for one in found] == list(asked)


def test_progress_counts_answers_when_they_are_there(students) -> None:
    """A batch is told as a batch, so that the first answer of it does not stand for the time of all."""
    told = [
        len(some) for some in engine(students("llama"), decode="score", batch_size=3).answers("base", prompts(*[2] * 7))
    ]
    assert told == [3, 3, 1]


def test_a_sample_that_does_not_fit_fails_alone(students) -> None:
    asked = {**prompts(1, 2), "long": Prompt((Message("user", "word " * 3000),))}
    with pytest.raises(DataError, match="context holds"):
        list(engine(students("llama"), decode="score").answers("base", asked))
    found = [
        one for some in engine(students("llama"), decode="score", isolate=True).answers("base", asked) for one in some
    ]
    assert {type(one) for one in found if isinstance(one, Unreadable)} == {Unreadable}
    assert [one.id for one in found if isinstance(one, Unreadable)] == ["long"]
    assert {one.sample_id for one in found if isinstance(one, Prediction)} == {"p0", "p1"}


def test_one_by_one_asks_again_only_where_something_fails() -> None:
    seen = []

    def answer(some):
        seen.append(list(some))
        if "p1" in some:
            raise DataError("no")
        return [Prediction(i, "base", "", (), 0, False) for i in some]

    assert len(one_by_one(answer, prompts(1, 1, 1))) == 3
    assert seen == [["p0", "p1", "p2"], ["p0"], ["p1"], ["p2"]]


def test_reasons_and_an_example_stand_around_the_question() -> None:
    prompt = Prompt((Message("system", "s"), Message("user", "Which?")))
    put = Wording((Example("Case one.", f"{HEADER}\n1. Colon"),), reason=True).put(prompt)
    content = put.messages[1].content
    assert (
        content.index("Case one.") < content.index("1. Colon") < content.index("Which?") < content.index("step by step")
    )
    assert Wording().put(prompt) == prompt


def test_text_before_the_list_breaks_the_format_unless_reasons_were_asked_for() -> None:
    text = f"It is pale.\n{HEADER}\n1. Liver\n{HEADER}\n1. Colon\n2. Skin"
    assert not parse_response(text, HEADER).well_formed
    read = parse_response(text, HEADER, reasons=True)
    assert (read.labels, read.well_formed) == (("Colon", "Skin"), True)  # the last list counts


def test_reasons_take_more_tokens_than_the_list(students) -> None:
    counter = StudentCounter(students("llama"))
    plain, reasons = (Asking(SPACE, HEADER, 2, 2, PredictConfig(reason=reason)) for reason in (False, True))
    assert reasons.budget(counter) == plain.budget(counter) + 512
    assert Asking(SPACE, HEADER, 2, 2, PredictConfig(reason=True, max_new_tokens=9)).budget(counter) == 9


@pytest.fixture
def serve():
    servers = []

    def start(*script) -> Server:
        server = Server(*script)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def toy(install_plugin, tmp_path: Path, monkeypatch):
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    return {"task": "toy", "aligner": "none", "name": "t", "evaluate": {"bootstrap": 100}}


def at(server: Server, **options) -> dict:
    return {"engine": "endpoint", "endpoint": {"url": server.url, "model": "m", "parallel": 1}, **options}


def test_a_run_asks_a_model_on_a_server_and_needs_no_student(toy, serve) -> None:
    server = serve(says(LIST))
    run = mint_core.run({**toy, "predict": at(server)})
    assert run.metrics["n"] == len(server.requests) == 8
    lines = read_lines(run.path / "predictions.jsonl")
    assert {tuple(line["labels"]) for line in lines} == {("Colon", "Liver")}
    again = mint_core.run({**toy, "name": "other", "predict": at(server, endpoint={"url": server.url, "model": "m"})})
    assert "predict" in again.reused  # how many requests go at a time changes no answer
    another = at(server, endpoint={"url": server.url, "model": "another"})
    other = mint_core.run({**toy, "predict": another}, overwrite=True)
    assert "predict" not in other.reused


def test_the_same_model_behind_a_server_answers_the_same(toy, serve, students, tmp_path: Path) -> None:
    """Whoever asks, the model reads the same words: a student here, and its own weights behind a server."""
    folder = build("llama", tmp_path / "llama")
    behind = students("llama")

    def answer(request) -> tuple[int, str]:
        read = behind.processor.apply_chat_template(
            request["messages"], add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        written = behind.model.generate(**read, max_new_tokens=request["max_tokens"], do_sample=False)[0]
        return says(behind.tokenizer.decode(written[read["input_ids"].shape[1] :], skip_special_tokens=True))

    here = mint_core.run({**toy, "student": str(folder), "predict": {"max_new_tokens": 24}})
    asked = mint_core.run({**toy, "name": "asked", "predict": at(serve(answer), max_new_tokens=24)})
    texts = [[line["text"].strip() for line in read_lines(run.path / "predictions.jsonl")] for run in (here, asked)]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


def test_an_interrupted_run_asks_only_what_is_left(toy, serve) -> None:
    broken = serve(says(LIST), says(LIST), (401, "{}"))
    with pytest.raises(mint_core.MintError, match="refuses the key"):
        mint_core.run({**toy, "predict": at(broken)})
    broken.script[:] = [says(LIST)]
    before = len(broken.requests)
    mint_core.run({**toy, "predict": at(broken)})
    assert len(broken.requests) - before == 6


def test_one_shot_shows_a_solved_training_sample_and_never_a_judged_one(toy, serve) -> None:
    server = serve(says(LIST))
    run = mint_core.run({**toy, "predict": at(server, shots=1, reason=True)})
    questions = [request["messages"][-1]["content"] for _, request in server.requests]
    shown = {question.partition("number ")[2].partition(".")[0] for question in questions}
    judged = {line["sample_id"] for line in read_lines(run.path / "predictions.jsonl")}
    assert len(shown) == 1
    assert not shown & judged
    number = int(shown.pop().removeprefix("p"))
    assert f"1. {LABELS[number % 6]}\n" in questions[0]  # the truth stands first
    assert all("step by step" in question for question in questions)


@pytest.mark.parametrize(
    ("predict", "said"),
    [
        ({"engine": "endpoint"}, "needs predict.endpoint.url"),
        ({"engine": "endpoint", "endpoint": {"url": "http://localhost/v1"}}, "needs predict.endpoint.model"),
        ({"engine": "endpoint", "decode": "score"}, "writes freely"),
        ({"engine": "vllm", "decode": "constrained"}, "writes freely"),
        ({"endpoint": {"uri": "x"}}, "did you mean 'url'"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_at_once(toy, predict: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve({**toy, "student": "nowhere", "predict": predict}, registry())


def test_a_model_on_a_server_is_not_aligned(toy, serve) -> None:
    with pytest.raises(ConfigError, match="only asked"):
        resolve({**toy, "aligner": "orpo", "predict": at(serve(says(LIST)))}, registry())


def test_nothing_is_sent_off_this_machine_without_consent(toy, monkeypatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    away = {"engine": "endpoint", "endpoint": {"url": "https://models.invalid/v1", "model": "m"}}
    with pytest.raises(ConfigError, match="send_text"):
        mint_core.run({**toy, "predict": away})
    assert not (Path("runs") / "t" / "rankings").exists()  # before the first stage


def test_another_name_or_device_makes_nothing_again(toy, tmp_path: Path) -> None:
    student = {"model": str(build("llama", tmp_path / "llama"))}
    config = {**toy, "student": student, "predict": {"decode": "score"}}
    mint_core.run(config)
    named = mint_core.run({**config, "name": "u", "student": {**student, "device": "cpu", "dtype": "fp32"}})
    assert set(named.reused) == {"label", "predict", "evaluate"} | set(named.reused) & {"report"}
    batch = mint_core.run({**config, "name": "v", "predict": {"decode": "score", "batch_size": 3}})
    assert "predict" in batch.reused
    draws = mint_core.run({**config, "name": "w", "evaluate": {"bootstrap": 300}})
    assert set(draws.reused) == {"label", "predict"}
    assert json.loads((draws.path / "metrics.json").read_text())["bootstrap"] == 300
