"""A family of base models: everything that holds for one kind of them.

Its folder implements the protocols here, and one line of :mod:`sgflux.bases.families` names it. A
base on disk is a :class:`~sgflux.settings.model_source.ModelSource`; the parts of a loaded one are
text encoders, an autoencoder, noise levels and a transformer with its
:class:`~sgflux.bases.base.Network`.

Shapes: B batch, S image tokens, c channels of the latents, D inner width, D_text features of a text
token.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from sgflux.bases.base import Network, Text
from sgflux.bases.identity import BaseIdentity
from sgflux.bases.lora_weights import LoraWeights
from sgflux.errors import SgfluxError
from sgflux.settings.adapter import LoraFormat
from sgflux.settings.model_source import ModelSource

# --- the parts of a loaded base -----------------------------------------------------------------


class TextEncoders(Protocol):
    """Text encoders and their tokenizers."""

    @property
    def max_sequence_length(self) -> int:
        """Number of text tokens of a prompt."""

    @property
    def dim(self) -> int:
        """D_text."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def encode(self, prompts: Sequence[str]) -> Text:
        """Features of B prompts in the encoders' dtype."""

    def encode_names(self, names: Sequence[str]) -> Tensor:
        """One feature of each of n names or statements, (n, D_text) float32.

        Statements are those of :func:`sgflux.graphs.names.names_in_context`.

        Raises:
            SgfluxError: if a name cannot be read.
        """

    def unreadable(self, names: Iterable[str]) -> Iterator[tuple[str, SgfluxError]]:
        """The names that :meth:`encode_names` would refuse, each with the error."""

    def cuts(self, prompts: Sequence[str]) -> list[bool]:
        """Whether each prompt has too many tokens and is read only in part."""


class Autoencoder(Protocol):
    """The autoencoder of the pictures, with the scale of its latents."""

    @property
    def downsample(self) -> int:
        """Pixels a side of one latent pixel."""

    @property
    def size(self) -> int:
        """Pixels a side of the pictures that the base was made for."""

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of unscaled latents, (B, c, h, w) each, as a cache has them.

        Args:
            images: (B, 3, H, W) in [-1, 1].
        """

    def scale(self, latents: Tensor) -> Tensor:
        """Unscaled latents in the transformer's units."""

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) float32 in [0, 1] of latents in the transformer's units."""


@dataclass(frozen=True)
class Schedule:
    """Noise levels of a sampling.

    Attributes:
        sigmas: Noise level that the network is told in each step, (steps,) float32, from noise on.
        moves: Change of the noise level in each step, (steps,) float32, negative.
    """

    sigmas: Tensor
    moves: Tensor

    def step(
        self, number: int, latents: Tensor, velocity: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Latents after a step, in the dtype of the velocity.

        Args:
            number: Number of the step, from 0.
            latents: Latents before it, (B, c, h, w).
            velocity: Velocity of these latents, noise - picture, as large.
            noise: New standard normal noise, as large, which is put on the foreseen picture; None:
                an Euler step, which keeps the noise that the velocity sees.

        Source:
            diffusers' FlowMatchEulerDiscreteScheduler, with stochastic_sampling and without.
        """
        if noise is None:
            return (latents.float() + self.moves[number] * velocity).to(velocity.dtype)
        sigma = self.sigmas[number]
        after = sigma + self.moves[number]
        denoised = latents.float() - sigma * velocity
        return ((1 - after) * denoised + after * noise).to(velocity.dtype)


class Scheduler(Protocol):
    """Noise levels of a base."""

    def schedule(self, steps: int, *, image_tokens: int, device: torch.device) -> Schedule:
        """The noise levels of a sampling of pictures with S image tokens."""

    def resolution_shift(self, image_tokens: int, *, always: bool) -> float:
        """How far the levels of training are moved towards noise for pictures of this size.

        Args:
            image_tokens: S.
            always: False: 1 unless the base itself moves its levels with the size.
        """


@dataclass(frozen=True)
class Components:
    """The parts of a loaded base."""

    text_encoders: TextEncoders
    autoencoder: Autoencoder
    scheduler: Scheduler
    transformer: Any


# --- a base on disk ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The numbers of a base's encoders, from its configuration files.

    Attributes:
        text_dim: Number of features of a text token, D_text.
        text_tokens: Number of tokens of a prompt.
        channels: Channels of the latents, c.
        downsample: Pixels a side of one latent pixel.
        patch: Pixels a side of an image token.
        latent_shift: Number subtracted from latents before the transformer sees them.
        latent_scale: Factor of the latents after that.
    """

    text_dim: int
    text_tokens: int
    channels: int
    downsample: int
    patch: int
    latent_shift: float
    latent_scale: float


@dataclass(frozen=True)
class Outline:
    """A base that has been described but not loaded: its weights have no content.

    Attributes:
        transformer: Transformer on the device ``meta``; the layers of its fingerprint are zero.
        text_encoders: Text encoders on the device ``meta``.
        autoencoder: Autoencoder on the device ``meta``.
        text_tokens: Number of tokens of a prompt.
        patch: Pixels a side of an image token.
    """

    transformer: Any
    text_encoders: Sequence[nn.Module]
    autoencoder: nn.Module
    text_tokens: int
    patch: int


@dataclass(frozen=True)
class ModelReport:
    """Result of a check without problems.

    Attributes:
        lines: Description of the checks for the user, one line for each part.
        unreadable: Function that finds the names that the text encoders cannot read, each with the
            error, given the names and the wanted number of tokens of a prompt; None if the
            tokenizers are still to be fetched.
    """

    lines: tuple[str, ...]
    unreadable: Callable[[Iterable[str], int | None], Iterator[tuple[str, SgfluxError]]] | None


class Files(Protocol):
    """What is known of a base from its files; nothing is loaded."""

    @property
    def pipelines(self) -> Sequence[str]:
        """Classes by which the ``model_index.json`` of a base's folder names the family."""

    @property
    def published(self) -> str | None:
        """File of ``assets/published`` with which diffusers draws graphs; None: there is none."""

    def check(self, source: ModelSource, *, needs_transformer: bool = True) -> ModelReport:
        """Look at every file of a base that a run would load.

        Raises:
            SgfluxError: naming the file, what is wrong with it, and what to do.
        """

    def facts(self, source: ModelSource, *, max_sequence_length: int | None) -> Facts:
        """The numbers of the encoders.

        Raises:
            SgfluxError: naming the file that is missing or lacks a number, or if the length is out
                of range.
        """

    def picture_size(self, source: ModelSource) -> int:
        """Pixels a side of the pictures that the base was made for.

        Raises:
            SgfluxError: if the base is not on this machine, or does not say it.
        """

    def encoder_identity(self, source: ModelSource, part: Literal["text", "pictures"]) -> str:
        """Digest of all files of the encoders of texts or pictures, for the keys of a cache.

        Raises:
            SgfluxError: naming a file that cannot be read.
        """

    def identity(self, source: ModelSource) -> BaseIdentity:
        """Digests of all parts, of which one is the transformer.

        Raises:
            SgfluxError: if a part is not on this machine or cannot be read.
        """

    def outline(self, source: ModelSource, *, max_sequence_length: int | None) -> Outline:
        """The base without its weights.

        Raises:
            SgfluxError: if a description is not on this machine, or the text is too long for it.
        """


class Loading(Protocol):
    """Loading of a base's parts, one by one; each is frozen and in evaluation mode.

    Every method raises an SgfluxError if the part cannot be loaded.
    """

    def load_text_encoders(
        self,
        source: ModelSource,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
        max_sequence_length: int | None = None,
    ) -> TextEncoders:
        """Load the text encoders; a length of None is the longest one that is usual."""

    def load_autoencoder(
        self, source: ModelSource, *, dtype: torch.dtype, device: torch.device | str
    ) -> Autoencoder:
        """Load the autoencoder."""

    def load_transformer(
        self, source: ModelSource, *, dtype: torch.dtype, device: torch.device | str
    ) -> Any:
        """Load the transformer."""

    def load_scheduler(self, source: ModelSource) -> Scheduler:
        """Load the noise levels."""

    def of_pipeline(self, pipeline: Any, *, max_sequence_length: int) -> Components:
        """The parts of a diffusers pipeline that somebody else has loaded."""


class LoraLayouts(Protocol):
    """Names and files of LoRA."""

    def lora_layers(
        self, base: Mapping[str, Any], blocks: Iterable[int], targets: str
    ) -> dict[str, tuple[int, int]]:
        """The transformer's layers that get a LoRA: name -> (inputs, outputs).

        Args:
            base: Description of the transformer, see :meth:`Family.describe`.
            blocks: Indices of the chosen blocks.
            targets: Value of :attr:`~sgflux.settings.adapter.AdapterSettings.lora_targets`.
        """

    def tokens_of(self, layer: str, *, image: int, text: int) -> int:
        """Number of an example's tokens that a layer with a LoRA sees.

        Args:
            layer: Name of the layer.
            image: Number of image tokens.
            text: Number of text tokens.
        """

    def read_lora(self, path: str | os.PathLike[str]) -> LoraWeights:
        """Read a LoRA file in any layout that is known for the family.

        Raises:
            SgfluxError: if the file is damaged, or a key is none of the family's.
        """

    def write_lora(
        self,
        path: str | os.PathLike[str],
        lora: LoraWeights,
        *,
        layout: LoraFormat,
        header: Mapping[str, str] | None = None,
    ) -> None:
        """Write a LoRA file, all of it or nothing.

        Raises:
            SgfluxError: if the layout cannot hold these layers, or a weight is not finite.
        """

    def hub_id(self, base: Mapping[str, Any]) -> str | None:
        """The hub's id of the base that a description fits, for bundles that do not name one."""

    def lora_header(self, base: Mapping[str, Any]) -> dict[str, str]:
        """What programs that manage LoRA files read in a header about the base."""


# --- the family ---------------------------------------------------------------------------------


class Family(Files, Loading, LoraLayouts, Protocol):
    """Everything that holds for one family of base models."""

    @property
    def transformer(self) -> type:
        """The library's class of the transformer, a diffusers model that takes a LoRA of peft."""

    def network(self, transformer: Any) -> Network:
        """The network of a loaded transformer."""

    def describe(self, transformer: Any) -> dict[str, Any]:
        """What an adapter must know of the transformer it was trained on; plain JSON.

        ``num_layers``, ``inner_dim`` (D), ``joint_attention_dim`` (D_text) and ``fingerprint``, a
        digest of a few weights, are among it; sizes are whole numbers.
        """
