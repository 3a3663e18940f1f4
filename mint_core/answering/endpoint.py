"""Answers of an OpenAI-compatible chat completions server: vLLM with the adapter, or a hosted model."""

from __future__ import annotations

import base64
import io
import ipaddress
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit
from urllib.request import getproxies

from mint_core.answering.engine import Answered, Asking, Engine, Prompts
from mint_core.config import EndpointConfig
from mint_core.decoding import ahead
from mint_core.documents import parse_json
from mint_core.errors import ConfigError, DataError, ModelError
from mint_core.interfaces import Unreadable
from mint_core.students.control import defuse
from mint_core.students.prompts import chat_turns
from mint_core.types import ImageRef, Modality, Prompt, in_plural

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
FIRST_WAIT = 0.5
"""Seconds before the second attempt; doubled before every further one."""
LONGEST_WAIT = 60.0
CHAT = "/chat/completions"
ALLOW = "--send-text or --set predict.endpoint.send_text=true"
"""How a user allows that samples leave the machine."""
_CALL = 10.0
"""Seconds in which a server must answer the first call."""
LARGEST_ANSWER = 8 * 2**20
"""Bytes; a longer answer is no list of labels."""
IN_A_ROW = 3
"""So many samples in a row without an answer mean that the server is gone, and not that the samples are odd."""
_MEANS_A_KEY = re.compile(r"key|token|secret|passw|pwd|auth|sig(nature)?$|^code$|credential", re.IGNORECASE)
"""Names of parameters of an address that hold what nobody else may know."""
_TRY_AGAIN = (408, 409, 425, 429)


def checked_url(url: str, path: str = CHAT) -> str:
    """The address below a base address that answers: of the chat completions, or another one.

    Raises:
        ConfigError: It is no http address, or carries a name and password, or a key: it would stand in run.json.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https"):
        raise ConfigError("An endpoint is an address such as http://localhost:8000/v1.")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "Write no name and password into the address of an endpoint; put the key into an environment variable."
        )
    secret = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if _MEANS_A_KEY.search(name)]
    if secret:
        raise ConfigError(
            f"Write no key into the address of an endpoint ('{secret[0]}'): it would stand in the run's files. Put it "
            "into the environment variable that api_key_env names."
        )
    base = parts.path.rstrip("/").removesuffix(CHAT).removesuffix("/completions")
    return parts._replace(path=f"{base}{path}", fragment="").geturl()


def shown(url: str) -> str:
    """An address for messages and records: without its query, which may hold a key."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def without_queries(config: Any) -> Any:
    """A config as plain data, its addresses of servers as `shown` shows them."""
    if isinstance(config, Mapping):
        return {
            key: shown(value) if str(key).endswith("url") and isinstance(value, str) else without_queries(value)
            for key, value in config.items()
        }
    return [without_queries(one) for one in config] if isinstance(config, list | tuple) else config


def addresses_in(config: Any) -> Iterator[str]:
    """The addresses of servers in a config as plain data."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from [value] if str(key).endswith("url") and isinstance(value, str) and value else addresses_in(value)
    elif isinstance(config, list | tuple):
        for one in config:
            yield from addresses_in(one)


def is_local(url: str) -> bool:
    """Whether what is sent there stays on this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_consent(config: EndpointConfig, modality: Modality, allow: str = ALLOW) -> str:
    """Refuses to send samples to another machine unless the user has said that they may leave this one.

    Args:
        config: Which server.
        modality: What is sent.
        allow: What the user says to allow it.

    Returns:
        One sentence for the person who waits; empty where nothing leaves this machine.

    Raises:
        ConfigError: They would leave this machine, and nobody has allowed it.
    """
    where = shown(checked_url(config.url))
    if is_local(config.url):
        return ""
    what = in_plural(modality)
    if not config.send_text:
        raise ConfigError(
            f"{where} is another machine: patients' {what} would be sent there; if you may do that, allow it "
            f"with {allow}."
        )
    plain = ", unencrypted" if config.url.startswith("http:") else ""
    return f"Patients' {what} leave this machine: they are sent to {where}{plain}."


def check_reachable(config: EndpointConfig) -> None:
    """Calls the server and hangs up, where no proxy stands between.

    Raises:
        ModelError: Nobody answers there.
    """
    parts = urlsplit(config.url)
    if not is_local(config.url) and parts.scheme in getproxies():
        return
    address = (str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80))
    try:
        socket.create_connection(address, timeout=min(config.timeout, _CALL)).close()
    except OSError as error:
        raise ModelError(
            f"{shown(checked_url(config.url))} cannot be reached ({error.strerror or type(error).__name__}); start the "
            "server, or mend predict.endpoint.url."
        ) from None


class CharacterCounter:
    """Counts without the model's tokenizer, and rather too many: two characters make a token."""

    def prompt(self, prompt: Prompt) -> int:
        """Tokens of a prompt, its image aside."""
        return sum(self.response(message.content) for message in prompt.messages)

    def response(self, text: str) -> int:
        """Tokens of a response."""
        return 16 + len(text) // 2

    def left(self, sample_id: str, prompt: Prompt) -> int | None:
        """None: nobody says how long the model's context is."""
        return None


class TryAgain(Exception):
    """An answer that may be better the next time."""

    def __init__(self, problem: str, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait


class Endpoint(Engine):
    """Asks a server, a few samples at a time.

    Args:
        asking: What is the same for all questions; `asking.config.endpoint` says which server, and how.

    Raises:
        ConfigError: The address is wrong, no model is named, or the HTTP client is not installed.
    """

    def __init__(self, asking: Asking) -> None:
        try:
            import httpx2
        except ImportError:
            raise ConfigError("An endpoint needs an HTTP client; run `pip install 'mint-core[endpoint]'`.") from None
        self.asking, self.counter = asking, CharacterCounter()
        self.config = asking.config.endpoint
        self.url = checked_url(self.config.url)
        key = os.environ.get(self.config.api_key_env, "").strip()
        self._errors: Any = httpx2.HTTPError
        self._timeouts: Any = httpx2.TimeoutException
        self._client: httpx2.Client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self.config.timeout,
            follow_redirects=False,
            trust_env=not is_local(self.config.url),  # a proxy would carry the samples off this machine
        )
        self._pool = ThreadPoolExecutor(self.config.parallel, thread_name_prefix="mint-endpoint")
        self._stop = threading.Event()

    @property
    def facts(self) -> dict[str, Any]:
        """The server without what may hold a key, and the model."""
        return {"engine": "endpoint", "endpoint": shown(self.url), "model": self.config.model}

    def close(self) -> None:
        """See `Engine.close`."""
        self._stop.set()  # wakes those that wait for their next attempt
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def answers(self, variant: str, prompts: Prompts, *, free: bool = False) -> Iterator[list[Answered]]:
        """See `Engine.answers`; one at a time, in their order.

        Samples that the server refuses, and those whose answer is not whole, are named as such.

        Raises:
            ModelError: The server knows neither key, model nor path, or has gone away.
        """

        def start(item: tuple[str, Prompt]) -> tuple[str, Future[str]]:
            return item[0], self._pool.submit(self._ask, item[1])

        missed = 0
        for sample_id, answer in ahead(prompts.items(), start, self.config.parallel):
            try:
                text = answer.result()
            except TryAgain as problem:
                missed += 1
                if missed == IN_A_ROW:
                    raise ModelError(
                        f"{shown(self.url)} left {missed} samples in a row without an answer ({problem}); see to the "
                        "server and give the same command again."
                    ) from None
                yield [Unreadable(sample_id, f"Sample {sample_id}: {shown(self.url)} gave no answer ({problem}).")]
                continue
            except DataError as problem:
                missed = 0
                yield [Unreadable(sample_id, f"Sample {sample_id}: {problem}")]
                continue
            missed = 0
            yield [self.asking.read(sample_id, variant, text)]

    def _ask(self, prompt: Prompt) -> str:
        """One answer, after as many attempts as it takes."""
        payload = self._payload(prompt)
        return self.patiently(lambda: _content(self.send(payload), payload.get("max_tokens")))

    def patiently(self, ask: Callable[[], T]) -> T:
        """What `ask` returns, after as many attempts as it takes.

        Raises:
            TryAgain: The last one failed too.
        """
        wait = FIRST_WAIT
        for left in range(self.config.retries, -1, -1):
            try:
                return ask()
            except TryAgain as problem:
                longer = min(max(problem.wait, wait * random.uniform(1, 1.25)), LONGEST_WAIT)
                if not left or self._stop.wait(longer):
                    raise
                wait *= 2
        raise AssertionError("the last attempt returns or raises")

    def _payload(self, prompt: Prompt) -> dict[str, Any]:
        prompt = defuse(prompt).prompt
        picture = None
        if prompt.image is not None:
            picture = {"type": "image_url", "image_url": {"url": _as_url(prompt.image)}}
        payload = {
            "model": self.config.model,
            "messages": chat_turns(prompt, parts=False, picture=picture),
            "temperature": 0,
            "max_tokens": self.asking.budget(self.counter),
            **self.config.request,
        }
        return {name: value for name, value in payload.items() if value is not None}

    def send(self, payload: Mapping[str, Any]) -> bytes:
        """What the server says to one request.

        Raises:
            TryAgain: It may answer the next time.
            ModelError: It knows neither key, model nor path.
            DataError: It refuses the prompt.
        """
        try:
            with self._client.stream("POST", self.url, json=payload) as response:
                body = self._body(response)
        except self._timeouts:
            raise TryAgain(f"no answer within {self.config.timeout:g} s") from None
        except self._errors as error:  # no word of it: it may quote the request
            raise TryAgain(f"the connection failed, {type(error).__name__}") from None
        status = response.status_code
        if status in _TRY_AGAIN or status >= 500:
            raise TryAgain(f"it says {status}{_code(body)}", _retry_after(response.headers.get("retry-after")))
        if status != 200:
            self._refuse(status, _code(body))
        return body

    def _body(self, response: httpx2.Response) -> bytes:
        """What the server says, within the limits of size and time; a client's own timeout counts from byte to byte."""
        end = time.monotonic() + self.config.timeout
        parts, size = [], 0
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > LARGEST_ANSWER:
                raise TryAgain(f"an answer of more than {LARGEST_ANSWER // 2**20} MiB")
            if time.monotonic() > end:
                raise TryAgain(f"no complete answer within {self.config.timeout:g} s")
        return b"".join(parts)

    def _refuse(self, status: int, code: str) -> None:
        where = shown(self.url)
        if status in (401, 403):
            raise ModelError(f"{where} refuses the key ({status}{code}); put it into {self.config.api_key_env}.")
        if status in (404, 405):
            raise ModelError(
                f"{where} knows no model '{self.config.model}' or no such path ({status}{code}); most servers want an "
                "address that ends in /v1 and a model out of their list of models."
            )
        if status < 400:
            raise ModelError(f"{where} answers {status} and points elsewhere; give the right address of the endpoint.")
        raise DataError(f"{where} refuses the prompt ({status}{code}); it may be too long or not to its liking.")


def _as_url(image: ImageRef) -> str:
    stream = io.BytesIO()
    image.open().save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _retry_after(value: str | None) -> float:
    return float(value) if value and re.fullmatch(r"\d{1,6}(\.\d+)?", value) else 0.0


def _code(body: bytes) -> str:
    """The server's short code for an error; its message may quote the prompt."""
    try:
        error = parse_json(body)["error"]
        code = error.get("code") or error.get("type")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f", {code}" if isinstance(code, str) and re.fullmatch(r"[A-Za-z_]{3,60}", code) else ""


_WHOLE = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete"})
"""What servers call an end that the model chose."""
_LIMIT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"})
"""What they call an answer that was cut."""
_RAISE = (
    "raise predict.max_new_tokens (--max-new-tokens), or the limit that predict.endpoint.request names (--request): "
    "a model's thoughts count too"
)


def _content(body: bytes, limit: int | None = None) -> str:
    """The text of an answer that is whole.

    Args:
        body: What the server says.
        limit: Tokens that were asked for at most; None where nobody said.

    Raises:
        TryAgain: It is no chat completion; another attempt may bring one.
        DataError: It is one, and no whole answer: asked again, the model would say the same.
    """
    try:
        said = parse_json(body)
    except ValueError:
        page = body.lstrip()[:1] == b"<"
        raise TryAgain("what it says is a page and no chat completion" if page else "what it says is no JSON") from None
    if isinstance(said, dict) and said.get("error"):
        raise TryAgain(f"it says 200 with an error{_code(body)}")
    try:
        choice = said["choices"][0]
        message = choice["message"]
        content = message.get("content")
    except (LookupError, TypeError, AttributeError):
        raise TryAgain("what it says is no chat completion") from None
    _check_end(choice, said, limit)
    if message.get("refusal"):
        raise DataError("the model refuses to answer (refusal); ask another model.")
    if message.get("tool_calls") or message.get("function_call"):
        raise DataError("the model calls a tool instead of answering; turn its tools off (predict.endpoint.request).")
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    if content is None or (content == "" and thoughts):
        if thoughts:
            raise DataError(f"the model thought and wrote no answer; {_RAISE}.")
        raise TryAgain("its message holds no text")
    if not isinstance(content, str):
        raise TryAgain(f"its message holds {'parts' if isinstance(content, list) else 'something'} instead of a text")
    if content.lstrip().startswith("<think>") and "</think>" not in content:
        raise DataError(f"the model's thoughts were cut before it answered; {_RAISE}.")
    return content


def _check_end(choice: Mapping[str, Any], said: Mapping[str, Any], limit: int | None) -> None:
    """Refuses an answer that the server does not call whole. Some servers never say how an answer ended."""
    if "finish_reason" not in choice:
        if limit is not None and _written(said) >= limit:
            raise DataError(f"the answer was cut at {limit} tokens; {_RAISE}.")
        return
    reason = choice["finish_reason"]
    word = reason.strip().lower() if isinstance(reason, str) else None
    if word in _WHOLE:
        return
    if word in _LIMIT:
        raise DataError(f"the answer was cut at the limit on its length (finish_reason {word}); {_RAISE}.")
    if word == "content_filter":
        raise DataError("the server's filter cut the answer (finish_reason content_filter); ask another model.")
    if word in ("tool_calls", "function_call"):
        raise DataError(
            f"the model calls a tool instead of answering (finish_reason {word}); turn its tools off "
            "(predict.endpoint.request)."
        )
    told = word if word and re.fullmatch(r"[a-z_]{1,40}", word) else "none" if reason is None else "unknown"
    raise TryAgain(f"the answer is not whole, finish_reason {told}")


def _written(said: Mapping[str, Any]) -> int:
    """Tokens of the answer as the server counts them; 0 where it does not."""
    usage = said.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return count if isinstance(count, int) else 0
