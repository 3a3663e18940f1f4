"""What a stage says where there is no terminal."""

import pytest

from mint_core.cli import progress
from mint_core.cli.progress import Terminal


def test_the_time_left_counts_from_the_first_piece_of_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """100 s of fitting, or of work that an earlier command did, say nothing about the 90 pieces that are left."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Terminal() as terminal:
        terminal.stage("label", reused=False)
        now[0] = 100.0
        terminal.progress(50, 150, "samples")
        now[0] = 120.0
        terminal.progress(60, 150, "samples")
        terminal.stage("predict", reused=False)
        now[0] = 150.0
        terminal.progress(10, 20, "samples")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[1].split()[1] for line in lines if "left" in line] == ["180"]
