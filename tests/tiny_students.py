"""Tiny students with random weights, one per architecture of the real world, saved as their families are published.

Each builder writes model, processor or tokenizer, chat template and generation config into a folder, so that a test
loads it exactly as it would load the real one. The chat templates keep the traps of their families: Llama 3.2 Vision
and Gemma 2 refuse a system line, LLaVA writes no end of turn, Qwen has no BOS, Mllama's image token lies outside its
output vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import transformers as tf

from mint_core.testing import student
from mint_core.testing.student import HIDDEN, LLAMA_SPECIAL, SPREAD, save, small

LABELS = ("Adrenal gland", "Bile duct", "Colon", "Kidney", "Liver", "Skin")
HEADER = "MOST_LIKELY_TISSUE:"
CORPUS = [
    *LABELS,
    HEADER,
    "You are a pathologist. Name the tissues of this patch, most likely first, as a numbered list.",
    "Sex female, age 3 years 6 months. Phenotypes: long palpebral fissure, short stature.",
    "USER: ASSISTANT: User Assistant system user assistant model",
    *(f"\n{number}. {label}" for number in range(1, 6) for label in LABELS),
]


@dataclass(frozen=True)
class Architecture:
    """One family of students."""

    name: str
    build: Callable[[Path], None]
    reads_images: bool
    image_tokens: int = 0
    """Image tokens in the row of a square image."""
    bos: str | None = None
    needs: str | None = None
    """A package that its processor needs, beside what mint installs."""


def small_vision(**other) -> dict:
    """What CLIP and SigLIP towers here have in common."""
    return {
        "hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "initializer_range": SPREAD, **other,
    }  # fmt: skip


tokenizer = partial(student.tokenizer, CORPUS)


def open_up(model, part: str) -> None:
    """Gives random values to parameters that begin at zero and are trained in real models.

    Args:
        model: In place.
        part: Of the parameters' names.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part in name and not parameter.any():
                parameter.normal_(mean=1.0 if parameter.numel() == 1 else 0.0, std=SPREAD)


GEMMA_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")


def build_gemma2(folder: Path) -> None:
    """Gemma 2: refuses a system role, softcaps its logits, slides its window in every second layer."""
    words = tokenizer(GEMMA_SPECIAL, bos="<bos>", eos="<eos>", pad="<pad>", adds_bos=True)
    template = (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role here') }}{% endif %}"
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Turns must alternate') }}{% endif %}"
        "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim }}"
        "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    )
    config = tf.Gemma2Config(
        **small(vocab_size=len(words), head_dim=16, query_pre_attn_scalar=16, sliding_window=24),
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    stops = [words.eos_token_id, words.convert_tokens_to_ids("<end_of_turn>")]
    save(folder, tf.Gemma2ForCausalLM(config), words, template, stops)


QWEN_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
QWEN_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_qwen2(folder: Path) -> None:
    """Qwen 2.5: ChatML, no BOS, output weights tied to the input."""
    words = tokenizer(QWEN_SPECIAL, bos=None, eos="<|im_end|>", pad="<|endoftext|>")
    config = tf.Qwen2Config(**small(vocab_size=len(words) + 5), tie_word_embeddings=True)
    save(folder, tf.Qwen2ForCausalLM(config), words, QWEN_TEMPLATE, [words.eos_token_id, words.pad_token_id])


def build_qwen2_5_vl(folder: Path) -> None:
    """Qwen2.5-VL: patches of all images in one tensor, as many as the image's shape asks for; three-part positions."""
    words = tokenizer(QWEN_SPECIAL, bos=None, eos="<|im_end|>", pad="<|endoftext|>")
    ids = {
        f"{name}_token_id": words.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in {
            "image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"
        }.items()
    }  # fmt: skip
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
    config = tf.Qwen2_5_VLConfig(
        text_config=small(
            vocab_size=len(words), rope_parameters=rope, bos_token_id=words.pad_token_id,
            eos_token_id=words.eos_token_id,
        ),
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": HIDDEN,
            "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 56,
            "fullatt_block_indexes": [1], "initializer_range": SPREAD,
        },
        **ids,
    )  # fmt: skip
    pixels = {"shortest_edge": 56 * 56, "longest_edge": 84 * 84}
    processor = tf.Qwen2_5_VLProcessor(
        tf.Qwen2VLImageProcessor(size=pixels), words, tf.Qwen2VLVideoProcessor(size=pixels)
    )
    model = tf.Qwen2_5_VLForConditionalGeneration(config)
    save(folder, model, processor, QWEN_TEMPLATE, [words.eos_token_id, words.pad_token_id])


def build_llava(folder: Path) -> None:
    """LLaVA 1.5: the BOS comes from the tokenizer, and nothing but a space ends a turn."""
    words = tokenizer(
        ("<unk>", "<s>", "</s>", "<pad>", "<image>"), bos="<s>", eos="</s>", pad="<pad>", adds_bos=True
    )  # fmt: skip
    template = (
        "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'].upper() + ': ' }}{% endif %}"
        "{% for part in m['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
        "{% for part in m['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )
    config = tf.LlavaConfig(
        text_config=tf.LlamaConfig(**small(vocab_size=len(words))),
        vision_config=tf.CLIPVisionConfig(**small_vision(image_size=28, patch_size=14, projection_dim=HIDDEN)),
        image_token_index=words.convert_tokens_to_ids("<image>"), image_seq_length=4,
    )  # fmt: skip
    processor = tf.LlavaProcessor(
        tf.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}), words,
        patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip
    save(folder, tf.LlavaForConditionalGeneration(config), processor, template, [words.eos_token_id])


IDEFICS_SPECIAL = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|pad|>", "<fake_token_around_image>", "<image>",
    "<end_of_utterance>", "<global-img>", *(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)),
)  # fmt: skip
IDEFICS_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] | capitalize }}"
    "{% if m['content'][0]['type'] == 'image' %}:{% else %}{{ ': ' }}{% endif %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<end_of_utterance>\n' }}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def build_idefics3(folder: Path) -> None:
    """Idefics 3: an image becomes tiles and one view of the whole, as many as its shape asks for."""
    words = tokenizer(
        IDEFICS_SPECIAL, bos="<|begin_of_text|>", eos="<|end_of_text|>", pad="<|pad|>", adds_bos=True
    )  # fmt: skip
    images = tf.Idefics3ImageProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    processor = tf.Idefics3Processor(images, words, image_seq_len=4)
    model = tf.Idefics3ForConditionalGeneration(tf.Idefics3Config(**tiled(words)))
    stops = [words.eos_token_id, words.convert_tokens_to_ids("<end_of_utterance>")]
    save(folder, model, processor, IDEFICS_TEMPLATE, stops)


def build_smolvlm(folder: Path) -> None:
    """SmolVLM: tiles like Idefics 3, and the chat markers are BOS and padding. Its processor needs num2words."""
    words = tokenizer(
        ("<|im_start|>", "<|im_end|>", *IDEFICS_SPECIAL[4:]),
        bos="<|im_start|>", eos="<end_of_utterance>", pad="<|im_end|>",
    )  # fmt: skip
    images = tf.SmolVLMImageProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    videos = tf.SmolVLMVideoProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    processor = tf.SmolVLMProcessor(images, words, videos, image_seq_len=4)
    model = tf.SmolVLMForConditionalGeneration(tf.SmolVLMConfig(**tiled(words)))
    save(folder, model, processor, IDEFICS_TEMPLATE, [words.eos_token_id])


def tiled(words) -> dict:
    """What Idefics 3 and SmolVLM have in common."""
    return {
        "text_config": tf.LlamaConfig(**small(vocab_size=len(words), pad_token_id=words.pad_token_id)),
        "vision_config": small_vision(image_size=28, patch_size=7),
        "scale_factor": 2,
        "image_token_id": words.convert_tokens_to_ids("<image>"),
        "pad_token_id": words.pad_token_id,
    }


def build_gemma3(folder: Path) -> None:
    """Gemma 3: token types say where the image is, and its tokens see each other both ways."""
    words = tokenizer(
        (*GEMMA_SPECIAL, "<start_of_image>", "<end_of_image>", "<image_soft_token>"),
        bos="<bos>", eos="<eos>", pad="<pad>", adds_bos=True,
        boi="<start_of_image>", eoi="<end_of_image>", image="<image_soft_token>",
    )  # fmt: skip
    template = (
        "{{ bos_token }}{% set ns = namespace(first='', turns=messages) %}{% if messages[0]['role'] == 'system' %}"
        "{% set ns.first = messages[0]['content'][0]['text'] + '\n\n' %}{% set ns.turns = messages[1:] %}{% endif %}"
        "{% for m in ns.turns %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Turns must alternate') }}{% endif %}"
        "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
        "{% if loop.first %}{{ ns.first }}{% endif %}{% for part in m['content'] %}"
        "{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}"
        "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    )
    config = tf.Gemma3Config(
        text_config=small(vocab_size=len(words), head_dim=16, query_pre_attn_scalar=16, sliding_window=24),
        vision_config=small_vision(image_size=56, patch_size=14, vision_use_head=False), mm_tokens_per_image=4,
        boi_token_index=words.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=words.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=words.convert_tokens_to_ids("<image_soft_token>"),
    )  # fmt: skip
    processor = tf.Gemma3Processor(
        tf.Gemma3ImageProcessor(size={"height": 56, "width": 56}), words, image_seq_length=4
    )  # fmt: skip
    stops = [words.eos_token_id, words.convert_tokens_to_ids("<end_of_turn>")]
    model = tf.Gemma3ForConditionalGeneration(config)
    open_up(model, "mm_input_projection_weight")  # fresh, it is zero: the image would add nothing
    save(folder, model, processor, template, stops)


def build_mllama(folder: Path) -> None:
    """Llama 3.2 Vision: the image reaches the text through cross-attention; no image beside a system line."""
    words = tokenizer(
        (*LLAMA_SPECIAL, "<|image|>"),
        bos="<|begin_of_text|>", eos="<|eot_id|>", pad="<|finetune_right_pad_id|>", adds_bos=True,
    )  # fmt: skip
    template = (
        "{{ bos_token }}{% set ns = namespace(image=false) %}{% for m in messages %}{% for part in m['content'] %}"
        "{% if part['type'] == 'image' %}{% set ns.image = true %}{% endif %}{% endfor %}{% endfor %}"
        "{% if ns.image and messages[0]['role'] == 'system' %}"
        "{{ raise_exception('Images and a system line do not go together') }}{% endif %}"
        "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
        "{% for part in m['content'] %}"
        "{% if part['type'] == 'image' %}<|image|>{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    )
    image_id = words.convert_tokens_to_ids("<|image|>")  # the input embedding knows it, the output does not
    config = tf.MllamaConfig(
        text_config=small(
            vocab_size=image_id, cross_attention_layers=[1], bos_token_id=words.bos_token_id,
            pad_token_id=words.pad_token_id, eos_token_id=words.eos_token_id,
        ),
        vision_config={
            "hidden_size": HIDDEN, "attention_heads": 2, "num_hidden_layers": 2, "num_global_layers": 1,
            "intermediate_size": 48, "intermediate_layers_indices": [0, 1], "vision_output_dim": 3 * HIDDEN,
            "image_size": 28, "patch_size": 14, "max_num_tiles": 4, "initializer_range": SPREAD,
        },
        image_token_index=image_id,
    )  # fmt: skip
    model = tf.MllamaForConditionalGeneration(config)
    open_up(model, "gate")  # fresh gates are shut: cross-attention would add nothing
    processor = tf.MllamaProcessor(
        tf.MllamaImageProcessor(size={"height": 28, "width": 28}, max_image_tiles=4), words
    )  # fmt: skip
    stops = [words.convert_tokens_to_ids(t) for t in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")]
    save(folder, model, processor, template, stops)


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture("llama", partial(student.build_llama, corpus=CORPUS), False, bos="<|begin_of_text|>"),
        Architecture("gemma2", build_gemma2, False, bos="<bos>"),
        Architecture("qwen2", build_qwen2, False),
        Architecture("mllama", build_mllama, True, image_tokens=1, bos="<|begin_of_text|>"),
        Architecture("llava", build_llava, True, image_tokens=4, bos="<s>"),
        Architecture("qwen2_5_vl", build_qwen2_5_vl, True, image_tokens=4, bos=None),
        Architecture("idefics3", build_idefics3, True, image_tokens=20, bos="<|begin_of_text|>"),
        Architecture("smolvlm", build_smolvlm, True, image_tokens=20, bos="<|im_start|>", needs="num2words"),
        Architecture("gemma3", build_gemma3, True, image_tokens=4, bos="<bos>"),
    )
}


def build(name: str, folder: Path) -> Path:
    """Builds a student with weights that depend on nothing but its name.

    Args:
        name: Key of ARCHITECTURES.
        folder: Where to.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(name))
        ARCHITECTURES[name].build(folder)
    return folder
