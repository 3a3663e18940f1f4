"""How much memory a Parquet manifest takes that the task `table` loads, at 10,000, 100,000 and 1,000,000 rows.

    python benchmarks/million_rows.py                 notes
    python benchmarks/million_rows.py --images        notes with the path of one of 1,000 tiny images
    python benchmarks/million_rows.py --label         `mint run --until label` with the teacher `features` on notes
    python benchmarks/million_rows.py --rows 10000    one size

Each size runs in a process of its own. It loads the data, checks them again as a run does, and makes their fingerprint;
with `--label` it is the whole command, and the rankings are written.
What counts is the process's own memory (RssAnon): pages of the file that is memory-mapped are the system's to take
back, and are told beside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

LABELS = 50
IMAGES = 1_000
BATCH = 100_000
DIGITS = ("none", "slight", "mild", "medium", "marked", "strong", "severe", "constant", "night", "day")


def note(row: int) -> str:
    """A text that no other row has, of few different words, some of which point to the label."""
    words = " ".join(DIGITS[int(digit)] for digit in str(row))
    return f"Cough for {row % LABELS} days, {36 + row % 5} degrees Celsius, other complaints: {words}."


COLUMNS = {
    "id": lambda i: f"patient-{i}",
    "text": note,
    "label": lambda i: f"Condition {chr(65 + i % LABELS // 26)}{chr(65 + i % 26)}",
    "group": lambda i: f"g{i // 4}",
    "split": lambda i: "test" if i // 4 % 5 == 0 else "train",
}


def image_of(row: int) -> str:
    """One of the images; each belongs to one split."""
    place = row // 4 % (IMAGES // 5) * 5
    return f"images/{place if row // 4 % 5 == 0 else place + 1 + row % 4}.png"


def write(folder: Path, rows: int, *, images: bool) -> Path:
    """A Parquet file with an id, a note, a label, a group and a split per row."""
    path = folder / "manifest.parquet"
    if images:
        (folder / "images").mkdir()
        for number in range(IMAGES):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    writer = None
    for start in range(0, rows, BATCH):
        numbers = range(start, min(start + BATCH, rows))
        columns = {name: [made(i) for i in numbers] for name, made in COLUMNS.items()}
        if images:
            columns["image"] = [image_of(i) for i in numbers]
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=10_000)
    if writer is not None:
        writer.close()
    return path


def status(name: str) -> float:
    """A line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024


@contextmanager
def watched(found: dict[str, float]) -> Iterator[None]:
    """The highest own and whole memory of this process in the meantime, above what it had before."""
    begin = {name: status(name) for name in ("RssAnon", "VmRSS")}
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.02):
            for name, before in begin.items():
                found[name] = max(found.get(name, 0), status(name) - before)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def load(path: Path) -> dict[str, float]:
    """Loads a manifest as a run does."""
    from mint_core.files import digest_of_each
    from mint_core.interfaces import Context
    from mint_core.splits import check_samples
    from mint_core.tasks.table import TableTask

    images = (path.parent / "images").is_dir()
    modality = "image+text" if images else "text"
    options = TableTask.Config(source="parquet", data=path, modality=modality, check_images=False)
    import pyarrow.compute  # noqa: F401  counted before, as what every run needs

    found: dict[str, float] = {}
    begin = time.perf_counter()
    with watched(found):
        data = TableTask(options, Context(cache=path.parent / "cache")).load()
        found["load"] = time.perf_counter() - begin
        check_samples(data.samples, data.labels)
        digest_of_each([s.id, s.label, s.split, s.text] for s in data.samples)
    return {**found, "rows": len(data.samples), "seconds": time.perf_counter() - begin}


def label(path: Path) -> dict[str, float]:
    """Labels a manifest by the command."""
    from mint_core.__main__ import main as mint

    command = ["run", "--task", "table", "--source", "parquet", "--data", str(path), "--teacher", "features"]
    sys.argv = ["mint", *command, "--until", "label", "--out", str(path.parent / "runs"), "--name", "million"]
    found: dict[str, float] = {}
    begin = time.perf_counter()
    with watched(found):
        try:
            mint()
        except SystemExit as end:
            if end.code:
                raise
    rankings = pq.ParquetFile(path.parent / "runs" / "million" / "rankings" / "rankings.parquet")
    return {**found, "rows": rankings.metadata.num_rows, "load": float("nan"), "seconds": time.perf_counter() - begin}


def main() -> None:
    """Runs every size and prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--images", action="store_true")
    parser.add_argument("--label", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        found = (label if given.label else load)(given.measure)
        print(json.dumps(found))
        return
    whole = "whole command" if given.label else "with check and fingerprint"
    print(f"| rows | own memory, MiB | with mapped pages, MiB | load, s | {whole}, s |")
    print("|---|---|---|---|---|")
    for rows in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder), rows, images=given.images)
            command = [sys.executable, __file__, "--measure", str(path), *(["--label"] if given.label else [])]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603
            made = json.loads(told.splitlines()[-1])
        load_seconds = "" if given.label else f"{made['load']:.0f}"
        cells = [f"{made['rows']:,}", f"{made['RssAnon']:.0f}", f"{made['VmRSS']:.0f}"]
        print("| " + " | ".join([*cells, load_seconds, f"{made['seconds']:.0f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
