"""A complete FLUX pipeline in miniature, with random weights: what tests load instead of FLUX."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

_WORDS = (
    "a above and ball behind below bird box car cat dog eating girl hat holding horse house in "
    "left looking man near of on photo riding right sitting standing the tree wearing woman"
)
WORDS = tuple(_WORDS.split())
"""Words that are one token; every other word is spelled letter by letter."""

MAX_SEQUENCE_LENGTH = 32


def make_tokenizer(*, max_length: int, start: bool) -> PreTrainedTokenizerFast:
    """A word tokenizer; ``start``: whether a prompt begins with a start token, as CLIP's does."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["<pad>", "</s>", "<unk>", "<s>", *WORDS]
    pieces += [letter for letter in letters if letter not in WORDS]
    pieces += ["##" + letter for letter in letters]
    core = Tokenizer(
        models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="<unk>")
    )
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if start else "$A </s>", special_tokens=[("<s>", 3), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=max_length,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>",
        padding_side="right",
    )


def make_transformer(
    *,
    seed: int = 0,
    num_layers: int = 8,
    num_single_layers: int = 2,
    heads: int = 2,
    joint_attention_dim: int = 32,
    pooled_projection_dim: int = 24,
    guidance_embeds: bool = False,
) -> FluxTransformer2DModel:
    """FLUX's transformer class with hidden size 16 * ``heads`` and random weights, frozen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=num_layers,
            num_single_layers=num_single_layers,
            attention_head_dim=16,
            num_attention_heads=heads,
            joint_attention_dim=joint_attention_dim,
            pooled_projection_dim=pooled_projection_dim,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(4, 6, 6),
        )
    return transformer.requires_grad_(False).eval()


def make_flux_folder(
    path: str | Path,
    *,
    seed: int = 0,
    num_layers: int = 8,
    num_single_layers: int = 2,
    heads: int = 2,
    guidance_embeds: bool = False,
) -> Path:
    """Write a folder that plain ``FluxPipeline.from_pretrained`` loads; the seed decides it all.

    Pictures of 64 by 64 pixels are latents of 16 by 16 and 64 image tokens; T5 features have 32
    numbers, pooled ones 24.

    Returns:
        ``path``.
    """
    path = Path(path)
    tokenizer = make_tokenizer(max_length=MAX_SEQUENCE_LENGTH, start=True)
    tokenizer_2 = make_tokenizer(max_length=MAX_SEQUENCE_LENGTH, start=False)
    transformer = make_transformer(
        seed=seed,
        num_layers=num_layers,
        num_single_layers=num_single_layers,
        heads=heads,
        guidance_embeds=guidance_embeds,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 16),
            layers_per_block=1,
            latent_channels=16,
            norm_num_groups=4,
            sample_size=64,
            scaling_factor=0.9,
            shift_factor=0.1,
            mid_block_add_attention=False,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=24,
                intermediate_size=48,
                projection_dim=24,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=MAX_SEQUENCE_LENGTH,
                eos_token_id=tokenizer.eos_token_id,
                bos_token_id=tokenizer.bos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        text_encoder_2 = T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer_2),
                d_model=32,
                d_kv=16,
                d_ff=48,
                num_layers=1,
                num_heads=2,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
                eos_token_id=tokenizer_2.eos_token_id,
                pad_token_id=tokenizer_2.pad_token_id,
                decoder_start_token_id=tokenizer_2.pad_token_id,
            )
        )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2.eval(),
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    )
    pipeline.save_pretrained(path)
    return path
