"""FLUX as people keep it outside of diffusers: every part in a file of its own, tokenizers beside.

The parts have the classes, key names and head widths of the real ones and are otherwise small; the
tokenizers are those that FLUX.1's repository names, with a few words.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxPipeline
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from tests.helpers.flux import WORDS
from tests.helpers.original_layout import make_transformer, original_state


@dataclass(frozen=True)
class SingleFiles:
    """Paths."""

    transformer: Path
    autoencoder: Path
    text_encoder: Path
    text_encoder_2: Path
    tokenizers: Path

    def flags(self) -> dict[str, object]:
        """As settings of a run, or of a pipeline."""
        return {
            "model_id": str(self.transformer),
            "autoencoder": self.autoencoder,
            "text_encoder": self.text_encoder,
            "text_encoder_2": self.text_encoder_2,
            "components": str(self.tokenizers),
        }


def make_autoencoder() -> AutoencoderKL:
    torch.manual_seed(5)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64),
        layers_per_block=2,
        latent_channels=16,
        norm_num_groups=32,
        sample_size=1024,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def make_clip(vocabulary: int, end_token: int) -> CLIPTextModel:
    torch.manual_seed(6)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=48,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=1,
            max_position_embeddings=77,
            eos_token_id=end_token,
        )
    ).eval()


def make_t5(vocabulary: int) -> T5EncoderModel:
    torch.manual_seed(7)
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    ).eval()


def make_tokenizers() -> tuple[CLIPTokenizer, T5TokenizerFast]:
    letters = "abcdefghijklmnopqrstuvwxyz,."
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    clip = CLIPTokenizer(
        vocab={
            piece: index
            for index, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])
        },
        merges=[],
        model_max_length=77,
    )
    words = [f"▁{word}" for word in WORDS]
    t5 = T5TokenizerFast(
        vocab=[
            (piece, 0.0 if piece.startswith("<") else -1.0 if len(piece) > 1 else -9.0)
            for piece in ["<pad>", "</s>", "<unk>", "▁", *letters, *words]
        ],
        extra_ids=0,
        model_max_length=32,
    )
    return clip, t5


def original_autoencoder_state(model: AutoencoderKL) -> dict[str, torch.Tensor]:
    """Its weights under the names of the original release, written down block by block."""
    own = model.state_dict()
    out: dict[str, torch.Tensor] = {}

    def copy(target: str, source: str, *, is_matrix: bool = False) -> None:
        for part in ("weight", "bias"):
            value = own[f"{source}.{part}"].clone()
            if is_matrix and part == "weight":
                value = value[:, :, None, None]
            out[f"{target}.{part}"] = value

    def resnet(target: str, source: str) -> None:
        for layer in ("norm1", "conv1", "norm2", "conv2"):
            copy(f"{target}.{layer}", f"{source}.{layer}")
        if f"{source}.conv_shortcut.weight" in own:
            copy(f"{target}.nin_shortcut", f"{source}.conv_shortcut")

    levels, layers = len(model.config.block_out_channels), model.config.layers_per_block
    for half in ("encoder", "decoder"):
        for new, old in (
            ("conv_in", "conv_in"),
            ("norm_out", "conv_norm_out"),
            ("conv_out", "conv_out"),
        ):
            copy(f"{half}.{new}", f"{half}.{old}")
        resnet(f"{half}.mid.block_1", f"{half}.mid_block.resnets.0")
        resnet(f"{half}.mid.block_2", f"{half}.mid_block.resnets.1")
        attention = f"{half}.mid_block.attentions.0"
        copy(f"{half}.mid.attn_1.norm", f"{attention}.group_norm")
        for new, old in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
            copy(f"{half}.mid.attn_1.{new}", f"{attention}.{old}", is_matrix=True)
    for level in range(levels):
        for index in range(layers):
            resnet(
                f"encoder.down.{level}.block.{index}",
                f"encoder.down_blocks.{level}.resnets.{index}",
            )
        for index in range(layers + 1):
            resnet(
                f"decoder.up.{levels - 1 - level}.block.{index}",
                f"decoder.up_blocks.{level}.resnets.{index}",
            )
        if level < levels - 1:
            copy(
                f"encoder.down.{level}.downsample.conv",
                f"encoder.down_blocks.{level}.downsamplers.0.conv",
            )
            copy(
                f"decoder.up.{levels - 1 - level}.upsample.conv",
                f"decoder.up_blocks.{level}.upsamplers.0.conv",
            )
    return out


def write_single_files(folder: Path, *, guidance_embeds: bool = False) -> SingleFiles:
    """``flux1-….safetensors``, ``ae.safetensors``, ``clip_l.safetensors``, ``t5xxl_fp16…``."""
    folder.mkdir()
    files = SingleFiles(
        transformer=folder / f"flux1-{'dev' if guidance_embeds else 'schnell'}.safetensors",
        autoencoder=folder / "ae.safetensors",
        text_encoder=folder / "clip_l.safetensors",
        text_encoder_2=folder / "t5xxl_fp16.safetensors",
        tokenizers=folder / "tokenizers",
    )
    tokenizer, tokenizer_2 = make_tokenizers()
    transformer = make_transformer(guidance_embeds=guidance_embeds, pooled_projection_dim=64)
    save_file(original_state(transformer), files.transformer)
    save_file(original_autoencoder_state(make_autoencoder()), files.autoencoder)
    clip = make_clip(len(tokenizer), tokenizer.eos_token_id).state_dict()
    save_file({f"text_model.{name}": value for name, value in clip.items()}, files.text_encoder)
    t5 = make_t5(len(tokenizer_2)).state_dict()
    t5.pop("encoder.embed_tokens.weight", None)
    save_file({name: value.half() for name, value in t5.items()}, files.text_encoder_2)
    nothing = dict.fromkeys(("transformer", "vae", "text_encoder", "text_encoder_2", "scheduler"))
    FluxPipeline(tokenizer=tokenizer, tokenizer_2=tokenizer_2, **nothing).save_pretrained(
        files.tokenizers
    )
    return files
