"""Loading: both layouts, hub cache, refusals; the conversion gives transformers' own logits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from mint_core.errors import ModelError
from mint_plip.clip import EMBEDDED_FOLDER, load_clip
from mint_plip.clip_conversion import convert_config, convert_preprocess, convert_state
from mint_plip.encoder import ImageEncoder

TEXTS = ["an H&E image of colon tissue", "an H&E image of adrenal gland tissue", "liver"]


def tiny_clip(folder: Path, act: str = "quick_gelu", eos: int = 49407, vocabulary: int = 49408) -> CLIPModel:
    """A CLIPModel with random weights, saved as transformers saves it."""
    torch.manual_seed(0)
    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": act, "layer_norm_eps": 1e-3}
    config = CLIPConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 40,
            "vocab_size": vocabulary,
            "eos_token_id": eos,
            **tower,
        },
        vision_config={"hidden_size": 24, "intermediate_size": 50, "image_size": 32, "patch_size": 8, **tower},
        projection_dim=12,
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # far from the initial values, where both activations look alike
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return model


def assert_equal_logits(folder: Path, model: CLIPModel, tokens: torch.Tensor | None = None) -> None:
    clip = load_clip(str(folder))
    tokens = clip.tokenizer(TEXTS) if tokens is None else tokens
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(input_ids=tokens, pixel_values=pixels).logits_per_image
        image, text, scale = clip.model(pixels, tokens)
    torch.testing.assert_close(scale * image @ text.T, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.01


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eos", [2, 49407])
def test_conversion_gives_the_logits_of_transformers(tmp_path: Path, act: str, eos: int) -> None:
    assert_equal_logits(tmp_path, tiny_clip(tmp_path, act, eos))


def test_the_two_activations_differ(tmp_path: Path) -> None:
    model = tiny_clip(tmp_path, "quick_gelu")
    config = json.loads((tmp_path / "config.json").read_text())
    for tower in ("text_config", "vision_config"):
        config[tower]["hidden_act"] = "gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(AssertionError, match="not close"):
        assert_equal_logits(tmp_path, model)


def test_text_is_pooled_at_the_first_end_token_of_another_vocabulary(tmp_path: Path) -> None:
    model = tiny_clip(tmp_path, eos=7, vocabulary=401)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(EMBEDDED_FOLDER / name, tmp_path)
    tokens = torch.tensor([[1, 300, 20, 7, 9, 7], [1, 7, 400, 5, 6, 8]])
    assert convert_config(json.loads((tmp_path / "config.json").read_text()))["text_cfg"]["pool_type"] == "eos"
    tokens = torch.nn.functional.pad(tokens, (0, 77 - 6))
    assert_equal_logits(tmp_path, model, tokens)
    own = load_clip(str(tmp_path)).tokenizer(["an H&E image of Colon tissue"])
    assert own.shape == (1, 77)
    assert 0 < int(own.max()) < 401


def test_another_vocabulary_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny_clip(tmp_path, eos=7, vocabulary=401)
    with pytest.raises(ModelError, match=r"401 tokens.*tokenizer\.json"):
        load_clip(str(tmp_path))


def test_a_bin_of_tensors_gives_the_same_model(tmp_path: Path) -> None:
    model = tiny_clip(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]  # older files hold this buffer
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert_equal_logits(tmp_path, model)
    assert load_clip(str(tmp_path / "pytorch_model.bin")).fingerprint == load_clip(str(tmp_path)).fingerprint


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("layout", ["transformers", "open_clip"])
def test_a_bin_with_more_than_tensors_is_refused_and_nothing_runs(tmp_path: Path, layout: str) -> None:
    folder, sprung = tmp_path / "model", tmp_path / "sprung"
    folder.mkdir()
    if layout == "transformers":
        tiny_clip(folder)
        (folder / "model.safetensors").unlink()
        weights = folder / "pytorch_model.bin"
    else:
        shutil.copytree(EMBEDDED_FOLDER, folder, dirs_exist_ok=True)
        (folder / "open_clip_model.safetensors").unlink()
        weights = folder / "open_clip_pytorch_model.bin"
    torch.save({"logit_scale": torch.zeros(()), "more": Trap(sprung)}, weights)
    with pytest.raises(ModelError):
        load_clip(str(folder))
    assert not sprung.exists()


def test_the_embedded_teacher_loads_like_any_folder() -> None:
    embedded, folder = load_clip("embedded"), load_clip(str(EMBEDDED_FOLDER))
    assert embedded.fingerprint == folder.fingerprint
    size = (EMBEDDED_FOLDER / "open_clip_model.safetensors").stat().st_size
    assert size < 5_000_000


def test_a_weights_file_beside_its_config(tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED_FOLDER, tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / "open_clip_model.safetensors")
    state["logit_scale"] = state["logit_scale"] + 1
    save_file(state, tmp_path / "other.safetensors")
    other = load_clip(str(tmp_path / "other.safetensors"))
    original = load_clip(str(tmp_path / "open_clip_model.safetensors"))
    assert original.fingerprint == load_clip("embedded").fingerprint
    assert other.fingerprint != original.fingerprint


def test_an_architecture_with_a_weights_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-for-a-test", config)
    save_file(open_clip.CLIP(**config).state_dict(), tmp_path / "w.safetensors")
    clip = load_clip("tiny-for-a-test", str(tmp_path / "w.safetensors"))
    assert clip.preprocess["size"] in (32, (32, 32))
    with pytest.raises(ModelError, match="pretrained"):
        load_clip("tiny-for-a-test")
    with pytest.raises(ModelError, match="no-such-tag"):
        load_clip("tiny-for-a-test", "no-such-tag")


def hub_cache(cache: Path, repository: str) -> Path:
    """An empty snapshot in the layout of the Hugging Face cache."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("a" * 40)
    return snapshot


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and HF_HUB_OFFLINE=1 as huggingface_hub reads it at its import."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


@pytest.mark.parametrize("model", ["vinid/plip", "hf-hub:vinid/plip"])
def test_an_empty_hub_cache_offline_says_what_to_do(offline: Path, model: str) -> None:
    with pytest.raises(ModelError, match=r"'vinid/plip'.*hf download vinid/plip --local-dir"):
        load_clip(model)


def test_the_hub_cache_is_used_offline(offline: Path) -> None:
    snapshot = hub_cache(offline, "vinid/plip")
    tiny_clip(snapshot)
    clip = load_clip("vinid/plip")
    assert clip.fingerprint == load_clip(str(snapshot)).fingerprint
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"of it is neither.*hf download"):
        load_clip("vinid/plip")


def test_open_clip_layout_in_the_hub_cache(offline: Path) -> None:
    snapshot = hub_cache(offline, "someone/pathology-clip")
    for file in EMBEDDED_FOLDER.iterdir():
        shutil.copy(file, snapshot)
    config = json.loads((snapshot / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = str(EMBEDDED_FOLDER)
    (snapshot / "open_clip_config.json").write_text(json.dumps(config))
    clip = load_clip("hf-hub:someone/pathology-clip")
    assert clip.tokenizer(["colon"]).shape == (1, config["model_cfg"]["text_cfg"]["context_length"])
    (snapshot / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match="someone/pathology-clip"):  # never a model with random weights
        load_clip("hf-hub:someone/pathology-clip")


@pytest.mark.parametrize(
    ("model", "says"),
    [("/no/such/folder", "no such file or folder"), ("./a/b", "no such file or folder"), ("ViT-B-33", "architecture")],
)
def test_what_is_not_there(model: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        load_clip(model)


def test_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither open_clip_config\.json nor config\.json"):
        load_clip(str(tmp_path))
    tiny_clip(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="check its files"):
        load_clip(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load_clip(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="check its files"):
        load_clip(str(tmp_path))
    alone = tmp_path / "alone"
    alone.mkdir()
    save_file({"x": torch.zeros(1)}, alone / "w.safetensors")
    with pytest.raises(ModelError, match="no config beside them"):
        load_clip(str(alone / "w.safetensors"))


def test_states_that_are_no_clip(tmp_path: Path) -> None:
    state = tiny_clip(tmp_path).state_dict()
    with pytest.raises(ModelError, match="does not belong"):
        convert_state(state | {"decoder.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match="incomplete"):
        convert_state({k: v for k, v in state.items() if "layers.0.self_attn.k_proj.weight" not in k})
    with pytest.raises(ModelError, match="not 'clip'"):
        convert_config({"model_type": "bert"})
    with pytest.raises(ModelError, match="activation"):
        convert_config({"model_type": "clip", "vision_config": {"hidden_act": "gelu"}})


@pytest.mark.parametrize(
    ("stated", "mode", "interpolation"),
    [
        ({}, "shortest", "bicubic"),
        ({"size": 224, "crop_size": 224, "resample": 3}, "shortest", "bicubic"),
        (
            {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "resample": 2},
            "shortest",
            "bilinear",
        ),
        ({"size": {"height": 224, "width": 224}, "do_center_crop": False}, "squash", "bicubic"),
    ],
)
def test_preprocessing_is_taken_over(stated: dict, mode: str, interpolation: str) -> None:
    preprocess = convert_preprocess(stated | {"image_mean": [0.1, 0.2, 0.3]}, 224)
    assert (preprocess["resize_mode"], preprocess["interpolation"]) == (mode, interpolation)
    assert preprocess["mean"] == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("stated", [{"resample": 0}, {"size": 256, "crop_size": 224}, {"size": 224, "crop_size": 192}])
def test_preprocessing_that_open_clip_has_not_is_refused(stated: dict) -> None:
    with pytest.raises(ModelError, match=r"preprocessor_config\.json"):
        convert_preprocess(stated, 224)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_images_are_prepared_as_open_clip_does(mode: str) -> None:
    clip = load_clip("embedded")
    clip.preprocess["resize_mode"] = mode
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (h, w, 3), np.uint8)) for h, w in ((96, 96), (50, 130), (200, 131))]
    encoder = ImageEncoder(clip, "cpu", "fp32")
    prepared = encoder.to_input(np.stack([encoder.prepare(image) for image in images]))
    config = open_clip.transform.PreprocessCfg(**clip.preprocess)
    expected = torch.stack([open_clip.transform.image_transform_v2(config, is_train=False)(image) for image in images])
    torch.testing.assert_close(prepared, expected, atol=1e-5, rtol=1e-5)
