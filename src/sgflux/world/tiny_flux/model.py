"""tiny-flux's networks: a linear code of patches, FLUX's autoencoder, text encoders, transformer.

Shapes: B batch, pictures of H = W = 64 pixels, latents (B, 16, 16, 16), packed (B, 64, 64), L
tokens of T5's sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, T5EncoderModel

from sgflux.bases.flux1.latents import image_ids, text_ids
from sgflux.errors import SgfluxError
from sgflux.world.scenes import OBJECT_NAMES, PREDICATES
from sgflux.world.tiny_flux.scenes import LAYOUT_ROWS, RESOLUTION
from sgflux.world.tiny_flux.text import (
    CLIP_WIDTH,
    SEQUENCE_LENGTH,
    T5_WIDTH,
    make_text_encoders,
    make_tokenizer,
)

CLIP_LENGTH = 32
LAYOUT_BLOCK = 6  # double blocks below the layout head
LATENT_CHANNELS = 16
LIVE_CHANNELS = 8  # those that carry the picture; the others are zero
LIVE_DIMENSIONS = 4 * LIVE_CHANNELS  # of a packed token's 64
SHIFT = 2.5  # of the sampling schedule: more of its steps go to noise, where the layout is decided
CODE_FILE = "vae/linear_code.safetensors"
PATCH = 4  # pixels of the picture's side that one latent position covers


@dataclass(frozen=True)
class LinearCode:
    """The latents: principal components of 4 x 4 patches, which the autoencoder learns to imitate.

    A small transformer learns linear latents faster than those that an autoencoder finds for
    itself. It must also carry the noise of every latent dimension from its input to its output:
    64 dimensions a token crowd a width of 128. So only 8 of FLUX's 16 channels are used, and the
    transformer's weights for the others are zero, in and out.

    Attributes:
        offset: Mean patch, (48,) float32.
        basis: Components over patches, (48, 8) float32; the code has zero mean and, over its
            channels, unit variance, and the square root of the components' spread.
    """

    offset: Tensor
    basis: Tensor

    @classmethod
    def fit(cls, images: np.ndarray) -> LinearCode:
        """Fit the code to pictures (N, 64, 64, 3) uint8."""
        patches = _patches(images).flatten(0, 2).double()
        offset = patches.mean(0)
        variances, components = torch.linalg.eigh(torch.cov((patches - offset).mT))
        variances = variances.flip(0)[:LIVE_CHANNELS]
        components = components.flip(1)[:, :LIVE_CHANNELS]
        largest = components.gather(0, components.abs().argmax(0, keepdim=True))
        components = components * largest.sign()  # eigenvectors have no sign of their own
        components = components * variances**-0.25 / variances.sqrt().mean().sqrt()
        return cls(offset.float(), components.float())

    @classmethod
    def load(cls, pipeline: Path) -> LinearCode:
        """Load the code that a pipeline of this recipe was trained on."""
        path = pipeline / CODE_FILE
        if not path.is_file():
            raise SgfluxError(f"{path} is missing: {pipeline} was not made by this recipe")
        return cls(**load_file(path))

    def save(self, pipeline: Path) -> None:
        """Save the code beside the autoencoder that imitates it."""
        content = save({"offset": self.offset, "basis": self.basis.contiguous()})
        (pipeline / CODE_FILE).write_bytes(content)

    def encode(self, images: np.ndarray) -> Tensor:
        """Encode pictures (N, 64, 64, 3) uint8 as latents (N, 16, 16, 16) float32, half zero."""
        code = (_patches(images) - self.offset) @ self.basis
        code = F.pad(code, (0, LATENT_CHANNELS - LIVE_CHANNELS))
        return code.permute(0, 3, 1, 2).contiguous()


def _patches(images: np.ndarray) -> Tensor:
    """Convert uint8 (N, 64, 64, 3) to float32 (N, 16, 16, 48) in [-1, 1]."""
    side = RESOLUTION // PATCH
    pixels = torch.from_numpy(images).float().div_(127.5).sub_(1)
    tiles = pixels.reshape(len(images), side, PATCH, side, PATCH, 3).transpose(2, 3)
    return tiles.reshape(len(images), side, side, PATCH * PATCH * 3)


def make_autoencoder() -> AutoencoderKL:
    """Make FLUX's autoencoder class with 16 latent channels and two halvings."""
    widths = (32, 64, 96)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=RESOLUTION,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0,
        scaling_factor=1.0,
    )


def make_transformer() -> FluxTransformer2DModel:
    """Make FLUX's transformer class: 8 double-stream, 2 single-stream blocks, hidden 128."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=8,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=CLIP_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )


class CaptionedFlux(nn.Module):
    """Text encoders and transformer, trained as one from token ids to velocity."""

    image_ids: Tensor
    text_ids: Tensor

    def __init__(self, *, text_length: int = SEQUENCE_LENGTH) -> None:
        super().__init__()
        self.tokenizer = make_tokenizer(OBJECT_NAMES, max_length=CLIP_LENGTH, start=True)
        self.tokenizer_2 = make_tokenizer(OBJECT_NAMES, max_length=text_length, start=False)
        self.clip, self.t5 = make_text_encoders(self.tokenizer, self.tokenizer_2)
        self.transformer = make_transformer()
        width = self.transformer.inner_dim
        self.layout_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, LAYOUT_ROWS))
        self.role_head = nn.Linear(T5_WIDTH, 2 * len(PREDICATES))
        with torch.no_grad():
            self.transformer.x_embedder.weight[:, LIVE_DIMENSIONS:] = 0
            self.transformer.proj_out.weight[LIVE_DIMENSIONS:] = 0
            self.transformer.proj_out.bias[LIVE_DIMENSIONS:] = 0
        side = RESOLUTION // 8
        self.register_buffer("image_ids", image_ids(side, side), persistent=False)
        self.register_buffer("text_ids", text_ids(text_length), persistent=False)

    def load_pipeline(self, folder: Path) -> None:
        """Take transformer and text encoders of a pipeline that this recipe made.

        The two heads that only training needs are not in it; they stay as they are. So do the
        embeddings of words that its tokenizers did not know yet.
        """
        transformer = FluxTransformer2DModel.from_pretrained(folder, subfolder="transformer")
        clip = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder")
        t5 = T5EncoderModel.from_pretrained(folder, subfolder="text_encoder_2")
        self.transformer.load_state_dict(transformer.state_dict())
        for own, loaded in ((self.clip, clip), (self.t5, t5)):
            words = own.get_input_embeddings().weight
            known = loaded.get_input_embeddings().weight
            loaded.set_input_embeddings(
                nn.Embedding.from_pretrained(torch.cat([known, words[len(known) :]]).detach())
            )
            own.load_state_dict(loaded.state_dict())

    def tokenize(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Return token ids of both encoders, (B, 32) and (B, L) int64, padded as usual."""
        ids = []
        for tokenizer in (self.tokenizer, self.tokenizer_2):
            encoded = tokenizer(captions, padding="max_length", return_tensors="pt")["input_ids"]
            if encoded.shape[1] > tokenizer.model_max_length:
                longest = max(captions, key=len)
                raise SgfluxError(
                    f"a caption of the bundled world has {encoded.shape[1]} tokens, more than the "
                    f"text length of {tokenizer.model_max_length}: give a larger text_length, of "
                    f"32 at most; the longest caption is {longest!r}"
                )
            ids.append(encoded)
        return ids[0], ids[1]

    def forward(
        self, latents: Tensor, sigma: Tensor, clip_ids: Tensor, t5_ids: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return velocity, layout and roles of packed latents (B, 64, 64) at sigma (B,).

        The transformer's own forward pass, block by block, because the layout head reads the image
        tokens in its middle. The two heads are thrown away with the training.

        Returns:
            Velocity (B, 64, 64), layout logits (B, 64, 62) and role logits (B, L, 48).
        """
        flux = self.transformer
        live = F.pad(latents[..., :LIVE_DIMENSIONS], (0, latents.shape[2] - LIVE_DIMENSIONS))
        image = flux.x_embedder(live)  # without noise in them, dead weights stay at zero
        temb = flux.time_text_embed(sigma * 1000, self.clip(clip_ids).pooler_output)
        words = self.t5(t5_ids)[0]
        text = flux.context_embedder(words)
        rotary = flux.pos_embed(torch.cat([self.text_ids, self.image_ids]))
        for block in flux.transformer_blocks[:LAYOUT_BLOCK]:
            text, image = block(image, text, temb, rotary)
        layout = self.layout_head(image)
        for block in (*flux.transformer_blocks[LAYOUT_BLOCK:], *flux.single_transformer_blocks):
            text, image = block(image, text, temb, rotary)
        return flux.proj_out(flux.norm_out(image, temb)), layout, self.role_head(words)
