"""Embeddings through a tiny BERT on disk, and the search over them."""

from __future__ import annotations

import builtins
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mint_core.errors import ConfigError, ModelError
from mint_core.interfaces import Context
from mint_core.types import Sample
from mint_rag import embeddings
from mint_rag.documents import Documents, DocumentsConfig
from mint_rag.embeddings import Embeddings
from mint_rag.hpo import Hpo, HpoConfig

needs_embeddings = pytest.mark.skipif(
    find_spec("sentence_transformers") is None, reason="the extra mint-rag[embeddings] is not installed"
)
WORDS = (
    "long",
    "fingers",
    "lens",
    "seizure",
    "short",
    "stature",
    "fissure",
    "palpebral",
    "syndrome",
    "marfan",
    "kabuki",
)
PASSAGES = ["long fingers lens", "seizure short stature", "palpebral fissure", "marfan syndrome"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT of random weights as a sentence-transformers folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=32)
    whole = SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu")
    whole.save(str(folder / "model"))
    return str(folder / "model")


@needs_embeddings
def test_scores_are_cosines_and_the_index_is_kept(model: str, tmp_path: Path) -> None:
    counts: list[int] = []
    index = Embeddings(PASSAGES, tmp_path, model, 2, counts.append)
    assert sum(counts) == len(PASSAGES)
    scores = index.scores(["palpebral fissure", "long fingers lens"])
    assert scores.dtype == np.float32
    assert scores.shape == (2, 4)
    assert scores[0, 2] == pytest.approx(1, abs=1e-5)
    assert scores.argmax(1).tolist() == [2, 0]
    assert ((scores >= 0) & (scores <= 1 + 1e-6)).all()
    again = Embeddings(PASSAGES, tmp_path, model, 2, counts.append)
    assert sum(counts) == len(PASSAGES)
    np.testing.assert_array_equal(scores, again.scores(["palpebral fissure", "long fingers lens"]))


@needs_embeddings
def test_other_weights_get_another_index(model: str, tmp_path: Path) -> None:
    import shutil

    Embeddings(PASSAGES, tmp_path / "c", model, 2, lambda _: None)
    shutil.copytree(model, tmp_path / "other")
    (tmp_path / "other" / "README.md").write_text("changed", encoding="utf-8")
    Embeddings(PASSAGES, tmp_path / "c", str(tmp_path / "other"), 2, lambda _: None)
    assert len(list((tmp_path / "c").iterdir())) == 2


@needs_embeddings
def test_passages_and_what_is_asked_are_embedded_by_the_same_commit_of_the_hub(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new commit gets another index; one that comes while a search goes on waits for the next."""
    import shutil

    from safetensors.torch import load_file, save_file

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--lab--bert"
    old, new = "a" * 40, "b" * 40
    for commit, sign in ((old, 1), (new, -1)):
        snapshot = Path(shutil.copytree(model, repository / "snapshots" / commit))
        weights = load_file(snapshot / "model.safetensors")
        changed = {name: sign * one if "word_embeddings" in name else one for name, one in weights.items()}
        save_file(changed, snapshot / "model.safetensors", metadata={"format": "pt"})
    (repository / "refs").mkdir()
    main = repository / "refs" / "main"

    main.write_text(old)
    first = Embeddings(PASSAGES, tmp_path / "c", "lab/bert", 2, lambda _: None).scores(PASSAGES)
    counts: list[int] = []
    begun = Embeddings(PASSAGES, tmp_path / "c", "lab/bert", 2, counts.append)  # loads the model when it is asked
    main.write_text(new)
    np.testing.assert_array_equal(begun.scores(PASSAGES), first)
    assert counts == []
    second = Embeddings(PASSAGES, tmp_path / "c", "lab/bert", 2, counts.append).scores(PASSAGES)
    assert sum(counts) == len(PASSAGES)
    for scores in (first, second):
        np.testing.assert_allclose(np.diag(scores), 1, atol=1e-5)
    assert np.abs(first - second).max() > 0.01


@needs_embeddings
@pytest.mark.skipif(find_spec("faiss") is None, reason="the extra mint-rag[faiss] is not installed")
def test_faiss_finds_what_numpy_finds(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_numpy = Embeddings(PASSAGES, tmp_path, model, 2, lambda _: None).scores(["long fingers"])
    monkeypatch.setattr(embeddings, "LARGEST_FOR_NUMPY", 3)
    np.testing.assert_allclose(
        Embeddings(PASSAGES, tmp_path, model, 2, lambda _: None).scores(["long fingers"]), by_numpy, atol=1e-5
    )
    monkeypatch.setattr(embeddings, "DEPTH", 1)
    shallow = Embeddings(PASSAGES, tmp_path, model, 2, lambda _: None).scores(["long fingers"])
    assert np.count_nonzero(shallow) == 1
    assert shallow.argmax() == by_numpy.argmax()


def test_many_passages_need_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_faiss(name: str, *rest: object, **more: object) -> object:
        if name == "faiss":
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    assert embeddings._faiss(100_000) is None
    with pytest.raises(ConfigError, match=r"Embeddings of 100,001 passages .* pip install 'mint-rag\[faiss\]'"):
        embeddings._faiss(100_001)


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mint-rag\[embeddings\]'"):
        Embeddings(PASSAGES, tmp_path, "model", 2, lambda _: None)


@needs_embeddings
def test_a_model_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"The embedding model '.*empty' cannot be loaded; check"):
        Embeddings(PASSAGES, tmp_path / "c", str(tmp_path / "empty"), 2, lambda _: None)
    assert list((tmp_path / "c").iterdir()) == []


@needs_embeddings
@pytest.mark.parametrize("method", ["embeddings", "fusion"])
def test_documents_by_embeddings(method: str, model: str, labels, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"Marfan syndrome": "long fingers lens", "Kabuki syndrome 1": "palpebral fissure"}))
    retriever = Documents(DocumentsConfig(path=path, method=method, model=model))  # type: ignore[arg-type]
    retriever.context = Context(labels=labels, cache=tmp_path / "cache")
    retriever.build()
    samples = [Sample("s", "test", text="Kabuki syndrome 1. palpebral fissure")]
    assert retriever.retrieve(samples)[0][0].label == "Kabuki syndrome 1"
    scores = retriever.label_scores(samples)
    assert scores is not None
    assert scores[0].argmax() == 1
    assert np.isfinite(scores[0]).tolist() == [True, True, False, False, False]


@needs_embeddings
def test_hpo_embeds_only_what_it_retrieves(model: str, labels, cache: Path, patients) -> None:
    counts: list[int] = []
    options = HpoConfig(method="embeddings", model=model)
    Hpo(HpoConfig(method="phenotype"), Context(labels=labels, cache=cache)).build()
    retriever = Hpo(options)
    retriever.context = Context(labels=labels, cache=cache, advance=counts.append)
    retriever.build()
    assert sum(counts) == 4
    scores = retriever.label_scores(patients)
    assert scores is not None
    assert np.isfinite(scores[:, :-1]).all()


@needs_embeddings
def test_weights_count_where_they_are_used(model: str, tmp_path: Path) -> None:
    import shutil

    other = str(shutil.copytree(model, tmp_path / "other"))
    (tmp_path / "other" / "model.safetensors").write_bytes(b"other weights")
    cases = ((Hpo, HpoConfig, {}), (Documents, DocumentsConfig, {"path": tmp_path}))
    for retriever, options, given in cases:
        used = [
            retriever.fingerprint(options(method="embeddings", model=one, **given)) for one in (model, model, other)
        ]
        assert used[0] == used[1] != used[2]
        unused = [retriever.fingerprint(options(method="bm25", model=one, **given)) for one in (model, other)]
        assert unused[0] == unused[1]
    assert Hpo.fingerprint(HpoConfig()).startswith("hpo3 ")
