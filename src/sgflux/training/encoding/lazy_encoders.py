"""The encoders of a run, each loaded when it is first needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch

from sgflux.bases.devices import DTYPES, usable_device
from sgflux.bases.families import family_of, named
from sgflux.bases.family import Autoencoder, TextEncoders
from sgflux.data.cache.arrays import name_key
from sgflux.data.cache.encoding import Encoders, name_features
from sgflux.data.cache.store import CacheStore
from sgflux.settings.model_source import ModelSource


class LazyEncoders:
    """The encoders of a run, each loaded when it is first needed, and what is known before."""

    def __init__(
        self,
        source: ModelSource,
        *,
        device: torch.device,
        encoder_device: str | None = None,
        dtype: str,
        max_sequence_length: int | None,
    ) -> None:
        """Find the model's folder and read its configuration.

        Args:
            source: Model whose encoders these are.
            device: Device of the run.
            encoder_device: Device of the encoders; None: that of the run.
            dtype: Precision of the text encoders, "fp32" or "bf16".
            max_sequence_length: Text tokens of a prompt; None: as many as the tokenizer allows.

        Raises:
            SgfluxError: if it is not on this machine, or a setting does not fit it.
        """
        self.source = source
        self._dtype, self._max_sequence_length = dtype, max_sequence_length
        self._device = device if encoder_device is None else usable_device(encoder_device)
        self._family = family_of(source)
        self.facts = self._family.facts(source, max_sequence_length=max_sequence_length)

    @property
    def loaded(self) -> bool:
        """Whether any of them has been needed."""
        return bool({"text", "pictures"} & vars(self).keys())

    @cached_property
    def text(self) -> TextEncoders:
        """The text encoders, loaded."""
        return self._family.load_text_encoders(
            self.source,
            dtype=DTYPES[self._dtype],
            device=self._device,
            max_sequence_length=self._max_sequence_length,
        )

    @cached_property
    def pictures(self) -> Autoencoder:
        """The autoencoder, loaded: in float32 whatever the rest is in, since all builds on it."""
        return self._family.load_autoencoder(self.source, dtype=torch.float32, device=self._device)

    @cached_property
    def picture_identity(self) -> str:
        """Identity of the autoencoder, for the keys of a cache and for a classifier."""
        return self._identity("pictures", "fp32")

    @cached_property
    def text_identity(self) -> str:
        """Identity of the text encoders and tokenizers in the run's precision."""
        return self._identity("text", self._dtype)

    def callables(self) -> Encoders:
        """What encodes, loading nothing before it is called."""
        return Encoders(
            images=lambda images: self.pictures.posterior(images),
            text=lambda prompts: self.text.encode(prompts),
        )

    def name_features(self, names: Sequence[str], store: CacheStore) -> torch.Tensor:
        """Features of names, (n, D) float32, from the store as far as it has them."""
        return name_features(
            names,
            lambda missing: self.text.encode_names(missing),
            store=store,
            max_sequence_length=self.facts.text_tokens,
            identity=self.text_identity,
        )

    def missing_names(self, names: Sequence[str], store: CacheStore) -> int:
        """How many of the names' features the store lacks."""
        length, identity = self.facts.text_tokens, self.text_identity
        keys = [name_key(name, max_sequence_length=length, identity=identity) for name in names]
        return len(store.missing(keys))

    def _identity(self, part: Literal["text", "pictures"], dtype: str) -> str:
        family = named(self._family).values()
        return " ".join((*family, self._family.encoder_identity(self.source, part), dtype))
