"""Discovery: isolated, sorted, strict, torch-free."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mint_core import hookspecs
from mint_core.errors import ConfigError, PluginError
from mint_core.plugins import SEAMS, canonical, discover, registry

GOOD = '''
from mint_core import hookimpl
from mint_core.interfaces import ComponentConfig, Metric

class Undescribed(ComponentConfig):
    w: int = 1

class Half(Metric):
    """Scores one half."""
    name = "{name}"
    def score(self, sample):
        return 0.5

@hookimpl
def mint_metrics():
    return [Half]
'''


def test_there_are_six_hooks_in_pipeline_order() -> None:
    hooks = [name for name, value in vars(hookspecs).items() if hasattr(value, "mint_spec")]
    assert hooks == [hook for hook, _ in SEAMS.values()]
    assert len(hooks) == 6
    assert all(inspect.signature(getattr(hookspecs, hook)).parameters == {} for hook in hooks)


def test_builtins_come_through_the_hooks(install_plugin) -> None:
    found = registry()
    assert {"listwise"} <= set(found.names("strategy"))
    assert found.get("aligner", "orpo").distribution == "mint-core"


def test_discovery_imports_no_torch() -> None:
    code = (
        "import sys; from mint_core.plugins import registry; r = registry();"
        "assert r.names('teacher'); bad = {'torch','transformers','open_clip'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_broken_import_is_named_and_the_others_work(install_plugin, mint) -> None:
    install_plugin("mint-good", "mint_good", GOOD.format(name="half"))
    install_plugin("mint-broken", "mint_broken", "import a_library_that_is_not_there\n")
    assert registry().get("metric", "half").distribution == "mint-good"
    answer = mint("plugins")
    assert answer.code == 3
    assert "mint-broken" in answer.out
    assert "a_library_that_is_not_there" in answer.err
    assert "half" in answer.out
    assert mint("config", "show", "--task", "tissue-type").code == 0
    assert "mint-broken" in mint("run", "--task", "tissue-type", "--metric", "nothing").err


def test_a_plugin_that_exits_on_import_does_not_take_mint_down(install_plugin) -> None:
    install_plugin("mint-exits", "mint_exits", "raise SystemExit(1)\n")
    assert [broken.distribution for broken in registry().broken] == ["mint-exits"]


def test_one_name_from_two_distributions_names_both(install_plugin, mint) -> None:
    install_plugin("mint-one", "mint_one", GOOD.format(name="half"))
    install_plugin("mint-two", "mint_two", GOOD.format(name="half"))
    with pytest.raises(PluginError, match="mint-one and mint-two"):
        registry().get("metric", "half")
    assert mint("plugins").code == 3
    assert mint("run", "--task", "tissue-type", "--metric", "half").code == 3
    registry().get("aligner", "orpo")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (GOOD.format(name="half").replace("mint_metrics", "mint_metrix"), "mint_metrix"),
        (GOOD.format(name="Half Score"), "lower-case"),
        (
            GOOD.format(name="half").replace("def score(self, sample):", "def scores(self, sample):"),
            "does not implement score",
        ),
        (GOOD.format(name="half").replace("[Half]", "[int]"), "no subclass of Metric"),
        ("X = 1\n", "no function marked @hookimpl"),
        (
            GOOD.format(name="half").replace(
                'name = "half"',
                'name = "half"\n    Config = Undescribed',
            ),
            "has no description",
        ),
    ],
)
def test_a_plugin_that_breaks_the_rules_is_refused_with_its_reason(install_plugin, source: str, reason: str) -> None:
    install_plugin("mint-wrong", "mint_wrong", source)
    (broken,) = registry().broken
    assert broken.distribution == "mint-wrong"
    assert reason in broken.reason


def test_the_switch_selects_distributions(install_plugin, monkeypatch) -> None:
    install_plugin("mint-good", "mint_good", GOOD.format(name="half"))
    monkeypatch.setenv("MINT_PLUGINS", "")
    registry.cache_clear()
    assert registry().names("metric") == []
    assert registry().names("aligner") != []
    monkeypatch.setenv("MINT_PLUGINS", "Mint_Good, mint-absent")
    registry.cache_clear()
    assert registry().names("metric") == ["half"]
    assert [broken.distribution for broken in registry().broken] == ["mint-absent"]


def test_results_are_sorted_and_do_not_depend_on_the_order_of_entry_points(install_plugin) -> None:
    from importlib.metadata import entry_points

    install_plugin("mint-b", "mint_b", GOOD.format(name="zeta"))
    install_plugin("mint-a", "mint_a", GOOD.format(name="alpha"))
    points = list(entry_points(group="mint"))
    forwards, backwards = discover(points, None), discover(reversed(points), None)
    assert [r.component.name for r in forwards.all()] == [r.component.name for r in backwards.all()]
    names = [r.component.name for r in forwards.all("metric")]
    assert names == sorted(names)


def test_unknown_names_get_a_hint(install_plugin) -> None:
    with pytest.raises(ConfigError, match="did you mean 'orpo'"):
        registry().get("aligner", "orpp")


def test_plugins_as_json_lists_every_config_field(install_plugin, mint) -> None:
    answer = mint("plugins", "--json")
    listed = json.loads(answer.out)["components"]
    orpo = next(c for c in listed if c["component"] == "orpo")
    assert orpo["kind"] == "aligner"
    assert {"weight", "nll", "learning_rate"} <= {field["name"] for field in orpo["fields"]}
    assert len(listed) >= 8
    assert all(field["description"] for component in listed for field in component["fields"])


def test_canonical_names() -> None:
    assert canonical("Mint_Good.Plugin") == "mint-good-plugin"


def test_the_core_knows_no_component_by_name() -> None:
    """No comparison with a component's name anywhere in the core's code."""
    names = {r.component.name for r in registry().all()}
    core = Path(hookspecs.__file__).parent
    checked = 0
    for path in core.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                checked += 1
                constants = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
                assert not constants & names, f"{path.name}:{node.lineno}"
    assert checked > 100


@pytest.mark.parametrize("command", [[], ["compare"], ["sweep"], ["predict"]])
def test_help_shows_examples_line_by_line(mint, command) -> None:
    said = mint(*command, "--help").out
    assert "\\b" not in said
    assert any(line.strip().startswith(("mint ", "Try it:")) for line in said.splitlines()[1:])


def test_the_code_of_an_editable_plugin_decides_its_results(install_plugin, tmp_path: Path) -> None:
    from mint_core import plugins
    from mint_core.config import configured

    def identity() -> dict:
        plugins.registry.cache_clear()
        plugins._digest_of_code.cache_clear()
        return configured("teacher", {"name": "oracle"}, plugins.registry()).identity()

    source = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
    install_plugin("mint-toy", "toy_of_code", source)
    module = tmp_path / "site" / "toy_of_code.py"
    installed = identity()
    module.write_text(source + "# edited\n", encoding="utf-8")
    assert identity() == installed  # a version tells what is installed for good
    record = tmp_path / "site" / "mint_toy-1.0.dist-info" / "direct_url.json"
    record.write_text('{"url": "file:///toy", "dir_info": {"editable": true}}')
    editable = identity()
    assert editable["code"]
    assert identity() == editable
    module.write_text(source, encoding="utf-8")
    assert identity()["code"] not in ("", editable["code"])
    record.write_text("damaged")
    assert identity() == installed
