"""Students named by a hub id: the commit decides, and refusals say what to do. Nothing here asks a network."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from mint_core.students.load import explain_load_failure, fingerprint, hub_commit

NEW, OLD = "b" * 40, "a" * 40


class Hub:
    """Answers like the hub."""

    asked = 0

    def model_info(self, source: str, revision: str | None = None):
        Hub.asked += 1
        return type("Info", (), {"sha": NEW})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and what a download leaves in it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)

    def download(commit: str) -> None:
        repo = tmp_path / "models--org--student"
        (repo / "snapshots" / commit).mkdir(parents=True)
        (repo / "snapshots" / commit / "config.json").write_text("{}")
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(commit)

    return download


def test_a_download_does_not_change_the_key(cache) -> None:
    before = fingerprint("org/student")
    cache(NEW)
    assert before == fingerprint("org/student") == f"org/student@{NEW}"


def test_what_lies_in_the_cache_is_used_and_nobody_is_asked(cache) -> None:
    cache(OLD)
    Hub.asked = 0
    assert hub_commit("org/student", None) == OLD
    assert Hub.asked == 0


def test_without_network_the_revision_stands(cache, monkeypatch) -> None:
    def offline(*_, **__):
        raise OfflineModeIsEnabled("offline")

    monkeypatch.setattr(Hub, "model_info", offline)
    assert hub_commit("org/student", "v2") == "v2"
    assert fingerprint("org/student") == "org/student@main"


def test_folders_have_no_commit(tmp_path) -> None:
    assert hub_commit(str(tmp_path), None) is None


@pytest.mark.parametrize(
    ("kind", "said"), [(GatedRepoError, "is gated; ask for access"), (RepositoryNotFoundError, "check the spelling")]
)
def test_refusals_of_the_hub_are_told_apart(kind, said) -> None:
    response = SimpleNamespace(headers={}, request=None)
    try:
        raise OSError("whatever transformers says") from kind("no", response=response)
    except OSError as error:
        assert said in explain_load_failure("student", "org/student", error)
    assert "cannot be reached" in explain_load_failure("student", "org/student", OSError("timeout"))
