"""Where a FLUX model's parts are: all in one place, or transformer and encoders as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from sgflux.settings.checks import ConfigError, expect_defaults, settings
from sgflux.settings.flat import Group, Input, Texts
from sgflux.settings.model import FLUX_SCHNELL

FILE_ENDINGS = (".safetensors", ".sft")
"""Of single files of weights; the second is the same format under a shorter name."""


@settings
class ModelSource:
    """Where a model's parts are: all in one place, or transformer and encoders as single files."""

    model_id: str | None = None
    """Base model: an id on the hub, a diffusers folder, a single .safetensors file, or 'tiny', the
    model that comes with the package. By default it is FLUX.1-schnell."""
    components: str | None = None
    """Folder or hub id of all parts beside the transformer, if --model-id is a single .safetensors
    file."""
    autoencoder: Input[Path | None] = None
    """File of the autoencoder (ae.safetensors), if --model-id is a single .safetensors file. By
    default it is that of --components."""
    text_encoder: Input[Path | None] = None
    """File of the first text encoder, CLIP (clip_l.safetensors), if --model-id is a single
    .safetensors file. By default it is that of --components."""
    text_encoder_2: Input[Path | None] = None
    """File of the second text encoder, T5 (t5xxl_fp16.safetensors), if --model-id is a single
    .safetensors file. By default it is that of --components."""
    revision: str | None = None
    """Branch, tag or commit of the model's repository on the hub. By default it is the main
    branch."""
    allow_download: bool = False
    """Download from the hub the files that are not on this machine yet."""

    def __post_init__(self) -> None:
        """Check that the parts go together.

        Raises:
            ConfigError: if one is missing, or has no effect.
        """
        if self.model_id is None:
            return  # the base of an adapter is not known yet
        files = {
            name: getattr(self, name) for name in ("autoencoder", "text_encoder", "text_encoder_2")
        }
        given = {name: path for name, path in files.items() if path is not None}
        if not self.is_file:
            when = f"with {self.model_id!r}, which is no single file and has its own"
            expect_defaults(self, when, "components", *files)
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
    def name(self) -> str:
        """The base model as it is given; FLUX.1-schnell where none is."""
        return self.model_id or FLUX_SCHNELL

    def named(self) -> ModelSource:
        """The same with :attr:`name` as its ``model_id``."""
        return replace(self, model_id=self.name)

    @property
    def is_file(self) -> bool:
        """Whether the transformer is a single file."""
        return self.name.endswith(FILE_ENDINGS)

    @property
    def rest(self) -> str:
        """The folder or hub id of what has no file of its own."""
        return self.name if self.components is None else self.components

    @property
    def hub(self) -> dict[str, Any]:
        """What the loaders of that folder or hub id are told."""
        return {"revision": self.revision, "allow_download": self.allow_download}

    @property
    def files(self) -> dict[str, Path]:
        """Part of the model, as diffusers names its folder -> the single file that it is in."""
        files = {
            "transformer": Path(self.name) if self.is_file else None,
            "vae": self.autoencoder,
            "text_encoder": self.text_encoder,
            "text_encoder_2": self.text_encoder_2,
        }
        return {part: path.expanduser() for part, path in files.items() if path is not None}


AdaptedModel = Annotated[
    Group[ModelSource],
    Texts(
        {
            "model_id": "Base model: an id on the hub, a diffusers folder, a single .safetensors "
            "file, or 'tiny', the model that comes with the package. By default it is the base "
            "that --adapter names, or else FLUX.1-schnell."
        }
    ),
]
"""Annotation of the base model in a command that takes an adapter."""
