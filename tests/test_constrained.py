"""decode=constrained: N distinct known labels in the task's format, for every architecture and tokenizer."""

import dataclasses
from itertools import permutations
from pathlib import Path

import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import mint_core
from mint_core.answering.automaton import Automaton, automaton
from mint_core.answering.constrained import generate_constrained
from mint_core.answering.generate import stop_tokens
from mint_core.config import StudentConfig
from mint_core.errors import ModelError
from mint_core.files import read_lines
from mint_core.interfaces import Student
from mint_core.report.table import sections
from mint_core.students.encoding import append_response, encode_prompt, encode_response
from mint_core.students.load import load_student
from mint_core.students.prompts import parse_response, write_response
from mint_core.testing.student import LLAMA_SPECIAL, LLAMA_TEMPLATE
from mint_core.types import LabelSpace
from tests.test_score import MANY, NAMED, prompt, with_words
from tests.tiny_students import ARCHITECTURES, CORPUS, HEADER, build

FEW = LabelSpace(("Colon", "Colon cancer", "Liver", "Skin, of the face (WBS)"))


def asked(student: Student) -> dict:
    texts = {"a": "One.", "b": "Patient two, with a longer text that goes on.", "c": "Three of them here."}
    colours = ((200, 20, 120), (10, 160, 60), (90, 90, 200))
    return {name: prompt(student, text, colour) for (name, text), colour in zip(texts.items(), colours, strict=True)}


def rules_of(student: Student, labels: LabelSpace, n: int) -> tuple[Automaton, str]:
    end = encode_prompt(student, "p", prompt(student)).end_of_turn
    return automaton(student, labels, HEADER, n, end_of_turn=end, stops=stop_tokens(student, end)), end


def responses_of(rules: Automaton, n: int) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Tokens and labels of everything that the automaton can write, walked in plain Python."""
    found = set()

    def walk(node: int, entry: int, used: tuple[int, ...], tokens: tuple[int, ...]) -> None:
        if entry == n:
            found.add((tokens, used))
            return
        for edge in range(rules.starts[node], rules.starts[node + 1]):
            child = int(rules.children[edge])
            label = int(rules.label[child])
            written = (*tokens, int(rules.tokens[edge]))
            if label < 0:
                walk(child, entry, used, written)
            elif label not in used:
                walk(int(rules.roots[min(entry + 1, n - 1)]), entry + 1, (*used, label), written)

    walk(int(rules.roots[0]), 0, (), tuple(rules.head))
    return found


def whole_responses(student: Student, labels: LabelSpace, n: int, end: str) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Every valid response, tokenised as a whole, up to its end."""
    stops = stop_tokens(student, end)
    found = {}
    for columns in permutations(range(len(labels)), n):
        names = tuple(labels.names[column] for column in columns)
        ids = encode_response(student, write_response(HEADER, names), end)
        stop = next(at for at, token in enumerate(ids) if token in stops)
        found[tuple(ids[: stop + 1])] = columns
    return found


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2", "llava", "mllama"])
@pytest.mark.parametrize("n", [1, 3, 4])
def test_it_writes_every_valid_response_as_it_is_tokenised_and_nothing_else(family: str, n: int, students) -> None:
    student = students(family)
    rules, end = rules_of(student, FEW, n)
    expected = whole_responses(student, FEW, n, end)
    assert dict(responses_of(rules, n)) == expected
    assert len(rules.head) + rules.longest >= max(map(len, expected))


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_n_distinct_known_labels_from_every_architecture(family: str, students) -> None:
    student = students(family)
    found = dict(generate_constrained(student, asked(student), MANY, HEADER, n=5, batch_size=2))
    assert list(found) == ["a", "b", "c"]
    for names in found.values():
        assert len(set(names)) == 5
        assert set(names) <= set(MANY.names)
        parsed = parse_response(write_response(HEADER, names), HEADER)
        assert parsed.well_formed
        assert parsed.labels == names


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2_5_vl", "mllama"])
def test_it_takes_the_likeliest_token_that_may_follow(family: str, students) -> None:
    """Against a search in plain Python, one forward pass of the whole text per token."""
    student = students(family)
    found = dict(generate_constrained(student, asked(student), FEW, HEADER, n=2, batch_size=3))
    for name, one in asked(student).items():
        encoded = encode_prompt(student, name, one)
        valid = whole_responses(student, FEW, 2, encoded.end_of_turn)
        written: tuple[int, ...] = ()
        while written not in valid:
            following = sorted({ids[len(written)] for ids in valid if ids[: len(written)] == written})
            with torch.inference_mode():
                logits = student.model(**append_response(encoded, written)).logits[0, -1]
            written = (*written, following[int(logits[following].argmax())])
        assert found[name] == tuple(FEW.names[column] for column in valid[written])


def test_all_labels_can_be_listed(students) -> None:
    student = students("llama")
    found = dict(generate_constrained(student, asked(student), FEW, HEADER, n=4, batch_size=3))
    assert all(sorted(names) == sorted(FEW.names) for names in found.values())
    [alone] = generate_constrained(student, {"a": prompt(student)}, LabelSpace(("Colon",)), HEADER, n=1, batch_size=1)
    assert alone == ("a", ("Colon",))


def test_company_does_not_matter(students) -> None:
    student = students("llama")
    together = dict(generate_constrained(student, asked(student), MANY, HEADER, n=3, batch_size=3))
    for name, one in asked(student).items():
        assert dict(generate_constrained(student, {name: one}, MANY, HEADER, n=3, batch_size=1))[name] == together[name]


def test_what_the_student_itself_forbids_is_written_all_the_same(tmp_path) -> None:
    """Generation configs can suppress tokens: here the end of a line and the numbers."""
    student = load_student(StudentConfig(model=str(build("llama", tmp_path))))
    student.model.generation_config.suppress_tokens = student.tokenizer("\n123.", add_special_tokens=False)["input_ids"]
    found = dict(generate_constrained(student, asked(student), FEW, HEADER, n=3, batch_size=3))
    assert all(len(set(names)) == 3 for names in found.values())


def words_that_join(corpus: list[str], size: int) -> tf.PreTrainedTokenizerFast:
    """A tokenizer without word boundaries: tokens reach over the ends of names and lines."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    raw.add_special_tokens(list(LLAMA_SPECIAL))
    words = tf.PreTrainedTokenizerFast(tokenizer_object=raw, **NAMED)
    words.chat_template = LLAMA_TEMPLATE
    return words


def test_the_end_of_a_name_and_of_its_line_in_one_token(students) -> None:
    student = with_words(students("llama"), words_that_join([f"{name}\n" for name in FEW.names] * 9, 310))
    ids = student.tokenizer(write_response(HEADER, FEW.names), add_special_tokens=False)["input_ids"]
    tokens = [student.tokenizer.decode([token]) for token in ids]
    assert any(token.endswith("\n") and token.strip() for token in tokens)
    rules, end = rules_of(student, FEW, 3)
    expected = whole_responses(student, FEW, 3, end)
    assert dict(responses_of(rules, 3)) == expected
    found = dict(generate_constrained(student, asked(student), FEW, HEADER, n=3, batch_size=3))
    assert all(len(set(names)) == 3 for names in found.values())


def test_the_end_of_a_line_and_the_next_number_in_one_token(students) -> None:
    """Entries are then tokenised one by one; what they spell is still a valid response."""
    lists = [f"\n{number}." for number in range(1, 5)] * 9
    student = with_words(students("llama"), words_that_join([*CORPUS, *lists], 280))
    tokens = student.tokenizer("x\n2. Liver", add_special_tokens=False)["input_ids"]
    assert any(student.tokenizer.decode([token]).startswith("\n2") for token in tokens)
    rules, end = rules_of(student, FEW, 3)
    for ids, columns in responses_of(rules, 3):
        names = tuple(FEW.names[column] for column in columns)
        assert student.tokenizer.decode(ids) == write_response(HEADER, names) + end
    found = dict(generate_constrained(student, asked(student), FEW, HEADER, n=3, batch_size=3))
    assert all(len(set(names)) == 3 for names in found.values())


def test_labels_that_the_tokenizer_cannot_tell_apart_are_refused(students) -> None:
    unknown = {"unk_token": "<unk>"}
    raw = Tokenizer(models.WordLevel({"<unk>": 0, "<|eot_id|>": 1, "Colon": 2, "\n": 3}, **unknown))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = tf.PreTrainedTokenizerFast(tokenizer_object=raw, **unknown, **NAMED)
    words.chat_template = LLAMA_TEMPLATE
    student = dataclasses.replace(students("llama"), processor=words, tokenizer=words)
    with pytest.raises(ModelError, match=r"cannot tell the labels .* apart"):
        list(generate_constrained(student, asked(student), FEW, HEADER, n=2, batch_size=3))


def run_of(tmp_path, **predict: object):
    config = {
        "task": "toy", "student": {"model": str(build("llama", tmp_path / "student"))}, "out": str(tmp_path / "runs"),
        "name": "-".join(["t", *predict]), "evaluate": {"bootstrap": 100},
        "predict": {"decode": "constrained", **predict},
        "aligner": {"name": "orpo", "epochs": 1, "warmup": 0, "lora_rank": 4, "batch_size": 4},
    }  # fmt: skip
    return mint_core.run(config)


@pytest.fixture
def toy(install_plugin, tmp_path, monkeypatch) -> None:
    install_plugin("mint-toy", "toy_plugin_constrained", Path(__file__).with_name("toy_plugin.py").read_text())
    monkeypatch.chdir(tmp_path)


def test_a_run_shows_free_answers_beside_constrained_ones(toy, tmp_path) -> None:
    run = run_of(tmp_path)
    hfa = {row["variant"]: row["metrics"]["hfa"]["mean"] for row in run.metrics["rows"]}
    assert hfa["base"] == hfa["aligned"] == 1.0
    assert hfa["base-free"] < 1  # random weights
    assert "aligned-free" in hfa
    lines = read_lines(run.path / "predictions.jsonl")
    free = {line["sample_id"]: line["text"] for line in lines if line["variant"] == "base-free"}
    plain = run_of(tmp_path, decode="free")
    lines = read_lines(plain.path / "predictions.jsonl")
    assert free == {line["sample_id"]: line["text"] for line in lines if line["variant"] == "base"}
    assert "base, not constrained" in result_text(run.metrics)


def result_text(metrics: dict) -> str:
    return " ".join(name for section in sections(metrics) for name, _ in section.rows)


def test_free_answers_beside_are_an_option(toy, tmp_path) -> None:
    run = run_of(tmp_path, free_beside=False)
    assert {row["variant"] for row in run.metrics["rows"]} == {"base", "aligned", "teacher", "chance", "majority"}
