"""A tiny text student, built from its config in memory and loaded as a real one would be, and a toy task."""

import importlib
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL = ("<|begin_of_text|>", "<|pad|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
WORDS = [
    "Name the tissues of this patch.",
    "MOST_LIKELY_TISSUE:",
    "1. Adrenal gland",
    "2. Bile duct",
    "3. Colon",
    "Skin",
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of a Llama with weights spread wide: of size 0.02 they would make every next token equally likely."""
    place = tmp_path_factory.mktemp("student")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False))
    raw.add_special_tokens(list(SPECIAL))
    begin = SPECIAL[0]
    raw.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, raw.token_to_id(begin))]
    )
    named = dict(zip(("bos_token", "pad_token", "eos_token"), (begin, SPECIAL[1], SPECIAL[-1]), strict=True))
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=raw, **named)
    tokenizer.chat_template = TEMPLATE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = tf.LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, initializer_range=0.15,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        tf.LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


TOY = '''
import numpy as np

from mint_core import hookimpl
from mint_core.interfaces import Metric, Task, Teacher
from mint_core.types import LabelSpace, Message, Prompt, Sample, TaskData

LABELS = ("Adrenal gland", "Bile duct", "Colon", "Kidney", "Liver", "Skin")


class Toy(Task):
    """Text in, organ out."""

    name = "trl-toy"
    header = "MOST_LIKELY_TISSUE:"
    modality = "text"
    default_teacher = "trl-toy"
    sources = ("simulated",)

    def load(self):
        splits = ["test" if i % 3 == 0 else "train" for i in range(24)]
        samples = [Sample(f"p{i}", split, LABELS[i % 6], text=f"number {i}") for i, split in enumerate(splits)]
        return TaskData(samples, LabelSpace(LABELS), "toy data", simulated=True)

    def list_length(self, n_labels):
        return 2

    def training_prompt(self, sample, n):
        return Prompt((Message("user", f"{sample.text}. Name {n}."),))

    inference_prompt = training_prompt


class Even(Teacher):
    """Holds all labels for equally likely."""

    name = "trl-toy"

    def log_probs(self, samples):
        return np.full((len(samples), len(LABELS)), -np.log(len(LABELS)), np.float32)


class First(Metric):
    """Whether the first label is the truth."""

    name = "trl-toy"

    def score(self, sample):
        return float(sample.prediction.labels[:1] == (sample.truth,))


@hookimpl
def mint_metrics():
    return [First]


@hookimpl
def mint_tasks():
    return [Toy]


@hookimpl
def mint_teachers():
    return [Even]
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A toy task, and mint-trl itself where it is on the path only, as pip would leave them."""
    from mint_core.plugins import registry

    site = tmp_path / "site"
    site.mkdir()
    (site / "trl_toy.py").write_text(TOY, encoding="utf-8")
    points = {"trl-toy": "trl_toy"}
    if not any(point.value == "mint_trl.plugin" for point in entry_points(group="mint")):
        points["mint-trl"] = "mint_trl.plugin"
    for name, module in points.items():
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mint]\nx = {module}\n")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    registry.cache_clear()
    yield
    sys.modules.pop("trl_toy", None)
    registry.cache_clear()
