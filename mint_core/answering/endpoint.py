"""Answers of an OpenAI-compatible chat completions server: vLLM with the adapter, or a hosted model."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mint_core.decoding import ahead
from mint_core.errors import ConfigError, DataError, ModelError
from mint_core.interfaces.task import Unreadable
from mint_core.students.prompts import parse_response, write_response
from mint_core.types import ImageRef, LabelSpace, Prediction, Prompt

if TYPE_CHECKING:
    import httpx2

VARIANT = "endpoint"
FIRST_WAIT = 0.5
"""Seconds before the second attempt; doubled before every further one."""
LONGEST_WAIT = 60.0
LARGEST_ANSWER = 8 * 2**20
"""Bytes; a longer answer is no list of labels."""
IN_A_ROW = 3
"""So many samples in a row without an answer mean that the server is gone, and not that the samples are odd."""
_TRY_AGAIN = (408, 409, 425, 429)


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """Which server is asked, and how."""

    url: str
    """Base address, for example `http://localhost:8000/v1`."""
    model: str
    key: str | None = field(default=None, repr=False)
    key_name: str = "MINT_API_KEY"
    """Environment variable that holds the key, for messages."""
    timeout: float = 120.0
    """Seconds for one answer."""
    retries: int = 4
    parallel: int = 4
    """Requests at a time."""
    max_tokens: int | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request; null takes a field out."""


def checked_url(url: str) -> str:
    """The address of the chat completions below a base address.

    Raises:
        ConfigError: It is no http address, or carries a name and password.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https"):
        raise ConfigError("--endpoint takes an address such as http://localhost:8000/v1.")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("Write no name and password into --endpoint; put the key into an environment variable.")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return parts._replace(path=f"{path}/chat/completions", fragment="").geturl()


def shown(url: str) -> str:
    """An address for messages and records: without its query, which may hold a key."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def is_local(url: str) -> bool:
    """Whether what is sent there stays on this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token_limit(header: str, labels: LabelSpace, n: int) -> int:
    """Tokens for the longest list and half again, without the model's tokenizer: two characters each."""
    longest = tuple(sorted(labels.names, key=len)[-n:])
    return 64 + int(0.75 * len(write_response(header, longest)))


class _Again(Exception):
    """An answer that may be better the next time."""

    def __init__(self, problem: str, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait


class Endpoint:
    """Asks a server, a few samples at a time. Use it as a context manager.

    Args:
        options: Which server, and how.
        header: First line of a response.

    Raises:
        ConfigError: The address is wrong, or the HTTP client is not installed.
    """

    def __init__(self, options: EndpointOptions, header: str) -> None:
        try:
            import httpx2
        except ImportError:
            raise ConfigError("--endpoint needs an HTTP client; run `pip install 'mint-core[endpoint]'`.") from None
        self.options, self.header = options, header
        self.url = checked_url(options.url)
        self._errors: Any = httpx2.HTTPError
        self._timeouts: Any = httpx2.TimeoutException
        self._client: httpx2.Client = httpx2.Client(
            headers={"Authorization": f"Bearer {options.key}"} if options.key else {},
            timeout=options.timeout,
            follow_redirects=False,
            trust_env=not is_local(options.url),  # a proxy would carry the samples off this machine
        )
        self._pool = ThreadPoolExecutor(options.parallel, thread_name_prefix="mint-endpoint")
        self._stop = threading.Event()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()  # wakes those that wait for their next attempt
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def answers(self, prompts: Mapping[str, Prompt]) -> Iterator[Prediction | Unreadable]:
        """Answers prompts in their order.

        Args:
            prompts: Prompt per sample id.

        Yields:
            Predictions, and samples that the server refused or did not answer.

        Raises:
            ModelError: The server knows neither key, model nor path, or has gone away.
        """

        def start(item: tuple[str, Prompt]) -> tuple[str, Future[str]]:
            return item[0], self._pool.submit(self._ask, item[1])

        missed = 0
        for sample_id, answer in ahead(prompts.items(), start, self.options.parallel):
            try:
                text = answer.result()
            except _Again as problem:
                missed += 1
                if missed == IN_A_ROW:
                    raise ModelError(
                        f"{shown(self.url)} left {missed} samples in a row without an answer ({problem}); see to the "
                        "server and give the same command again."
                    ) from None
                yield Unreadable(sample_id, f"Sample {sample_id}: {shown(self.url)} gave no answer ({problem}).")
                continue
            except DataError as problem:
                yield Unreadable(sample_id, f"Sample {sample_id}: {problem}")
                continue
            missed = 0
            parsed = parse_response(text, self.header)
            yield Prediction(sample_id, VARIANT, text, parsed.labels, parsed.n_listed, parsed.well_formed)

    def _ask(self, prompt: Prompt) -> str:
        """One answer, after as many attempts as it takes."""
        payload = self._payload(prompt)
        wait = FIRST_WAIT
        for left in range(self.options.retries, -1, -1):
            try:
                return self._post(payload)
            except _Again as problem:
                longer = min(max(problem.wait, wait * random.uniform(1, 1.25)), LONGEST_WAIT)
                if not left or self._stop.wait(longer):
                    raise
                wait *= 2
        raise AssertionError("the last attempt returns or raises")

    def _payload(self, prompt: Prompt) -> dict[str, Any]:
        messages: list[dict[str, Any]] = [{"role": turn.role, "content": turn.content} for turn in prompt.messages]
        if prompt.image is not None:
            user = next(message for message in messages if message["role"] == "user")
            picture = {"type": "image_url", "image_url": {"url": _as_url(prompt.image)}}
            user["content"] = [picture, {"type": "text", "text": user["content"]}]
        payload = {
            "model": self.options.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": self.options.max_tokens,
            **self.options.request,
        }
        return {name: value for name, value in payload.items() if value is not None}

    def _post(self, payload: Mapping[str, Any]) -> str:
        try:
            with self._client.stream("POST", self.url, json=payload) as response:
                body = self._body(response)
        except self._timeouts:
            raise _Again(f"no answer within {self.options.timeout:g} s") from None
        except self._errors as error:  # no word of it: it may quote the request
            raise _Again(f"the connection failed, {type(error).__name__}") from None
        status = response.status_code
        if status in _TRY_AGAIN or status >= 500:
            raise _Again(f"it says {status}{_code(body)}", _retry_after(response.headers.get("retry-after")))
        if status != 200:
            self._refuse(status, _code(body))
        return _content(body)

    def _body(self, response: httpx2.Response) -> bytes:
        """What the server says, within the limits of size and time; a client's own timeout counts from byte to byte."""
        end = time.monotonic() + self.options.timeout
        parts, size = [], 0
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > LARGEST_ANSWER:
                raise _Again(f"an answer of more than {LARGEST_ANSWER // 2**20} MiB")
            if time.monotonic() > end:
                raise _Again(f"no complete answer within {self.options.timeout:g} s")
        return b"".join(parts)

    def _refuse(self, status: int, code: str) -> None:
        where = shown(self.url)
        if status in (401, 403):
            raise ModelError(f"{where} refuses the key ({status}{code}); put it into {self.options.key_name}.")
        if status in (404, 405):
            raise ModelError(
                f"{where} knows no model '{self.options.model}' or no such path ({status}{code}); most servers want an "
                "--endpoint that ends in /v1 and a --model out of their list of models."
            )
        if status < 400:
            raise ModelError(f"{where} answers {status} and points elsewhere; give the right address to --endpoint.")
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
        error = json.loads(body)["error"]
        code = error.get("code") or error.get("type")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f", {code}" if isinstance(code, str) and re.fullmatch(r"[A-Za-z_]{3,60}", code) else ""


def _content(body: bytes) -> str:
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _Again("what it says is no chat completion") from None
    if not isinstance(content, str):
        raise _Again("its message holds no text")
    return content
