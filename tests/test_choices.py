"""What is installed is named where a name is asked for: in the help, in completion, and with its options."""

import json
import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import Field, create_model

from mint_core.cli.inspect import type_in_words
from mint_core.config import RunConfig
from mint_core.plugins import registry


def completed(mint, monkeypatch, line: str) -> list[str]:
    """What bash is offered where a line ends."""
    words = line.split(" ")
    monkeypatch.setenv("_MINT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    answer = mint()
    assert answer.err == ""
    return [one.removeprefix("plain,") for one in answer.out.splitlines()]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mint run --teacher p", ["plip"]),
        ("mint run --teacher PL", ["plip"]),
        ("mint run --task ", ["rare-disease", "table", "tissue-type"]),
        ("mint run --aligner mult_", ["mult-dpo"]),
        ("mint run --aligner n", ["none"]),
        ("mint prefer --strategy near", ["near-miss"]),
        ("mint run --metric h", ["hfa"]),
        ("mint predict --retriever h", ["hpo"]),
        ("mint run --teacher plip --source ", ["folder", "pannuke", "simulated"]),
        ("mint run --task rare_disease --source p", ["phenopackets"]),
        ("mint run --source pa", ["pannuke", "parquet"]),
        ("mint compare --aligners base,sf", ["base,sft"]),
        ("mint compare --aligners h", ["hybrid", "hybrid-fused"]),
        ("mint run --until p", ["prefer", "predict"]),
        ("mint plugins orp", ["orpo"]),
        ("mint plugins trl-s", ["trl-sft"]),
    ],
)
def test_a_shell_completes_what_is_installed(mint, monkeypatch, line: str, offered: list[str]) -> None:
    assert completed(mint, monkeypatch, line) == offered


def test_a_plugin_that_comes_is_offered_and_a_broken_one_breaks_nothing(install_plugin, mint, monkeypatch) -> None:
    install_plugin("mint-more", "more_metrics", METRIC)
    install_plugin("mint-broken", "broken_plugin", "raise RuntimeError('no')")
    assert completed(mint, monkeypatch, "mint run --metric m") == ["more"]
    monkeypatch.delenv("_MINT_COMPLETE")
    assert "more" in " ".join(mint("run", "--help").out.split("--metric")[1].split()[:20])
    answer = mint("plugins", "more")  # another plugin's trouble is not what was asked for
    assert (answer.code, "It has no options." in answer.out) == (0, True), answer.err


METRIC = '''
from mint_core.plugin import Metric, hookimpl

class More(Metric):
    """Says more."""
    name = "more"
    def score(self, sample):
        return 1.0

@hookimpl
def mint_metrics():
    return [More]
'''


@pytest.mark.parametrize("command", ["run", "label", "plan", "compare", "predict"])
def test_help_lists_the_names(mint, command: str) -> None:
    said = "".join(mint(command, "--help").out.split())  # lines break behind hyphens
    for kind in ("task", "retriever"):
        assert f"Here:{','.join(registry().names(kind))}." in said
    for name in ("pannuke", "phenopackets"):
        assert name in said
    if command != "predict":
        for kind in ("teacher", "aligner", "strategy", "metric"):
            assert all(name in said for name in registry().names(kind))


def test_help_and_completion_import_no_torch() -> None:
    code = (
        "import os, sys\nfrom mint_core.cli import main\n"
        "for given in (['run', '--help'], ['compare', '--help'], ['plugins', 'orpo'], ['runs']):\n"
        "    try:\n        main(given)\n    except SystemExit as stop:\n        assert not stop.code\n"
        "os.environ.update(_MINT_COMPLETE='bash_complete', COMP_WORDS='mint run --teacher ', COMP_CWORD='3')\n"
        "try:\n    main([])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_options_are_shown_for_people(mint) -> None:
    answer = mint("plugins", "ORPO")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("aligner orpo (mint-core ")
    assert "Set one with --set aligner.NAME=VALUE" in answer.out
    said = " ".join(answer.out.replace("│", " ").split())
    config = registry().get("aligner", "orpo").component.Config
    for name, field in config.model_fields.items():
        assert name in said and field.description.split()[0] in said
    assert "icml, arxiv or scripts" in said and "whole number from 1 to" in said
    (told,) = json.loads(mint("plugins", "orpo", "--json").out)["components"]
    assert [field["name"] for field in told["fields"]] == list(config.model_fields)
    assert next(field["type"] for field in told["fields"] if field["name"] == "nll") == "response or all"
    unknown = mint("plugins", "orpp")
    assert (unknown.code, "did you mean 'orpo'" in unknown.err) == (2, True)


def test_types_in_words() -> None:
    fields = create_model(
        "Options",
        a=(int | None, Field(None, ge=1, le=100_000)),
        b=(float, Field(0.1, gt=0, lt=1)),
        c=(Literal["x", "y", "z"] | None, None),
        d=(tuple[str, ...], ()),
        e=(dict[str, int], {}),
        f=(tuple[Annotated[int, Field(ge=1)], ...] | bool, True),
        g=(float, Field(0.5, ge=0.25)),
    ).model_fields
    assert [type_in_words(field) for field in fields.values()] == [
        "whole number from 1 to 100,000 or null", "number above 0 below 1", "x, y or z or null", "list of text",
        "mapping", "list of whole number or true or false", "number from 0.25",
    ]  # fmt: skip
    assert all(type_in_words(field) for one in registry().all() for field in one.component.Config.model_fields.values())
    assert type_in_words(RunConfig.model_fields["student"]) == "StudentConfig"
