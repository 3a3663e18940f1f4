"""Where outcomes go: a file that can be continued, or stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from filelock import FileLock

from mint_core.answering.formats import Format
from mint_core.answering.outcome import Outcome
from mint_core.errors import ConfigError, DataError
from mint_core.files import acquire, read_json, storage_errors, write_json


class Output:
    """Writes outcomes line by line; every line is with the operating system before the next sample is answered.

    Beside FILE lies FILE.meta.json, which says what made it. A file that the same settings made is continued: a last
    line that was cut off goes, and so do the lines of samples that failed, which are tried again.

    Args:
        path: The file.
        form: How an outcome is written.
        settings: What decides the outcomes, in plain data.

    Attributes:
        done: The keys (`Format.key`) of the samples that the file holds already.
    """

    def __init__(self, path: Path, form: Format, settings: Mapping[str, Any]) -> None:
        self.path, self.form = path, form
        self.done: set[str] = set()
        self._settings = dict(settings)
        self._meta = path.with_name(path.name + ".meta.json")
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._stream: TextIO | None = None

    def __enter__(self) -> Output:
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        acquire(self._lock)
        try:
            self._open()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._stream is not None:
                with suppress(OSError) if error else storage_errors(self.path):  # a full disk refuses this too
                    self._stream.close()
        finally:
            self._release()

    def _release(self) -> None:
        with suppress(OSError):  # Windows keeps the file while it is open
            Path(self._lock.lock_file).unlink()  # still held: a second process has been refused by then
        self._lock.release()

    def _open(self) -> None:
        with storage_errors(self.path):
            if self.path.exists() and self.path.stat().st_size:
                self._check_settings()
                self._continue()
            else:
                write_json(self._meta, self._settings)
            self._stream = self.path.open("a", encoding="utf-8", newline="")
            if not self._stream.tell():
                self._put(self.form.head)

    def _check_settings(self) -> None:
        other = f"choose another --output, or delete {self.path.name} to begin anew"
        try:
            old = dict(read_json(self._meta))
        except (OSError, ValueError, TypeError):
            raise ConfigError(f"{self.path} exists and no {self._meta.name} says what made it; {other}.") from None
        now = json.loads(json.dumps(self._settings))
        changed = sorted(key for key in {*old, *now} if old.get(key) != now.get(key))
        if changed:
            raise ConfigError(f"{self.path} was made with another {' and '.join(changed)}; {other}.")

    def _continue(self) -> None:
        """Collects what is done, and takes out of the file what is not."""
        kept = self.path.with_name(self.path.name + ".tmp")
        dropped = 0
        with (
            self.path.open(encoding="utf-8", errors="replace", newline="\n") as old,
            kept.open("w", encoding="utf-8", newline="") as new,
        ):
            for number, line in enumerate(old, 1):
                if not line.endswith("\n"):
                    dropped += 1  # only a last line can be cut off
                    continue
                if number == 1 and self.form.head:
                    if line != self.form.head:
                        raise DataError(self._damaged(1))
                    new.write(line)
                    continue
                try:
                    written = self.form.read(line)
                except ValueError:
                    raise DataError(self._damaged(number)) from None
                if written.failed:
                    dropped += 1
                else:
                    self.done.add(written.key)
                    new.write(line)
        if dropped:
            kept.replace(self.path)
        else:
            kept.unlink()

    def _damaged(self, number: int) -> str:
        return f"Line {number} of {self.path} is not what mint wrote there; mend it, or choose another --output."

    def write(self, outcome: Outcome) -> None:
        """Appends one sample.

        Raises:
            StorageError: The file cannot be written.
        """
        with storage_errors(self.path):
            self._put(self.form.line(outcome))

    def _put(self, text: str) -> None:
        assert self._stream is not None  # noqa: S101 - the context is entered
        self._stream.write(text)
        self._stream.flush()


class Stdout:
    """The same for a pipe: nothing is there, and nothing can be continued.

    Args:
        stream: Where to.
        form: How an outcome is written.
    """

    def __init__(self, stream: TextIO, form: Format) -> None:
        self.form = form
        self.done: frozenset[str] = frozenset()
        self._stream = stream

    def __enter__(self) -> Stdout:
        self._stream.write(self.form.head)
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def write(self, outcome: Outcome) -> None:
        """Writes one sample."""
        self._stream.write(self.form.line(outcome))
        self._stream.flush()
