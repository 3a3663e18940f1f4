"""New samples from standard input: a table of texts, as JSON lines or CSV."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mint_core.errors import DataError
from mint_core.files import MAX_TEXT_BYTES, storage_errors

DASH = Path("-")
"""What the user writes in the place of a file."""
_NAME = "standard-input"


@contextmanager
def as_file(stream: BinaryIO) -> Iterator[Path]:
    """What a stream holds as a file that nobody else can read, as long as the context lasts: readers take paths.

    JSON lines are told by their first sign, `{` or `[`; everything else is a delimited table.

    Args:
        stream: Read to its end.

    Raises:
        DataError: It is larger than any table may be.
        StorageError: The folder for temporary files cannot be written.
    """
    content = stream.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise DataError(
            f"Standard input holds more than {MAX_TEXT_BYTES / 2**20:,.0f} MiB; write it into several files."
        )
    first = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    with tempfile.TemporaryDirectory(prefix="mint-input-") as folder:  # its mode is 700
        file = Path(folder, f"{_NAME}.{'jsonl' if first in (b'{', b'[') else 'csv'}")
        with storage_errors(file):
            file.write_bytes(content)
        yield file
