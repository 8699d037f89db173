"""Settings of ``sgflux export`` and ``sgflux import``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from sgflux.errors import SgfluxError
from sgflux.settings.checks import from_flat
from sgflux.settings.flat import Flag, Group
from sgflux.settings.model_source import ModelSource
from sgflux.settings.shared import OutputDir


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write an adapter's LoRA for other programs, or publish the whole adapter."""

    adapter: Path
    """Folder of a trained adapter (a run's final/)."""
    format: Literal["diffusers", "kohya", "comfyui"] | None = None
    """Layout of the file. kohya: ComfyUI, sd-scripts and diffusers read it, with alpha beside each
    layer. diffusers: diffusers, ComfyUI, ai-toolkit and sd-scripts' converter read it; alpha is in
    the weights. comfyui: ComfyUI alone reads it; alpha is in the weights."""
    output: Annotated[Path | None, Flag(former=("out",))] = None
    """The .safetensors file to write; one that is there is replaced."""
    scale: float = 1.0
    """Strength of the LoRA in that file, relative to what was trained; it is in the weights and so
    acts in every program that reads the file."""
    output_dir: Annotated[Path | None, Flag(former=("folder",))] = None
    """Write the whole adapter as it is published into this folder: weights, model card, and
    pipeline.py, with which diffusers draws graphs. Must be new, empty, or an older adapter."""
    push_to_hub: str | None = None
    """Publish the whole adapter as this repository, user/name, on the hub."""
    evaluation: Path | None = None
    """evaluation_results.json of this very adapter, or its folder: its judged figures stand in the
    published model card."""
    license: str | None = None
    """Licence in the published model card, by the hub's name (apache-2.0, cc-by-4.0, other); None:
    the base's where it is known."""
    private: bool = False
    """Make the repository of --push-to-hub private, if it is created."""

    def __post_init__(self) -> None:
        """Check that there is something to do, and that every setting has an effect."""
        if (self.format is None) != (self.output is None):
            raise SgfluxError("format and output belong together: give both or neither")
        publishes = self.push_to_hub is not None or self.output_dir is not None
        if self.format is None and not publishes:
            raise SgfluxError(
                "there is nothing to export: give --format and --output, --output-dir, or "
                "--push-to-hub"
            )
        for name in ("evaluation", "license"):
            if getattr(self, name) is not None and not publishes:
                raise SgfluxError(f"{name} has no effect without output_dir or push_to_hub")
        if self.format is None and self.scale != 1:
            raise SgfluxError(f"scale ({self.scale}) has no effect without format and output")
        if self.private and self.push_to_hub is None:
            raise SgfluxError("private has no effect without push_to_hub")


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Make an adapter of a .pt file of the earlier training script."""

    legacy: Path
    """The .pt file that the earlier training script wrote."""
    output_dir: OutputDir
    """Folder of the adapter; must be new, empty, or an older adapter."""
    cgip_ckpt: Path
    """SGDiff's sip_vg.pt, with which that adapter was trained."""
    vocab_path: Path
    """The vocab.json of that checkpoint."""
    graph_mode: Literal["token", "temb"] = "token"
    """How the graph entered in that training: as tokens of the text stream, or added to the
    timestep embedding."""
    lora_alpha: float | None = None
    """LoRA alpha of that training, which the file does not name; None: the rank."""
    max_sequence_length: int = 256
    """Text tokens per prompt, in that training."""
    model: Group[ModelSource] = field(default_factory=ModelSource)
    """The base model that the adapter was trained on, and where its parts are."""

    @classmethod
    def from_flat(cls, **settings: Any) -> ImportConfig:
        """Build from the settings of all groups side by side.

        Raises:
            ConfigError: on an unknown or missing setting, or as the constructors.
        """
        return from_flat(cls, settings)
