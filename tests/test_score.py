"""decode=score: every label of the space by likelihood, for every architecture."""

import dataclasses
import gc
import math
import weakref
from functools import partial, reduce
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import mint_core
from mint_core.answering import branches
from mint_core.answering.engine import Asking
from mint_core.answering.generate import stop_tokens
from mint_core.answering.score import label_tokens, score, with_rows, with_tries
from mint_core.answering.scores import rank, read_student_rankings
from mint_core.answering.transformers import TransformersEngine
from mint_core.answering.trie import Candidates, candidates, common, tries
from mint_core.config import PredictConfig, StudentConfig
from mint_core.errors import DataError
from mint_core.files import read_lines
from mint_core.interfaces import Student
from mint_core.students.encoding import EncodedPrompt, append_response, encode_prompt
from mint_core.students.load import load_student
from mint_core.students.prompts import write_response
from mint_core.testing.student import LLAMA_SPECIAL, LLAMA_TEMPLATE
from mint_core.types import ImageRef, LabelSpace, Message, Prompt
from tests.tiny_students import ARCHITECTURES, CORPUS, HEADER, build

LABELS = LabelSpace(("Colon", "Colon cancer", "Liver", "Bile duct", "Head and neck", "Skin, of the face"))
MANY = LabelSpace(
    (
        *LABELS.names, "Colon cancer, familial (type 2)", "Col", "Kidney", "Kidney; WBS", "Skin", "Skin-like", "Skinny",
        "Adrenal gland", "Adrenal gland & kidney", "\u00c9paule", "Testis 1", "Testis 11", "Testis 1-A", "B", "C",
    )
)  # fmt: skip

MARKED = LabelSpace(
    ("Skin (face)", "Skin (face) one", "Skin", "Liver", "St.", "St. John", 'Lobe "a"', 'Lobe "a" (b)', "Colon cancer")
)
"""Names that end in a mark, and names that go on behind it."""
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How Llama 3 cuts text; Qwen and GPT-4 do likewise: a mark and the line break behind it stay together."""
NAMED = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>"}


class Plain(ImageRef):
    """One colour."""

    def __init__(self, colour: tuple[int, int, int]) -> None:
        self.colour = colour

    @property
    def key(self) -> str:
        return str(self.colour)

    def open(self) -> Image.Image:
        return Image.new("RGB", (56, 56), self.colour)


def prompt(student: Student, text: str = "Patient one.", colour: tuple[int, int, int] = (200, 20, 120)) -> Prompt:
    image = Plain(colour) if student.reads_images else None
    return Prompt((Message("system", "Keep to the format."), Message("user", text)), image)


def with_words(student: Student, words: tf.PreTrainedTokenizerFast) -> Student:
    config = tf.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=len(words), max_position_embeddings=512, initializer_range=0.15,
    )  # fmt: skip
    torch.manual_seed(0)
    model = tf.LlamaForCausalLM(config).eval()
    return dataclasses.replace(student, model=model, processor=words, tokenizer=words)


def words_of_llama_3() -> tf.PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(Regex(LLAMA_3), "isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    raw.decoder = decoders.ByteLevel()
    texts = [*CORPUS, *(f"{name}\n2. {name}\n" for name in MARKED.names * 20)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    raw.add_special_tokens(list(LLAMA_SPECIAL))
    words = tf.PreTrainedTokenizerFast(tokenizer_object=raw, **NAMED)
    words.chat_template = LLAMA_TEMPLATE
    return words


def learn(student: Student, asked: Prompt, written: list[int]) -> None:
    """Until the student writes this, and nearly nothing else."""
    encoded = encode_prompt(student, "p", asked)
    row = append_response(encoded, written)
    targets = row["input_ids"].clone()
    targets[:, : encoded.length] = -100
    steps = torch.optim.Adam(student.model.parameters(), 1e-2)
    for _ in range(40):
        loss = student.model(**row, labels=targets).loss
        steps.zero_grad()
        loss.backward()
        steps.step()
    assert float(loss.detach()) < 0.05


def written_out(student: Student, name: str, end_of_turn: str) -> list[list[int]]:
    """Both ways to write an entry: up to the end of the turn, and up to the line break where the list goes on."""
    tokens = partial(student.tokenizer, add_special_tokens=False)
    alone = [*tokens(write_response(HEADER, (name,)) + end_of_turn)["input_ids"], student.tokenizer.eos_token_id]
    stops = stop_tokens(student, end_of_turn)
    stop = next(at for at, token in enumerate(alone) if token in stops)
    longer = tokens(write_response(HEADER, (name, "x")))["input_ids"]
    line = f"{write_response(HEADER, (name,))}\n"
    texts = (student.tokenizer.decode(longer[:count]) for count in range(len(longer) + 1))
    return [alone[: stop + 1], longer[: next(count for count, text in enumerate(texts) if text.startswith(line))]]


def by_hand(student: Student, asked: Prompt, name: str) -> float:
    """One forward pass of each whole text; what stands in front of the name is not counted."""
    encoded = encode_prompt(student, "p", asked)
    known = len(student.tokenizer(f"{HEADER}\n1.", add_special_tokens=False)["input_ids"])
    found = []
    for written in written_out(student, name, encoded.end_of_turn):
        with torch.inference_mode():
            log_p = student.model(**append_response(encoded, written)).logits[0].float().log_softmax(-1)
        found.append(sum(float(log_p[encoded.length + i - 1, written[i]]) for i in range(known, len(written))))
    return float(np.logaddexp.reduce(found))


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_scores_equal_those_of_one_pass_per_label(family: str, students) -> None:
    student = students(family)
    asked = prompt(student)
    [(sample_id, scores)] = score(student, {"p": asked}, LABELS, HEADER, batch_size=4)
    expected = [by_hand(student, asked, name) for name in LABELS.names]
    assert sample_id == "p"
    # What all labels share beyond the number of the entry is counted by hand only.
    assert scores - scores[0] == pytest.approx([value - expected[0] for value in expected], abs=5e-4)
    assert sum(math.exp(value) for value in scores) <= 1


def test_marks_joined_with_the_line_break(students) -> None:
    """`)` alone is no end of an entry where the end is written `)` and the end of the turn, or both in one token."""
    student = with_words(students("llama"), words_of_llama_3())
    asked = prompt(student)
    end = encode_prompt(student, "p", asked).end_of_turn
    known = candidates(student, MARKED, HEADER, end)
    joined = [name for name, ends in zip(MARKED.names, known.ends, strict=True) if max(map(len, ends)) > 1]
    assert joined == ["Skin (face)", "St.", 'Lobe "a"', 'Lobe "a" (b)']
    for name, tail, ends in zip(MARKED.names, known.tails, known.ends, strict=True):
        assert sorted([*known.shared, *tail, *one] for one in ends) == sorted(written_out(student, name, end))
    [(_, scores)] = score(student, {"p": asked}, MARKED, HEADER, batch_size=2)
    expected = np.array([by_hand(student, asked, name) for name in MARKED.names])
    assert scores - scores[3] == pytest.approx(expected - expected[3], abs=1e-4)


@pytest.mark.parametrize("longer", [False, True])
@pytest.mark.parametrize("name", ["Skin (face)", "Skin (face) one", "St. John", 'Lobe "a"', "Liver"])
def test_what_the_student_writes_comes_first_and_all_labels_sum_to_one(name: str, longer: bool, students) -> None:
    student = with_words(students("llama"), words_of_llama_3())
    asked = prompt(student)
    learn(student, asked, written_out(student, name, encode_prompt(student, "p", asked).end_of_turn)[longer])
    [(_, scores)] = score(student, {"p": asked}, MARKED, HEADER, batch_size=2)
    assert math.fsum(np.exp(scores.astype(np.float64))) <= 1 + 1e-4
    assert float(np.exp(scores[MARKED.names.index(name)])) > 0.7
    assert rank("p", scores, MARKED).ranking.labels[0] == name


@pytest.mark.parametrize("nodes", [512, 8])
def test_tries_equal_rows_where_ends_are_joined(nodes: int, students, monkeypatch) -> None:
    monkeypatch.setattr("mint_core.answering.score._MOST", nodes)
    monkeypatch.setattr("mint_core.answering.score._FEWEST", 1)
    tree, rows, known = both_ways(with_words(students("llama"), words_of_llama_3()), MARKED)
    assert len(known.branches.paths) > len(MARKED)
    assert float((tree - rows).abs().max()) < 1e-4


def test_ordinary_names_end_with_one_token(students) -> None:
    """The end of the turn or the line break, one behind the other in none: counted in one place of the trie."""
    student = with_words(students("llama"), words_of_llama_3())
    labels = LabelSpace(("Colon", "Colon cancer", "Liver"))
    known = candidates(student, labels, HEADER, "<|eot_id|>")
    either = sorted([student.tokenizer.convert_tokens_to_ids("<|eot_id|>"), *student.tokenizer("\n")["input_ids"]])
    assert [sorted(ends) for ends in known.ends] == 3 * [[[token] for token in either]]
    assert known.branches.paths == known.tails
    prompts = encoded(student)
    with torch.inference_mode():
        scores = with_tries(student, student.model, prompts, known, 8)
        for column, tail in enumerate(known.tails):
            written = [*known.shared, *tail]
            for row, one in enumerate(prompts):
                log_p = student.model(**append_response(one, written)).logits[0].float().log_softmax(-1)
                first = one.length + len(known.shared) - 1
                total = sum(float(log_p[first + i, token]) for i, token in enumerate(tail))
                assert float(scores[row, column]) == pytest.approx(
                    total + float(log_p[-1, either].logsumexp(0)), abs=1e-4
                )


def test_batches_and_company_do_not_matter(students) -> None:
    student = students("llama")
    prompts = {"a": prompt(student), "b": prompt(student, "Another patient, with a longer story.")}
    together = dict(score(student, prompts, LABELS, HEADER, batch_size=32))
    alone = dict(score(student, {"b": prompts["b"]}, LABELS, HEADER, batch_size=1))
    assert together["b"] == pytest.approx(alone["b"], abs=2e-5)
    assert abs(together["a"] - together["b"]).max() > 1e-6


def test_the_image_counts(students) -> None:
    student = students("llava")
    prompts = {"a": prompt(student), "b": prompt(student, colour=(10, 160, 60))}
    scores = dict(score(student, prompts, LABELS, HEADER, batch_size=32))
    assert abs(scores["a"] - scores["b"]).max() > 1e-6


def encoded(student: Student) -> list[EncodedPrompt]:
    """Prompts of three lengths: left padding in a batch."""
    texts = {"a": "One.", "b": "Patient two, with a longer text that goes on.", "c": "Three of them here."}
    colours = ((200, 20, 120), (10, 160, 60), (90, 90, 200))
    asked = zip(texts.items(), colours, strict=True)
    return [encode_prompt(student, name, prompt(student, text, colour)) for (name, text), colour in asked]


def both_ways(student: Student, labels: LabelSpace) -> tuple[torch.Tensor, torch.Tensor, Candidates]:
    prompts = encoded(student)
    known = candidates(student, labels, HEADER, prompts[0].end_of_turn)
    with torch.inference_mode():
        return (
            with_tries(student, student.model, prompts, known, 8),
            with_rows(student, student.model, prompts, known, 8),
            known,
        )


@pytest.mark.parametrize("nodes", [512, 8])
@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_tries_equal_rows(family: str, nodes: int, students, monkeypatch) -> None:
    """All labels of three prompts in one batch, in one trie and in many small ones."""
    monkeypatch.setattr("mint_core.answering.score._MOST", nodes)
    monkeypatch.setattr("mint_core.answering.score._FEWEST", 1)
    tree, rows, known = both_ways(students(family), MANY)
    assert len(list(tries(known.tails, nodes))) == 1 if nodes == 512 else len(list(tries(known.tails, nodes))) > 5
    assert torch.isfinite(tree).all()
    assert float((tree - rows).abs().max()) < 1e-4
    assert float(tree.std(0).max()) > 1e-3  # the prompts differ


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "mllama"])
def test_eager_attention_too(family: str, tmp_path) -> None:
    student = load_student(StudentConfig(model=str(build(family, tmp_path)), attention="eager"))
    tree, rows, _ = both_ways(student, MANY)
    assert float((tree - rows).abs().max()) < 1e-4


def test_labels_of_one_token_and_none(students) -> None:
    """A space of one label: all its tokens stand in front of the trie."""
    student = students("llama")
    for names in (("Colon", "Kidney", "Liver"), ("Colon",)):
        tree, rows, known = both_ways(student, LabelSpace(names))
        assert max(map(len, known.tails)) == (len(names) > 1)
        assert float((tree - rows).abs().max()) < 1e-4


def test_logits_in_small_pieces(students, monkeypatch) -> None:
    student = students("gemma2")
    whole, rows, _ = both_ways(student, MANY)
    monkeypatch.setattr(branches, "_LOGITS_BYTES", 4 * 3 * 430 * 2)
    pieces, _, _ = both_ways(student, MANY)
    assert torch.allclose(whole, pieces, atol=1e-5)
    assert float((pieces - rows).abs().max()) < 1e-4


def test_an_adapter_counts(students, tmp_path) -> None:
    from peft import LoraConfig, get_peft_model

    student = load_student(StudentConfig(model=str(build("llama", tmp_path))))
    before, _, known = both_ways(student, LABELS)
    adapted = get_peft_model(student.model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"])).eval()
    for name, value in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.3)
    with torch.inference_mode():
        tree, rows = (way(student, adapted, encoded(student), known, 8) for way in (with_tries, with_rows))
    assert float((tree - rows).abs().max()) < 1e-4
    assert float((tree - before).abs().max()) > 1e-3


def test_what_labels_share_is_one_path() -> None:
    [trie] = tries([[1, 2, 3], [1, 2], [4], [1, 2, 5]], budget=100)
    assert trie.columns == [1, 0, 3, 2]
    assert trie.tokens == [1, 2, 3, 5, 4]
    assert trie.parents == [-1, 0, 1, 1, -1]
    assert trie.depths == [0, 1, 2, 2, 0]
    assert trie.last == [1, 2, 3, 4]


def test_tries_stay_within_their_budget_and_lose_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = {tuple(torch.randint(0, 4, (length,), generator=generator).tolist()) for length in (2, 3, 5, 7) * 60}
    tails = [list(tail) for tail in draws]
    found = {}
    for trie in tries(tails, budget=20):
        assert len(trie.tokens) <= 20
        assert all(parent < node for node, parent in enumerate(trie.parents))
        for column, node in zip(trie.columns, trie.last, strict=True):
            path = []
            while node >= 0:
                path.append(trie.tokens[node])
                node = trie.parents[node]
            found[column] = path[::-1]
    assert [found[column] for column in range(len(tails))] == tails
    assert len(list(tries([[1] * 30, [2]], budget=20))) == 2  # a label longer than the budget


def test_a_student_whose_tries_do_not_hold_gets_rows_and_one_warning(students, tmp_path, monkeypatch) -> None:
    """Checked once for a model and a label space, however often its callers come back."""
    student = load_student(StudentConfig(model=str(build("llama", tmp_path))))
    prompts = {name: prompt(student, f"Patient {name}.") for name in "abc"}
    right = dict(score(students("llama"), prompts, LABELS, HEADER, batch_size=2))
    monkeypatch.setattr(branches, "_ancestors", lambda trie: torch.ones(2 * [len(trie.tokens)], dtype=torch.bool))
    with pytest.warns(UserWarning, match=r"one row each, because .* cannot share") as warned:
        found = dict(score(student, prompts, LABELS, HEADER, batch_size=2))
        found |= dict(score(student, {"a": prompts["a"]}, LABELS, HEADER, batch_size=2))
    assert len(warned) == 1
    for name in prompts:
        assert found[name] == pytest.approx(right[name], abs=1e-4)


def test_a_full_memory_is_no_reason_for_rows(tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("full")

    student = load_student(StudentConfig(model=str(build("llama", tmp_path))))
    monkeypatch.setattr("mint_core.answering.score.with_tries", full)
    with pytest.raises(torch.OutOfMemoryError):
        dict(score(student, {"a": prompt(student)}, LABELS, HEADER, batch_size=2))


def test_tokens_per_label(students) -> None:
    student = students("llama")
    counts = label_tokens(student, LABELS, HEADER, prompt(student))
    texts = [f"{HEADER}\n1. {name}" for name in LABELS.names]
    written = student.tokenizer(texts, add_special_tokens=False)["input_ids"]
    shared = reduce(common, written)
    assert counts == [len(one) - len(shared) + 1 for one in written]


def test_what_is_known_of_a_model_goes_with_it(tmp_path) -> None:
    student = load_student(StudentConfig(model=str(build("llama", tmp_path))))
    dict(score(student, {"a": prompt(student)}, LABELS, HEADER, batch_size=2))
    model = weakref.ref(student.model)
    del student
    gc.collect()
    assert model() is None


def answered(student: Student, normalise: str) -> tuple[str, ...]:
    config = PredictConfig(decode="score", normalise=normalise)
    engine = TransformersEngine(student, Asking(MANY, HEADER, 2, len(MANY), config), shows_images=False)
    [[prediction]] = engine.answers("base", {"a": prompt(student)})
    return prediction.labels


def test_normalised_by_tokens_long_names_rise(students) -> None:
    student = students("llama")
    [(_, scores)] = score(student, {"a": prompt(student)}, MANY, HEADER, batch_size=1)
    lengths = np.array(label_tokens(student, MANY, HEADER, prompt(student)))
    plain, normalised = (answered(student, way) for way in ("none", "tokens"))
    assert plain == tuple(MANY.names[column] for column in np.argsort(-scores))
    assert normalised == tuple(MANY.names[column] for column in np.argsort(-scores / lengths))
    longest = MANY.names[int(lengths.argmax())]
    assert normalised.index(longest) < plain.index(longest)


def test_a_ranking_has_probabilities_a_bottom_and_what_is_missing() -> None:
    scores = np.log(np.array([0.1, 0.4, 0.3], np.float32))
    ranked = rank("p", scores, LabelSpace(("Colon", "Liver", "Skin")))
    assert ranked.ranking.labels == ("Liver", "Skin", "Colon")
    assert np.exp(ranked.ranking.log_probs) == pytest.approx([0.5, 0.375, 0.125])
    assert ranked.missing == pytest.approx(0.2)
    assert ranked.probability("Colon") == pytest.approx(0.125)
    assert ranked.bottom(2) == ("Skin", "Colon")
    assert ranked.bottom(0) == ()


def test_a_run_keeps_the_ranking_of_all_labels(install_plugin, tmp_path, monkeypatch) -> None:
    install_plugin("mint-toy", "toy_plugin_for_scores", Path(__file__).with_name("toy_plugin.py").read_text())
    monkeypatch.chdir(tmp_path)
    config = {
        "task": "toy", "student": {"model": str(build("llama", tmp_path / "student"))}, "out": str(tmp_path / "runs"),
        "name": "t", "aligner": None, "predict": {"decode": "score", "batch_size": 3}, "evaluate": {"bootstrap": 100},
    }  # fmt: skip
    run = mint_core.run(config)
    lines = read_lines(run.path / "predictions.jsonl")
    ranked = read_student_rankings(run.path, "base")
    assert set(ranked) == {line["sample_id"] for line in lines}
    for line in lines:
        one = ranked[line["sample_id"]]
        assert list(one.ranking.labels[:2]) == line["labels"]
        assert len(one.ranking.labels) == 6
        assert sum(map(one.probability, one.ranking.labels)) == pytest.approx(1)
        assert math.log(1 - one.missing) + one.ranking.log_probs[0] == pytest.approx(line["log_probs"][0], abs=1e-4)
    with pytest.raises(DataError, match="no scores of 'aligned'; available: base"):
        read_student_rankings(run.path)
    free = mint_core.run({**config, "predict": {"decode": "free"}}, overwrite=True)
    with pytest.raises(DataError, match=r"decode=score"):
        read_student_rankings(free.path, "base")
