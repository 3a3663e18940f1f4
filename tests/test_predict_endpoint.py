"""`mint predict --endpoint`: a real HTTP server answers."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mint_core.answering import endpoint
from mint_core.types import LabelSpace
from tests.predicting import NOTES, SECRET, lines
from tests.servers import LIST, Server, says
from tests.tiny_students import LABELS


def of_note(request) -> tuple[int, str]:
    """An answer that tells whose it is."""
    number = int(request["messages"][-1]["content"].partition("of note ")[2].partition(".")[0])
    time.sleep(0.02 * (6 - number))  # the last is the first to be ready
    return says(f"MOST_LIKELY_TISSUE:\n1. {LABELS[number]}\n2. Liver")


@pytest.fixture
def ask(predict):
    def call(server: Server, *options: object, **other):
        return predict("--endpoint", server.url, "--model", "m", *options, **other)

    return call


def test_an_endpoint_answers_in_order(serve, ask, monkeypatch) -> None:
    monkeypatch.setenv("MINT_API_KEY", "k-123")
    server = serve(of_note)
    answer = ask(server, "--request", "seed=7", "--request", "temperature=null")
    assert answer.code == 0, answer.err
    records = lines(answer.out)
    assert [record["id"] for record in records] == [note["id"] for note in NOTES]
    assert [record["labels"][0] for record in records] == list(LABELS)
    assert all(record["well_formed"] for record in records)
    path, request = server.requests[0]
    assert path == "/v1/chat/completions"
    assert (request["model"], request["seed"], "temperature" in request) == ("m", 7, False)
    assert [turn["role"] for turn in request["messages"]] == ["system", "user"]
    assert set(server.keys) == {"Bearer k-123"}
    assert "leave this machine" not in answer.err


def test_a_name_that_is_nearly_right_is_recognised_as_top_n_does(serve, ask) -> None:
    server = serve(says("MOST_LIKELY_TISSUE:\n1. Kidny\n2. Something else"))
    records = lines(ask(server).out)
    assert records[0]["labels"] == ["Kidny", "Something else"]
    assert records[0]["known"] == ["Kidney", None]


def test_stdout_goes_where_it_is_sent_though_stderr_is_a_terminal(
    serve, adapter: Path, notes: Path, tmp_path: Path
) -> None:
    """The progress bar redirects stdout; the answers must not go its way."""
    server = serve(says(LIST))
    command = ["predict", "--adapter", adapter, "--input", notes, "--endpoint", server.url, "--model", "m"]
    leader, follower = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "mint_core", *map(str, command)],
        env={
            **os.environ,
            "TERM": "xterm",
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[1])]),
        },
        stdout=subprocess.PIPE,
        stderr=follower,
        timeout=120,
        check=False,
    )
    os.close(follower)
    os.close(leader)
    assert done.returncode == 0
    assert [record["id"] for record in lines(done.stdout.decode())] == [note["id"] for note in NOTES]


def test_an_image_travels_inside_the_request(serve, tmp_path: Path) -> None:
    import base64

    from PIL import Image

    from mint_core.answering.engine import Asking
    from mint_core.config import EndpointConfig, PredictConfig
    from mint_core.images import FileImage
    from mint_core.types import Message, Prompt

    server = serve(says(LIST))
    Image.new("RGB", (5, 4), (200, 10, 90)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    words = (Message("system", "Short."), Message("user", "Name 2."))
    prompts = {name: Prompt(words, FileImage(tmp_path / f"{name}.png")) for name in ("a", "b")}
    where = {"url": server.url + "/chat/completions/", "model": "m"}
    config = PredictConfig(engine="endpoint", endpoint=EndpointConfig(**where))
    with endpoint.Endpoint(Asking(LabelSpace(LABELS), "MOST_LIKELY_TISSUE:", 2, 2, config)) as asked:
        [good], [bad] = asked.answers("base", prompts)
    assert good.labels == ("Colon", "Liver")
    assert "not an image" in bad.reason
    system, user = server.requests[0][1]["messages"]
    assert system == {"role": "system", "content": "Short."}
    picture, text = user["content"]
    assert text == {"type": "text", "text": "Name 2."}
    head, _, content = picture["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert (image.size, image.getpixel((0, 0))) == ((5, 4), (200, 10, 90))


def test_no_proxy_carries_off_what_is_meant_for_this_machine(ask, serve, monkeypatch) -> None:
    proxy, server = serve((200, "{}")), serve(says(LIST))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
    assert ask(server).code == 0
    assert (len(proxy.requests), len(server.requests)) == (0, 6)


def test_an_endpoint_needs_no_adapter(mint, adapter: Path, serve, notes: Path) -> None:
    server = serve(of_note)
    answer = mint("predict", "--endpoint", server.url, "--model", "m", "--task", "toy", "--input", notes)
    assert answer.code == 0, answer.err
    assert [record["known"] for record in lines(answer.out)][2] == ["Colon", "Liver"]


@pytest.mark.parametrize(
    "trouble",
    [
        (500, "oops"),
        (429, "slow down"),
        (200, "<html>not a chat</html>"),
        (200, "[1, 2"),
        (200, json.dumps({"choices": []})),
        says(None),
        says([{"type": "text"}]),
    ],
)
def test_trouble_is_tried_again(serve, ask, trouble) -> None:
    server = serve(trouble, trouble, says(LIST))
    answer = ask(server, "--parallel", 1)
    assert answer.code == 0, answer.err
    assert len(server.requests) == 8


def test_an_endpoint_that_times_out_is_left_and_done_samples_are_kept(serve, ask, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    server = serve(says(LIST), says(LIST), lambda _: time.sleep(0.5) or says(LIST))
    started = time.monotonic()
    answer = ask(server, "--parallel", 1, "--timeout", 0.1, "--retries", 1, "--output", out)
    assert time.monotonic() - started < 20
    assert (answer.code, "no answer within 0.1 s" in answer.err) == (4, True), answer.err
    assert SECRET not in answer.err
    assert len(lines(out.read_text())) == 2
    server.script = [says(LIST)]
    assert "4 answered, 2 there already" in ask(server, "--parallel", 1, "--output", out).err


def test_a_killed_process_loses_no_answer(serve, ask, adapter: Path, notes: Path, tmp_path: Path) -> None:
    """kill -9; with an endpoint, because a process that loads torch takes long to start."""
    out, arrived = tmp_path / "out.jsonl", threading.Event()

    def last(_):
        arrived.set()
        server.released.wait(60)
        return says(LIST)

    server = serve(says(LIST), says(LIST), last)
    command = ["predict", "--adapter", adapter, "--input", notes, "--endpoint", server.url, "--model", "m"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mint_core", *map(str, command), "--output", str(out), "--parallel", "1", "--quiet"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[1])])},
    )
    assert arrived.wait(120), "no third request"
    for _ in range(600):  # the second answer is written beside the third request
        if out.exists() and len(lines(out.read_text())) == 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = out.read_text()
    assert len(lines(before)) == 2
    out.write_text(before + '{"id": "n2", "dec')
    server.script = [says(LIST)]
    assert "4 answered, 2 there already" in ask(server, "--output", out, "--parallel", 1).err
    assert [record["id"] for record in lines(out.read_text())] == [note["id"] for note in NOTES]
    assert out.read_text().startswith(before)


def test_an_answer_that_drips_is_cut_off(serve, ask) -> None:
    def drip(_):
        return 200, "x" * (endpoint.LARGEST_ANSWER + 2**20)

    answer = ask(serve(drip), "--parallel", 1, "--retries", 0)
    assert (answer.code, "more than 8 MiB" in answer.err) == (4, True), answer.err


def test_a_dead_endpoint_stops_even_where_samples_may_fail(ask, serve, tmp_path: Path) -> None:
    server = serve(says(LIST), (503, f"{SECRET}"))
    out = tmp_path / "out.jsonl"
    answer = ask(server, "--on-error", "skip", "--retries", 1, "--parallel", 1, "--output", out)
    assert (answer.code, "3 samples in a row" in answer.err) == (6, True), answer.err
    assert SECRET not in answer.err + out.read_text()
    server.shutdown()
    server.server_close()
    answer = ask(server, "--retries", 0)
    assert (answer.code, "the connection failed" in answer.err) == (4, True), answer.err


def test_a_refused_prompt_is_skipped(ask, serve) -> None:
    refusal = json.dumps({"error": {"code": "context_length_exceeded", "message": f"too long: {SECRET}"}})
    server = serve((400, refusal), says(LIST))
    answer = ask(server, "--on-error", "skip", "--parallel", 1)
    assert answer.code == 9
    first, *others = lines(answer.out)
    assert "400, context_length_exceeded" in first["error"]
    assert SECRET not in answer.out + answer.err
    assert len(others) == 5
    assert not any(other["error"] for other in others)


@pytest.mark.parametrize(("status", "said"), [(401, "MINT_API_KEY"), (404, "no model 'm'"), (307, "points elsewhere")])
def test_what_every_sample_would_meet_stops_at_once(ask, serve, status: int, said: str) -> None:
    server = serve((status, "{}"))
    answer = ask(server, "--on-error", "skip", "--parallel", 1)
    assert (answer.code, said in answer.err) == (6, True), answer.err
    assert len(server.requests) <= 2


@pytest.mark.parametrize("url", ["http://192.0.2.1/v1", "https://models.invalid/v1", "http://127.0.0.1.invalid/v1"])
def test_no_text_leaves_this_machine_unasked(predict, monkeypatch, url: str) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    answer = predict("--endpoint", url, "--model", "m")
    assert (answer.code, "--send-text" in answer.err) == (2, True)


def test_the_user_who_sends_texts_is_told_so(predict) -> None:
    answer = predict("--endpoint", "http://192.0.2.1/v1?v=k", "--model", "m", "--send-text", "--input", "nowhere")
    assert "texts leave this machine: they are sent to http://192.0.2.1/v1/chat/completions, unencrypted" in answer.err
    assert "v=k" not in answer.err


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.1.2.3/v1", True),
        ("http://[::1]:8000/v1", True),
        ("https://localhost.example.org/v1", False),
        ("http://10.0.0.7/v1", False),
    ],
)
def test_which_addresses_are_local(url: str, local: bool) -> None:
    assert endpoint.is_local(url) is local


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--endpoint", "localhost:8000", "--model", "m"), "is an address"),
        (("--endpoint", "ftp://localhost/v1", "--model", "m"), "is an address"),
        (("--endpoint", "http://me:secret@localhost/v1", "--model", "m"), "no name and password"),
        (("--endpoint", "http://localhost/v1?api-version=2&api-key=k", "--model", "m"), "no key into the address"),
        (("--endpoint", "http://localhost/v1?sig=k", "--model", "m"), "no key into the address"),
        (("--endpoint", "http://localhost/v1"), "needs --model"),
        (("--endpoint", "http://localhost/v1", "--model", "m", "--decode", "score"), "writes freely"),
        (("--model", "m"), "of an --endpoint"),
        (("--source", "file"), "leave --source out"),
        (("--endpoint", "http://localhost/v1", "--model", "m", "--task", "toy"), "leave --task out"),
        (("--set", "task.n=7"), "larger than the label space"),
    ],
)
def test_contradictions_are_refused(predict, options, said: str) -> None:
    answer = predict(*options)
    assert (answer.code, said in answer.err) == (2, True), answer.err
    assert "secret" not in answer.err
