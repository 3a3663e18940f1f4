"""What contributors are told: files that other programs read are valid, and name what there is."""

import re
import tomllib
from pathlib import Path

import yaml

import mint_core.testing
from mint_core.plugins import SEAMS
from mint_core.report.citing import how_to_cite

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))


def read(name: str):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_citation_has_what_the_format_asks_for() -> None:
    """https://github.com/citation-file-format/citation-file-format, schema 1.2.0: required keys, and no others."""
    cited = read("CITATION.cff")
    assert (cited["cff-version"], cited["type"]) == ("1.2.0", "software")
    known = {"cff-version", "message", "type", "title", "abstract", "authors", "version", "license", "keywords"}
    assert set(cited) == known | {"references"}
    assert cited["authors"] == [{"name": "mint contributors"}]
    assert (cited["version"], cited["license"]) == (PROJECT["version"], PROJECT["license"])
    (paper,) = cited["references"]
    assert set(paper) == {"type", "title", "authors", "year", "identifiers"}
    assert all(set(author) == {"family-names", "given-names"} for author in paper["authors"])
    assert all(one["type"] in ("doi", "url", "swh", "other") for one in paper["identifiers"])
    (reference,) = (line for line in how_to_cite(set(), preserved=False) if paper["title"] in line)
    assert f"{paper['identifiers'][0]['value'].replace(':', ' ')} ({paper['year']})" in reference


def test_the_public_workflow_calls_the_targets_of_the_makefile() -> None:
    workflow = read(".github/workflows/ci.yml")
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    called = {target for step in steps for target in re.findall(r"^make (\w+)$", step.get("run", ""), re.M)}
    own = set(re.findall(r"^make (\w+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M))
    assert own <= called <= TARGETS
    versions = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f">={versions[0]}" == PROJECT["requires-python"]


def test_the_hooks_before_a_commit_are_those_of_make_check() -> None:
    (repo,) = read(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    entries = {hook["entry"].removeprefix(".venv/bin/") for hook in repo["hooks"]}
    checks = re.findall(r"^\t\$\(BIN\)/(.+)$", MAKEFILE.partition("\ncheck:")[2].partition("\n\n")[0], re.M)
    assert entries == {re.sub(r" \.$", "", check) for check in checks}
    assert all(hook["language"] == "system" and hook["types"] == ["python"] for hook in repo["hooks"])


def test_the_changelog_begins_with_the_version_at_hand() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert versions[0] == PROJECT["version"]


def test_contributing_tells_of_each_kind_of_component_where_it_is_and_what_checks_it() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [row.split(" | ") for row in re.findall(r"^\| (.+) \|$", page, re.M)[1:]]
    assert len(rows) == len(SEAMS)
    for (kind, base, seen, registered, checks), (seam, (hook, interface)) in zip(rows, SEAMS.items(), strict=True):
        assert kind.split()[-1] == seam
        assert interface.__name__ in base
        for path in re.findall(r"`((?:mint_core|plugins)/[\w/.]+)`", seen + registered):
            assert (ROOT / path).exists(), path
        assert hook in registered or "builtin.py" in registered or "plugin.py" in registered
        assert hasattr(mint_core.testing, checks.strip("`")), checks
    assert set(re.findall(r"^    make (\w+)", page, re.M)) <= TARGETS
