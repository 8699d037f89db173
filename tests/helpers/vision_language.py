"""Small random models of the real classes, in folders, with a tokenizer of single bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import sgflux

TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""A chat template: the picture, the question, and whose turn it is."""

_LAYERS = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
VISION = {**_LAYERS, "num_hidden_layers": 1, "image_size": 32, "patch_size": 8}
TEXT = {**_LAYERS, "num_hidden_layers": 1, "num_key_value_heads": 2}


def byte_tokenizer(*, spaced: str = "ABC", special: tuple[str, ...] = ()) -> Any:
    """A tokenizer of bytes, and of a space before each letter of ``spaced``."""
    vocabulary = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {f"Ġ{letter}": len(vocabulary) + i for i, letter in enumerate(spaced)}
    bytes_ = Tokenizer(models.BPE(vocabulary, [("Ġ", letter) for letter in spaced]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bytes_,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens={"image_token": "<image>"},
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer


def save_llava(folder: Path, *, template: str | None = TEMPLATE) -> str:
    """LLaVA: one square of patches a picture."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**{**VISION, "num_hidden_layers": 2}),
        text_config=transformers.LlamaConfig(**TEXT, vocab_size=len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    transformers.LlavaProcessor(
        transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(folder)
    return str(folder)


def save_idefics3(folder: Path) -> str:
    """Idefics3, whose processor cuts pictures into tiles (SmolVLM's predecessor)."""
    torch.manual_seed(0)
    special = ("<fake_token_around_image>", "<end_of_utterance>", "<global-img>")
    tokenizer = byte_tokenizer(special=special)
    config = transformers.Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_config=VISION,
        text_config={
            **TEXT,
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
        },
        scale_factor=2,
    )
    transformers.Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    transformers.Idefics3Processor(
        transformers.Idefics3ImageProcessorPil(
            size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
        ),
        tokenizer,
        image_seq_len=4,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return str(folder)


def save_clip(folder: Path) -> str:
    """CLIP with both towers, and the bundled model's tokenizer of CLIP's kind."""
    torch.manual_seed(0)
    bundled = Path(sgflux.__file__).parent / "assets" / "tiny-flux" / "tokenizer"
    tokenizer = transformers.AutoTokenizer.from_pretrained(bundled)
    config = transformers.CLIPConfig(
        text_config={
            **_LAYERS,
            "num_hidden_layers": 1,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 64,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=VISION,
        projection_dim=16,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
