"""What a stage says while it works, on a terminal and where there is none."""

import io

import pytest

from mint_core.cli import progress
from mint_core.cli.progress import Terminal
from mint_core.cli.screen import Screen


def test_the_time_left_counts_from_the_second_piece_of_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """100 s of fitting and 40 s of loading, or work that an earlier command did, say nothing about what is left."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Terminal() as terminal:
        terminal.stage("label", reused=False)
        for now[0], done in ((100.0, 50), (140.0, 51), (160.0, 61), (161.0, 62)):
            terminal.progress(done, 150, "samples")
        terminal.stage("predict", reused=False)
        for now[0], done in ((200.0, 10), (240.0, 15)):
            terminal.progress(done, 20, "samples")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[1].split()[1] for line in lines if "left" in line] == ["178"]  # 89 samples, 2 s each


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_says_what_its_time_means_and_fits(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown: list[str] = []
    terminal = Terminal()
    terminal.console = Screen(file=io.StringIO(), force_terminal=True, width=width, color_system=None, emoji=False)
    with terminal:
        terminal.bar.get_time = lambda: now[0]
        terminal.stage("predict", reused=False)
        for now[0], done in ((53.0, None), (60.0, 0), (100.0, 32), (110.0, 64)):
            if done is not None:
                terminal.progress(done, 1140, "responses", {"loss": 0.5})
            drawn = io.StringIO()
            Screen(file=drawn, width=width, emoji=False).print(terminal.bar.get_renderable())
            shown.append(drawn.getvalue())
    assert "0:00:53 so far" in shown[0] and "?" not in shown[0] and "eta" not in shown[0]
    assert "left" not in shown[1] + shown[2]
    assert "64/1140 responses" in shown[3] and "0:05:36 left" in shown[3]  # 1076 of 32 in 10 s
    for bar in shown:
        assert len(bar.splitlines()) == 1 and len(bar.rstrip("\n")) <= width
