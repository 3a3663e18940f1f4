import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from mint_core.interfaces import Metric
from mint_core.plugins import discover, registry
from mint_metrics.plugin import mint_metrics

NAMES = {"hfa", "top-n", "top-1", "car"}
METRICS = [pytest.param(metric, id=metric.name) for metric in mint_metrics()]
README = Path(__file__).parents[1] / "README.md"


def test_the_four_metrics_are_registered():
    found = registry()
    mine = {one.component.name: one for one in found.all("metric") if one.distribution == "mint-metrics"}
    assert set(mine) == NAMES
    assert not [broken for broken in found.broken if broken.distribution == "mint-metrics"]
    for name in NAMES:
        assert found.get("metric", name).component is mine[name].component


def test_the_switch_leaves_them_out():
    from importlib.metadata import entry_points

    points = [point for point in entry_points(group="mint") if point.value == "mint_metrics.plugin"]
    assert len(points) == 1
    assert set(discover(points, None).names("metric")) == NAMES
    assert discover(points, "").names("metric") == []


@pytest.mark.parametrize("metric", METRICS)
def test_what_a_reader_needs_is_there(metric: type[Metric]):
    assert metric.version == "1"
    assert "Source:" in metric.__doc__
    assert metric.Config.__qualname__.endswith(".Config")
    assert len(metric.Config.model_fields) == 1
    assert all(field.description for field in metric.Config.model_fields.values())
    assert metric().title(5)
    rule = metric().rule()
    assert rule.endswith(".")
    assert "\n" not in rule


@pytest.mark.parametrize("metric", METRICS)
def test_unknown_options_are_refused(metric: type[Metric]):
    with pytest.raises(ValidationError):
        metric.Config(no_such_option=1)


@pytest.mark.parametrize("metric", METRICS)
def test_scores_lie_in_range_and_leave_the_sample_alone(metric: type[Metric], sample, tissues):
    ranked = {"top": tissues.names[:3], "bottom": tissues.names[-3:]}
    one = metric()
    for given in (
        sample("Colon", "Lung", **ranked),
        sample(*tissues.names, **ranked),
        sample("Quux", "Quux", "???", **ranked),
        sample(text="", n=5, **ranked),
        sample(text="1. " + "x" * 3000, n=5, **ranked),
    ):
        before = copy.deepcopy(given)
        value = one.score(given)
        assert value is not None
        assert 0 <= value <= 1
        assert one.score(given) == value
        assert given == before


def test_discovery_imports_no_torch():
    code = "import sys, mint_metrics.plugin as p; p.mint_metrics(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_readmes_example_prints_what_it_says():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    told = re.findall(r"print\(.*\)  # (.+)", code)
    assert len(told) >= 4
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines() == told
