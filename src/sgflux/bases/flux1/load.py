"""A FLUX pipeline's parts, loaded one by one: text encoders, autoencoder, transformer, scheduler.

A model is a diffusers ``FluxPipeline`` folder, an id on the hub, or ``tiny``, the one that comes
with the package. Everything is loaded frozen and in evaluation mode.

Shapes: B batch, L text tokens, D_t5 and D_clip the text encoders' widths; images (B, 3, H, W);
latents (B, 16, h, w); packed 2 by 2 they are (B, h/2 * w/2, 64).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from safetensors import SafetensorError
from torch import Tensor

from sgflux.bases.family import Components
from sgflux.bases.flux1.parts import load_part, settings_in_file
from sgflux.bases.flux1.schedule import FluxScheduler
from sgflux.bases.flux1.text import TextEncoders, text_length
from sgflux.bases.hub import resolve_model_id, why_not_loaded
from sgflux.bases.tokenizers import check_tokenizer
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource

_DEV_SCHEDULE: dict[str, Any] = {
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
"""FLUX.1-dev's scheduler; FLUX.1-schnell's is the plain one."""

_Part = TypeVar("_Part")


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """FLUX's autoencoder with its latent scaling."""

    vae: AutoencoderKL

    @property
    def downsample(self) -> int:
        """Pixels a side for one latent pixel (8 for FLUX.1)."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size(self) -> int:
        """Pixels a side of the pictures that the model was made for."""
        return int(self.vae.config.sample_size)

    @torch.no_grad()
    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the *unscaled* latents.

        Args:
            images: (B, 3, H, W) in [-1, 1].

        Returns:
            Two of (B, 16, h, w) in the autoencoder's dtype.
        """
        images = images.to(device=self.vae.device, dtype=self.vae.dtype)
        distribution = self.vae.encode(images).latent_dist
        return distribution.mean, distribution.std

    def scale(self, latents: Tensor) -> Tensor:
        """Unscaled latents as the transformer sees them, (latents - shift) * scaling."""
        return (latents - self.vae.config.shift_factor) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of scaled latents (B, 16, h, w): (B, 3, H, W) float32 in [0, 1]."""
        unscaled = latents / self.vae.config.scaling_factor + self.vae.config.shift_factor
        unscaled = unscaled.to(device=self.vae.device, dtype=self.vae.dtype)
        images = self.vae.decode(unscaled, return_dict=False)[0]
        return (images.float() / 2 + 0.5).clamp(0, 1)


# --- loading ------------------------------------------------------------------------------------


def load_text_encoders(
    source: ModelSource,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    max_sequence_length: int | None = None,
) -> TextEncoders:
    """Load both text encoders and their tokenizers.

    Args:
        source: Place of the model and its parts.
        dtype: Precision of the weights.
        device: Device of the weights.
        max_sequence_length: T5's tokens of a prompt; None: what the tokenizer allows, at most 256.

    Raises:
        SgfluxError: if the model cannot be loaded, or the length is out of range.
    """
    absent = ["transformer", "vae", "scheduler"]
    needed = ["tokenizer", "tokenizer_2"]
    (needed if source.text_encoder is None else absent).append("text_encoder")
    (needed if source.text_encoder_2 is None else absent).append("text_encoder_2")
    _expect_parts(source.rest, needed)
    # The pipeline knows which tokenizer classes its folder was written with.
    pipeline = _load(
        FluxPipeline.from_pretrained, source.rest, source, dtype=dtype, **dict.fromkeys(absent)
    )
    clip, t5 = pipeline.text_encoder, pipeline.text_encoder_2
    if source.text_encoder is not None:
        end = pipeline.tokenizer.eos_token_id
        clip = load_part("text_encoder", source.text_encoder, dtype=dtype, eos_token_id=end)
    if source.text_encoder_2 is not None:
        t5 = load_part("text_encoder_2", source.text_encoder_2, dtype=dtype)
    _check_tokenizers(pipeline, clip, t5, source.rest)
    return TextEncoders(
        tokenizer=pipeline.tokenizer,
        text_encoder=_frozen(clip, device),
        tokenizer_2=pipeline.tokenizer_2,
        text_encoder_2=_frozen(t5, device),
        max_sequence_length=text_length(
            max_sequence_length, pipeline.tokenizer_2.model_max_length, model=source.rest
        ),
        device=torch.device(device),
        dtype=dtype,
    )


def load_autoencoder(
    source: ModelSource,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Autoencoder:
    """Load the autoencoder; also from a single file in the original layout.

    Raises:
        SgfluxError: if it cannot be loaded.
    """
    if source.autoencoder is not None:
        return Autoencoder(_frozen(load_part("vae", source.autoencoder, dtype=dtype), device))
    make = AutoencoderKL.from_pretrained
    vae = _load(make, source.rest, source, subfolder="vae", dtype=dtype)
    return Autoencoder(vae=_frozen(vae, device))


def load_transformer(
    source: ModelSource,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> FluxTransformer2DModel:
    """Load the transformer, frozen; also from a single file in the original layout.

    Raises:
        SgfluxError: if it cannot be loaded.
    """
    if source.is_file:
        return _frozen(load_part("transformer", Path(source.name), dtype=dtype), device)
    make = FluxTransformer2DModel.from_pretrained
    return _frozen(_load(make, source.name, source, subfolder="transformer", dtype=dtype), device)


def load_scheduler(source: ModelSource) -> FluxScheduler:
    """Load the flow-matching scheduler; for a transformer in a single file, FLUX.1's own for it.

    Raises:
        SgfluxError: if it cannot be loaded.
    """
    if source.is_file:
        path = Path(source.name).expanduser()
        is_dev = settings_in_file("transformer", path)["guidance_embeds"]
        own = FlowMatchEulerDiscreteScheduler(**(_DEV_SCHEDULE if is_dev else {}))
        return FluxScheduler(own)
    make = FlowMatchEulerDiscreteScheduler.from_pretrained
    return FluxScheduler(_load(make, source.name, source, subfolder="scheduler"))


def of_pipeline(pipeline: FluxPipeline, *, max_sequence_length: int) -> Components:
    """See :class:`~sgflux.bases.family.Loading`."""
    text = TextEncoders(
        tokenizer=pipeline.tokenizer,
        text_encoder=pipeline.text_encoder,
        tokenizer_2=pipeline.tokenizer_2,
        text_encoder_2=pipeline.text_encoder_2,
        max_sequence_length=max_sequence_length,
        device=pipeline.text_encoder_2.device,
        dtype=pipeline.text_encoder_2.dtype,
    )
    scheduler = FluxScheduler(pipeline.scheduler)
    return Components(text, Autoencoder(pipeline.vae), scheduler, pipeline.transformer)


def _load(
    from_pretrained: Callable[..., _Part], model_id: str, source: ModelSource, **options: Any
) -> _Part:
    folder = resolve_model_id(model_id)
    if source.revision is not None:
        if folder != model_id or Path(folder).is_dir():
            raise SgfluxError(
                f"revision ({source.revision}) has no effect: {model_id!r} is a folder"
            )
        options["revision"] = source.revision
    try:
        with warnings.catch_warnings():
            # diffusers gives it to the hub's client, which has no use for it any more.
            warnings.filterwarnings("ignore", message="The `local_dir_use_symlinks` argument")
            return from_pretrained(folder, local_files_only=not source.allow_download, **options)
    except torch.OutOfMemoryError:
        raise
    except (
        *(OSError, ValueError),
        # What a part that is cut off, or does not fit its configuration, makes the loaders raise.
        *(SafetensorError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError),
    ) as error:
        raise SgfluxError(
            f"model {model_id!r} cannot be loaded: "
            + why_not_loaded(
                error,
                model_id,
                # In a folder there is nothing to fetch.
                allow_download=source.allow_download or Path(folder).is_dir(),
                revision=source.revision,
            )
        ) from error


def _expect_parts(model_id: str, parts: Sequence[str]) -> None:
    """Check that a folder, if it is one, has these subfolders."""
    folder = Path(resolve_model_id(model_id))
    for part in parts:
        if folder.is_dir() and not (folder / part).is_dir():
            raise SgfluxError(f"model folder {str(folder)!r} has no {part}/")


def _check_tokenizers(pipeline: Any, clip: Any, t5: Any, model_id: str) -> None:
    """Each tokenizer must be whole and stay within its encoder's vocabulary."""
    pairs = {"tokenizer": clip, "tokenizer_2": t5}
    for part, encoder in pairs.items():
        rows = encoder.get_input_embeddings().num_embeddings
        check_tokenizer(getattr(pipeline, part), embeddings=rows, where=model_id, part=part)


def _frozen(module: Any, device: torch.device | str) -> Any:
    return module.to(device).requires_grad_(False).eval()


# --- which model, which blocks ------------------------------------------------------------------


def model_identity(transformer: FluxTransformer2DModel) -> dict[str, Any]:
    """What an adapter must know of the base it was trained on; plain JSON.

    ``fingerprint`` is the SHA-256 of the input and output projections, rounded to bf16: the same
    model has the same one whether it was loaded in float32 or in bf16. What all parts of a base
    are is its :class:`~sgflux.bases.identity.BaseIdentity`, which is taken of the files.
    """
    config = transformer.config
    digest = hashlib.sha256()
    for name in ("x_embedder", "proj_out"):
        layer = transformer.get_submodule(name)
        for part in ("weight", "bias"):
            values = layer.get_parameter(part).detach().to("cpu", torch.bfloat16).contiguous()
            digest.update(f"{name}.{part}{tuple(values.shape)}".encode())
            digest.update(values.view(torch.int16).numpy().tobytes())
    return {
        "num_layers": config.num_layers,
        "num_single_layers": config.num_single_layers,
        "inner_dim": transformer.inner_dim,
        "joint_attention_dim": config.joint_attention_dim,
        "pooled_projection_dim": config.pooled_projection_dim,
        "in_channels": config.in_channels,
        "guidance_embeds": config.guidance_embeds,
        "fingerprint": digest.hexdigest(),
    }
