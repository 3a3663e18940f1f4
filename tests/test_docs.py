"""The docs: a site that builds strictly and fetches nothing, pages that exist, sentences that the code really says."""

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from mint_core import errors
from mint_core.errors import EXIT_CODES, INTERRUPTED

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
CODE = [path for root in ("mint_core", "plugins") for path in (ROOT / root).rglob("*.py") if "tests" not in path.parts]
ANY = "…"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocstrings_handlers.python", reason="the site needs `pip install 'mint-core[docs]'`")
    pytest.importorskip("material", reason="the site needs `pip install 'mint-core[docs]'`")
    folder = tmp_path_factory.mktemp("site")
    told = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return folder


def test_the_site_has_every_page_and_fetches_nothing(site: Path) -> None:
    pages = {str(page.relative_to(site).with_suffix(".md")) for page in site.rglob("*.html")} - {"404.md"}
    assert pages == set(PAGES)
    for page in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(https?://[^\" >]+)", page.read_text())
        assert fetched == [], page
    assert not (site / "generated.py").exists()


def test_the_reference_is_made_from_the_code(site: Path) -> None:
    options = (site / "reference" / "options.html").read_text(encoding="utf-8")
    assert "Precision of the weights; auto = bf16 on a GPU, fp32 on a CPU." in options  # of the config
    assert options.count("<table>") >= 20
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "mint config show" in commands
    assert "--target-precision" in commands
    interfaces = (site / "reference" / "interfaces.html").read_text(encoding="utf-8")
    assert "ids are unique; every label is in the label space" in interfaces  # clause 1 of a task
    assert "::: mint_core" not in interfaces


def test_programs_find_every_page_in_llms_txt(site: Path) -> None:
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): .+$", (site / "llms.txt").read_text(encoding="utf-8"), re.M)
    assert {page.removesuffix(".html") + ".md" for page in listed} == set(PAGES) - {"index.md"}
    assert all((site / page).is_file() for page in listed)


def test_every_page_that_a_text_names_exists() -> None:
    texts = [*CODE, ROOT / "README.md", ROOT / "Makefile", *ROOT.glob("*.md"), *(ROOT / "plugins").glob("*/README.md")]
    texts += [*(ROOT / "experiments").rglob("*.yaml"), *(ROOT / "examples").rglob("*.md"), *DOCS.rglob("*.md")]
    named: defaultdict[str, list[Path]] = defaultdict(list)
    for path in texts:
        for page in re.findall(r"(?<![\w/.-])docs/([\w/-]+\.md)", path.read_text(encoding="utf-8")):
            named[page].append(path)
    assert len(named) >= 15
    assert {page: paths for page, paths in named.items() if page not in PAGES} == {}


def test_links_between_files_of_the_repository_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "plugins").glob("*/README.md"), *(ROOT / "examples").rglob("*.md")]
    for page in [*pages, *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), (page, target)


def sentences() -> dict[str, set[str]]:
    """What each class of errors says where it is made in one place, with `…` for values."""

    def told(node: ast.AST) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(part.value if isinstance(part, ast.Constant) else ANY for part in node.values)
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""

    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                found[node.func.id].add(re.sub(f"{ANY}+", ANY, told(node.args[0])))
            elif isinstance(node, ast.Yield) and node.value is not None:  # reasons why a plugin is refused
                found["PluginError"].add(told(node.value))
    return found


def test_troubleshooting_tells_of_every_exit_code_what_the_code_says() -> None:
    page = (DOCS / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## Exit code (\d+): .+\n((?:(?!^## ).*\n)*)", page, re.M))
    titles = dict(re.findall(r"^## Exit code (\d+): (.+)$", page, re.M))
    assert {int(code): title for code, title in titles.items()} == {k: v for k, v in EXIT_CODES.items() if k}
    named = {kind.exit_code: name for name, kind in vars(errors).items() if hasattr(kind, "exit_code")}
    known, checked, unknown = sentences(), 0, []
    for code, section in sections.items():
        if int(code) == INTERRUPTED:
            continue
        rows = [row.split(" | ")[0].removeprefix("| ") for row in section.split("\n") if row.startswith("| ")]
        for symptom in (row.strip("`") for row in rows if row.startswith("`") and row.endswith("`")):
            checked += 1
            if not any(symptom in said for said in known[named[int(code)]]):
                unknown.append((code, symptom))
    assert unknown == []
    assert checked >= 30
