"""`mint export` of an aligned student: the adapter, merged weights that answer the same, recipes."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import transformers as tf
from huggingface_hub import ModelCard

import mint_core
from mint_core.config import StudentConfig
from mint_core.errors import ModelError
from mint_core.files import digest_of_path
from mint_core.runs.export_student import merged_card
from mint_core.students.adapter import add_lora, load_adapter, target_modules
from mint_core.students.load import load_student
from mint_core.students.merge import write_merged
from tests.tiny_students import build

pytestmark = pytest.mark.usefixtures("one_thread")
TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")


def trained(folder: Path, adapter: Path) -> StudentConfig:
    """An adapter that changes every answer, as no training of seconds would."""
    config = StudentConfig(model=str(folder), device="cpu")
    model = load_student(config).model
    wrapped = add_lora(model, target_modules(model, "all-linear", vision=True), 4, 8.0, 0.0)
    torch.manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.1)
    wrapped.save_pretrained(adapter)
    return config


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize(
    ("family", "factory"),
    [("llama", tf.AutoModelForCausalLM), ("llava", tf.AutoModelForImageTextToText)],
)
def test_merged_weights_answer_as_student_and_adapter_do(family: str, factory, tmp_path: Path) -> None:
    folder, adapter, out = build(family, tmp_path / family), tmp_path / "adapter", tmp_path / "merged"
    config = trained(folder, adapter)
    assert write_merged(config, None, adapter, out) == "float32"
    owner = (tf.AutoTokenizer if family == "llama" else tf.AutoProcessor).from_pretrained(out)
    message = [{"role": "user", "content": "Name the organ." if family == "llama" else [
        {"type": "image"}, {"type": "text", "text": "Name the organ."},
    ]}]  # fmt: skip
    text = owner.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    from PIL import Image

    seen = {} if family == "llama" else {"images": [Image.effect_noise((28, 28), 90).convert("RGB")]}
    inputs = owner(text=[text], return_tensors="pt", **seen)
    base = load_student(config).model
    with torch.no_grad():
        alone = base(**inputs).logits
        wanted = load_adapter(base, adapter)(**inputs).logits
        found = factory.from_pretrained(out).eval()(**inputs).logits
    assert (found - wanted).abs().max() < 1e-5
    assert (found - alone).abs().max() > 1e-3
    assert not [file for file in out.iterdir() if str(tmp_path) in file.read_text(errors="ignore")]


def test_quantised_weights_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = trained(folder, tmp_path / "adapter")
    student = load_student(config)
    student.model.hf_quantizer = object()
    monkeypatch.setattr("mint_core.students.merge.load_student", lambda *_: student)
    with pytest.raises(ModelError, match=r"are quantised, and an adapter cannot be added to them"):
        write_merged(config, None, tmp_path / "adapter", tmp_path / "out")


def test_a_run_is_given_away(install_plugin, mint, folder: Path, tmp_path: Path, monkeypatch) -> None:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    aligner = {"name": "orpo", "epochs": 1, "warmup": 0, "lora_rank": 12, "batch_size": 8}
    config = {
        "task": "toy",
        "student": {"model": str(folder), "device": "cpu"},
        "name": "my",
        "aligner": aligner,
    }
    run = mint_core.run(config, until="align").path

    said = mint("export", run, "--to", "peft", "--out", "given")
    assert said.code == 0, said.err
    assert {one.name for one in Path("given").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "mint.json", "README.md",
    }  # fmt: skip
    for one in Path("given").iterdir():
        assert digest_of_path(one) == digest_of_path(run / "adapter" / one.name)
    assert "given exists already" in mint("export", run, "--to", "peft", "--out", "given").err

    recipe = mint("export", run, "--to", "vllm", "--out", "vllm").out
    assert f"vllm serve {folder} --enable-lora --lora-modules my=vllm/adapter" in recipe
    assert "--max-lora-rank 16" in recipe  # the smallest that vLLM takes for rank 12
    assert Path("vllm", "vllm.md").read_text() == recipe

    recipe = mint("export", run, "--to", "ollama", "--out", "ollama")
    assert recipe.code == 0, recipe.err
    assert "convert_hf_to_gguf.py model --outfile model.gguf" in recipe.out and "ollama create my" in recipe.out
    assert Path("ollama", "Modelfile").read_text() == "FROM ./model.gguf\nPARAMETER temperature 0\n"
    assert tf.AutoTokenizer.from_pretrained("ollama/model").chat_template
    card = ModelCard(Path("ollama", "model", "README.md").read_text())
    assert card.data.library_name == "transformers" and card.data.tags[-1] == "merged"
    assert "Merged weights (float32)" in card.text and "--aligner none --student THIS_FOLDER" in card.text

    (run / "adapter" / "adapter_config.json").write_text("{}")
    answer = mint("export", run, "--to", "merged", "--out", "other")
    assert (answer.code, "is not as the training left it" in answer.err) == (6, True)
    shutil.rmtree(run / "adapter")
    for place, sentence in ((run, "holds no adapter"), (tmp_path, "holds no run.json")):
        answer = mint("export", place, "--to", "merged", "--out", "other")
        assert (answer.code, sentence in answer.err) == (2, True)
    assert not Path("other").exists()


def test_the_card_of_merged_weights_is_made_of_any_card() -> None:
    text = merged_card("My own words.", "a student", "float32")
    assert "My own words." in text and "added to the weights of a student" in text
    assert ModelCard(text).data.library_name == "transformers"
    head = "---\nbase_model: a/b\nbase_model_relation: adapter\n---\n\n# T\n\n"
    card = f"{head}## How to use it\n\nolden\n\n## Citation\n\nx\n"
    text = merged_card(card, "a/b", "float32")
    assert "base_model_relation: finetune" in text and "olden" not in text and text.endswith("## Citation\n\nx\n")


@pytest.mark.skipif(not shutil.which("vllm"), reason="vLLM is not installed here")
def test_vllm_knows_the_options_of_the_recipe() -> None:
    told = subprocess.run(["vllm", "serve", "--help=all"], capture_output=True, text=True, check=True).stdout
    for option in (
        "--enable-lora",
        "--lora-modules",
        "--max-lora-rank",
        "--served-model-name",
        "--revision",
        "--dtype",
    ):
        assert option in told, option
