"""Where a FLUX model's parts are: all in one place, or transformer and encoders as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgflux.settings.checks import ConfigError, typed_fields
from sgflux.settings.model import FLUX_SCHNELL

FILE_ENDINGS = (".safetensors", ".sft")
"""Of single files of weights; the second is the same format under a shorter name."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a model's parts are: all in one place, or transformer and encoders as single files."""

    model_id: str = FLUX_SCHNELL
    """FLUX on the hub, a diffusers folder, or 'tiny', the model that comes with the package."""
    components: str | None = None
    """If model_id is a single .safetensors file: the folder or hub id that has all else."""
    autoencoder: Path | None = None
    """The autoencoder as a file of its own (ae.safetensors), if model_id is a single file."""
    text_encoder: Path | None = None
    """The first text encoder, CLIP, as a file of its own (clip_l.safetensors), if model_id is a
    single file."""
    text_encoder_2: Path | None = None
    """The second text encoder, T5, as a file of its own (t5xxl_fp16.safetensors), if model_id is a
    single file."""
    revision: str | None = None
    """Branch, tag or commit of the hub's repository; None: its main branch."""
    allow_download: bool = False
    """Download from the hub what is not on this machine yet."""

    def __post_init__(self) -> None:
        """Check that the parts go together.

        Raises:
            ConfigError: if one is missing, or has no effect.
        """
        typed_fields(self)
        files = {
            name: getattr(self, name) for name in ("autoencoder", "text_encoder", "text_encoder_2")
        }
        given = {name: path for name, path in files.items() if path is not None}
        if not self.is_file:
            for name, value in {"components": self.components, **given}.items():
                if value is not None:
                    raise ConfigError(
                        f"{name} ({str(value)!r}) has no effect: {self.model_id!r} is no single "
                        "file and has its own"
                    )
            return
        if self.components is None:
            what = "the tokenizers" if len(given) == 3 else "all else"
            raise ConfigError(
                f"model_id {self.model_id!r} is a single file, the transformer alone; give "
                f"components, the diffusers folder or hub id that has {what}"
                + ("" if given else " (text encoders, tokenizers, autoencoder)")
            )
        if self.components.endswith(FILE_ENDINGS):
            raise ConfigError(
                f"components ({self.components!r}) is a file; give a diffusers folder or hub id, "
                "and single files as autoencoder, text_encoder and text_encoder_2"
            )
        for name, path in given.items():
            if path.suffix not in FILE_ENDINGS:
                raise ConfigError(
                    f"{name} must be a {' or '.join(FILE_ENDINGS)} file, got {str(path)!r}"
                )

    @property
    def is_file(self) -> bool:
        """Whether the transformer is a single file."""
        return self.model_id.endswith(FILE_ENDINGS)

    @property
    def rest(self) -> str:
        """The folder or hub id of what has no file of its own."""
        return self.model_id if self.components is None else self.components

    @property
    def hub(self) -> dict[str, Any]:
        """What the loaders of that folder or hub id are told."""
        return {"revision": self.revision, "allow_download": self.allow_download}

    @property
    def for_transformer(self) -> dict[str, Any]:
        """Arguments of :func:`sgflux.bases.flux1.load.load_transformer`."""
        hub = {"allow_download": self.allow_download} if self.is_file else self.hub
        return {"model_id": self.model_id, **hub}

    @property
    def for_scheduler(self) -> dict[str, Any]:
        """Arguments of :func:`sgflux.bases.flux1.load.load_scheduler`: it goes with the former."""
        return self.for_transformer

    @property
    def for_autoencoder(self) -> dict[str, Any]:
        """Arguments of :func:`sgflux.bases.flux1.load.load_autoencoder`."""
        if self.autoencoder is not None:
            return {"model_id": str(self.autoencoder), "allow_download": self.allow_download}
        return {"model_id": self.rest, **self.hub}

    @property
    def for_text_encoders(self) -> dict[str, Any]:
        """Arguments of :func:`sgflux.bases.flux1.load.load_text_encoders`."""
        return {
            "model_id": self.rest,
            "text_encoder": self.text_encoder,
            "text_encoder_2": self.text_encoder_2,
            **self.hub,
        }
