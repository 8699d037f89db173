"""What an adapter is, as settings that travel with its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Any

import torch

import sgflux
from sgflux.bases.families import family_in
from sgflux.bases.family import Family
from sgflux.bases.identity import BaseIdentity
from sgflux.errors import SgfluxError
from sgflux.models.block_range import validate_block_range
from sgflux.models.conditioner import Conditioner
from sgflux.models.encoders import complete_settings
from sgflux.models.graph_encoder import GraphEncoder
from sgflux.settings.adapter import GraphMode, LoraTargets
from sgflux.settings.checks import Count, Positive, Whole, settings, typed
from sgflux.settings.graph_encoder import BOX_SETTINGS, BOX_SETTINGS_OF_TOKENS

_SIZES = ("_layers", "_dim", "_channels")
"""Endings of what a base's description has to say in whole numbers."""


@settings
class AdapterConfig:
    """What an adapter is: enough to build it again, on the right base.

    Raises:
        SgfluxError: if a value is impossible.
    """

    graph_mode: GraphMode = "token"
    tokens_per_triple: Count = 3
    block_start: Whole
    block_end: Count
    lora_rank: Count = 16
    lora_alpha: Positive = 16.0
    lora_targets: LoraTargets = "all"
    encoder: Mapping[str, Any] = field(default_factory=lambda: {"kind": "native"})
    """The graph encoder's ``kind`` and sizes; those not given have their defaults filled in."""
    base: Mapping[str, Any]
    """See :func:`sgflux.bases.families.described`; also ``identity``, a
    :class:`~sgflux.bases.identity.BaseIdentity` as JSON, which older adapters do not have."""
    max_sequence_length: Count
    """Text tokens of a prompt, in training."""
    sgflux_version: str = sgflux.__version__

    def __post_init__(self) -> None:
        """Check the values against each other and the base."""
        if not {"num_layers", "inner_dim", "joint_attention_dim"} <= set(self.base):
            raise SgfluxError(f"base must be a model's identity, got {dict(self.base)!r}")
        for name, value in self.base.items():
            if name.endswith(_SIZES):
                typed(f"the base's {name}", value, Count)
        _ = self.family  # raises, if it is unknown
        validate_block_range(self.block_start, self.block_end, self.base["num_layers"])
        _ = self.base_identity  # raises, if it is none
        encoder = complete_settings(self.encoder, text_dim=self.text_dim)
        form = self.graph_mode, self.tokens_per_triple
        for name in BOX_SETTINGS_OF_TOKENS:
            if encoder.get(name) and form != ("token", 3):
                raise SgfluxError(
                    f"{name} concerns a triple's three tokens: it needs graph_mode 'token' and 3 "
                    f"tokens a triple, got {form[0]!r} and {form[1]}"
                )
        object.__setattr__(self, "encoder", encoder)
        object.__setattr__(self, "base", dict(self.base))

    @property
    def takes_layouts(self) -> bool:
        """Whether boxes of objects have an effect."""
        return any(self.encoder.get(name) for name in BOX_SETTINGS)

    @property
    def base_identity(self) -> BaseIdentity | None:
        """What the base is, all parts of it; None for an adapter of before, which does not say."""
        parts = self.base.get("identity")
        return None if parts is None else BaseIdentity.from_json(parts)

    @property
    def family(self) -> Family:
        """The family of the base."""
        return family_in(self.base)

    @property
    def text_dim(self) -> int:
        """Features of a text token of the base, D_text."""
        return int(self.base["joint_attention_dim"])

    @property
    def lora_layers(self) -> dict[str, tuple[int, int]]:
        """The transformer's layers that get a LoRA: name -> (inputs, outputs)."""
        blocks = range(self.block_start, self.block_end)
        return self.family.lora_layers(self.base, blocks, self.lora_targets)

    @property
    def lora_modules(self) -> tuple[str, ...]:
        """The transformer's layers that get a LoRA, by name."""
        return tuple(self.lora_layers)

    def lora_numbers(self, *, image_tokens: int, text_tokens: int) -> int:
        """Numbers that the LoRA layers keep of an example for the backward pass.

        Each keeps its input and the product of that with its first matrix. The frozen layer alone
        would keep neither.

        Args:
            image_tokens: Number of image tokens.
            text_tokens: Number of text tokens.
        """
        return sum(
            self.family.tokens_of(layer, image=image_tokens, text=text_tokens)
            * (inputs + self.lora_rank)
            for layer, (inputs, _) in self.lora_layers.items()
        )

    @property
    def blocks_in_words(self) -> str:
        """The transformer's blocks that the adapter changes."""
        last, count = self.block_end - 1, self.base["num_layers"]
        double = f"double blocks {self.block_start} to {last} of {count}"
        return f"{double}, and all single blocks" if "+single" in self.lora_targets else double

    def conditioner(
        self, encoder: GraphEncoder, *, device: torch.device | None = None
    ) -> Conditioner:
        """The untrained conditioner between a graph encoder and the chosen blocks.

        Args:
            encoder: Graph encoder of the adapter.
            device: Device of the weights; None: torch's default.
        """
        return Conditioner(
            local_dim=encoder.local_dim,
            global_dim=encoder.global_dim,
            inner_dim=self.base["inner_dim"],
            blocks=self.block_end - self.block_start,
            graph_mode=self.graph_mode,
            tokens_per_triple=self.tokens_per_triple,
            box_map=bool(self.encoder.get("box_map")),
            device=device,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; :meth:`from_json` reads it back to an equal config."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Any) -> AdapterConfig:
        """Read :meth:`to_json`'s form.

        Raises:
            SgfluxError: on a missing or unknown setting, or as the constructor.
        """
        if not isinstance(content, Mapping):
            raise SgfluxError(f"an adapter's settings must be a table, got {content!r}")
        known = {entry.name for entry in dataclasses.fields(cls)}
        if set(content) != known:
            raise SgfluxError(
                f"an adapter's settings are {', '.join(sorted(known))}; missing "
                f"{sorted(known - set(content))}, unknown {sorted(set(content) - known)}"
            )
        return cls(**content)
