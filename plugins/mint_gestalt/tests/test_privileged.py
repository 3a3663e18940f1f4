"""No privileged value, no face and no diagnosis reaches the student: a whole run, with everything it is shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mint_core
from mint_gestalt.regression import Regression

TERMS = ("HP:0000322", "HP:0001250", "HP:0000637", "HP:0001263", "HP:0004322", "HP:0000508")


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    """A Llama of two narrow layers with random weights and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("student") / "llama"
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<pad>"]
    corpus = ["Sex female, age 3 years. Phenotypes: Short philtrum, Seizure. Name the most likely rare diseases."] * 9
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    words.train_from_iterator(corpus, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        **{f"{kind}_token": token for kind, token in zip(("bos", "eos", "pad"), special, strict=True)},
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}"
        "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=1024,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def shown(monkeypatch) -> dict[str, list]:
    """Everything that is encoded for the student as a prompt, and every sample that the teacher is given."""
    from transformers import PreTrainedTokenizerBase

    seen: dict[str, list] = {"student": [], "teacher": []}
    render = PreTrainedTokenizerBase.apply_chat_template
    rank, fit = Regression.log_probs, Regression.fit

    def watch(self, conversation, *args, **options):
        seen["student"].append(json.dumps(conversation))
        return render(self, conversation, *args, **options)

    def watch_ranking(self, samples):
        seen["teacher"] += samples
        return rank(self, samples)

    def watch_fit(self, samples):
        seen["teacher"] += samples
        return fit(self, samples)

    monkeypatch.setattr(PreTrainedTokenizerBase, "apply_chat_template", watch)
    monkeypatch.setattr(Regression, "log_probs", watch_ranking)
    monkeypatch.setattr(Regression, "fit", watch_fit)
    return seen


def run(tmp_path: Path, student: Path, **task):
    return mint_core.run(
        {
            "task": {"name": "rare-disease", **task},
            "teacher": {"name": "regression", "cross_fit": 2},
            "student": {"model": str(student), "device": "cpu"},
            "aligner": {"name": "orpo", "epochs": 1, "warmup": 0, "lora_rank": 2, "batch_size": 8},
            "predict": {"max_new_tokens": 4},
            "evaluate": {"bootstrap": 100},
            "out": str(tmp_path / "runs"),
            "name": "t",
        }
    )


def check(shown: dict[str, list], hidden: set[str], least: int) -> None:
    """Not one of the hidden words stands in a prompt."""
    assert len(shown["student"]) >= least
    for prompt in shown["student"]:
        found = [word for word in hidden if word.lower() in prompt.lower()]
        assert not found, found


GENES = {"GENEA1", "GENEB2", "GENEC3", "GENED4"}
NAMES = {"Alphan", "Betan", "Gamman", "Deltan"}


def test_genes_and_diagnoses_of_phenopackets_reach_the_teacher_only(hospital, tmp_path, student, shown):
    run(tmp_path, student, source="phenopackets", data=str(hospital))
    told = [message for prompt in shown["student"] for message in json.loads(prompt) if message["role"] == "user"]
    assert any("Phenotypes: Short philtrum, Seizure." in message["content"] for message in told)
    check(shown, GENES | NAMES, least=40)
    assert {sample.privileged["gene"] for sample in shown["teacher"]} == GENES


def test_other_fields_can_be_privileged_and_labels_that_were_taken_reach_nobody(hospital, tmp_path, student, shown):
    fields = {"student_fields": ["age"], "privileged": ["gene", "sex", "phenotypes"]}
    result = run(tmp_path, student, source="phenopackets", data=str(hospital), labelled=8, **fields)
    assert any("Age 3 years 6 months." in prompt for prompt in shown["student"])
    check(shown, GENES | NAMES | {"philtrum", "Seizure", "female"}, least=40)
    first = shown["teacher"][0].privileged
    assert set(first) == {"gene", "sex", "phenotypes"}
    assert first["sex"] == "female"
    train = [sample for sample in shown["teacher"] if sample.split == "train"]
    assert len({sample.id for sample in train if sample.label}) == 8
    assert len({sample.id for sample in train if sample.label is None}) == 24
    assert "training patients whose label was taken" in (result.path / "run.json").read_text()


def test_notes_that_name_the_gene_or_the_diagnosis(tmp_path, student, shown):
    rows = [
        {
            "id": f"n{i}",
            "text": f"This girl carries a variant of {'GENEA1' if i % 2 else 'GENEB2'}, as in "
            f"{'ALPHAN syndrome' if i % 2 else 'betan-syndrome'}.",
            "label": "Alphan syndrome" if i % 2 else "Betan syndrome",
            "gene": "GENEA1" if i % 2 else "GENEB2",
        }
        for i in range(12)
    ]
    path = tmp_path / "notes.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    run(tmp_path, student, source="jsonl", data=str(path))
    assert any("a variant of [gene], as in [disease]." in prompt for prompt in shown["student"])
    check(shown, GENES | NAMES, least=12)
    assert {sample.privileged["gene"] for sample in shown["teacher"]} == {"GENEA1", "GENEB2"}


def test_faces_reach_the_teacher_only(tmp_path, student, shown, monkeypatch):
    """The student's prompts are made without an image, and no image is opened for it."""
    from mint_core.images import FileImage

    rows = [
        "image_id\tpatient_id\tfilename\tgene_names\tpresent_features\tinternal_syndrome_id\tinternal_syndrome_name"
    ]
    for i in range(12):
        name = ("Alphan syndrome", "Betan syndrome")[i % 2]
        rows.append(f"{i}\t{i}\t{i}.png\t{('GENEA1', 'GENEB2')[i % 2]}\t{TERMS[i % 6]}\t{i % 2}\t{name}")
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "metadata.tsv").write_text("\n".join(rows))
    monkeypatch.setattr(FileImage, "open", lambda self: pytest.fail("a face was opened for the student"))
    run(tmp_path, student, source="gmdb", data=str(tmp_path / "metadata.tsv"))
    check(shown, GENES | NAMES | {"image"}, least=12)
    assert all(sample.image is not None for sample in shown["teacher"])
