"""``sgflux export`` and ``sgflux import``: adapters on their way to and from other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from sgflux.errors import SgfluxError
from sgflux.models.backbone import load_transformer
from sgflux.models.bundle import load_bundle, save_bundle
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.hub import push_to_hub
from sgflux.models.legacy import import_legacy
from sgflux.models.lora_formats import LoraWeights, write_lora


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write an adapter's LoRA for other programs, or publish the whole adapter."""

    adapter: Path
    """Folder of a trained adapter (a run's final/)."""
    format: Literal["diffusers", "kohya", "comfyui"] | None = None
    """Whose names the LoRA's weights get."""
    out: Path | None = None
    """The .safetensors file to write; one that is there is replaced."""
    scale: float = 1.0
    """Strength of the LoRA in that file, relative to what was trained."""
    push_to_hub: str | None = None
    """Publish the adapter's folder as this repository, user/name, on the hub."""
    private: bool = False
    """Make that repository private, if it is made."""

    def __post_init__(self) -> None:
        """Check that there is something to do, and that every setting has an effect."""
        if (self.format is None) != (self.out is None):
            raise SgfluxError("format and out belong together: give both or neither")
        if self.format is None and self.push_to_hub is None:
            raise SgfluxError("there is nothing to export: give format and out, or push_to_hub")
        if self.format is None and self.scale != 1:
            raise SgfluxError(f"scale ({self.scale}) has no effect without format and out")
        if self.private and self.push_to_hub is None:
            raise SgfluxError("private has no effect without push_to_hub")


def export(config: ExportConfig) -> list[str]:
    """Do what the config says.

    Returns:
        What was done, a line each.

    Raises:
        SgfluxError: if the adapter cannot be read, the layout cannot hold it, or the hub refuses.
    """
    done = []
    adapter, state = load_bundle(config.adapter)
    if config.format is not None and config.out is not None:
        lora = LoraWeights(
            weights={
                name.removeprefix("lora."): value
                for name, value in state.items()
                if name.startswith("lora.")
            },
            alpha=adapter.lora_alpha,
        )
        write_lora(config.out, lora.scaled(config.scale), layout=config.format)
        done.append(
            f"{config.out}: LoRA of {len(lora.modules)} layers, {config.format} layout. Without "
            "the graph conditioner, which no other program has, nothing reads a graph"
        )
    if config.push_to_hub is not None:
        address = push_to_hub(config.adapter, config.push_to_hub, private=config.private)
        done.append(f"{address}: the whole adapter")
    return done


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Make an adapter of a .pt file of the earlier training script."""

    legacy: Path
    """The .pt file."""
    out_dir: Path
    """Folder of the adapter; must be new, empty, or an older adapter."""
    cgip_ckpt: Path
    """SGDiff's sip_vg.pt, with which it was trained."""
    vocab_path: Path
    """The vocab.json of that checkpoint."""
    model_id: str = "black-forest-labs/FLUX.1-schnell"
    """The base it was trained on."""
    graph_mode: Literal["token", "temb"] = "token"
    """How the graph entered."""
    lora_alpha: float | None = None
    """Of that training; the file does not say it. None: the rank."""
    max_sequence_length: int = 256
    """Text tokens per prompt, in that training."""
    revision: str | None = None
    """Branch, tag or commit of the base's repository on the hub; None: its main branch."""
    allow_download: bool = False
    """Fetch the base from the hub if it is not on this machine yet."""


def import_adapter(config: ImportConfig) -> list[str]:
    """Write the bundle of an earlier adapter.

    Returns:
        One line for every key of the file and every weight that it does not have.

    Raises:
        SgfluxError: if a file cannot be read or does not fit the base.
    """
    imported = import_legacy(
        config.legacy,
        transformer=load_transformer(
            config.model_id,
            dtype=torch.bfloat16,
            revision=config.revision,
            allow_download=config.allow_download,
        ),
        encoder=CGIPEncoder.from_checkpoint(config.cgip_ckpt, vocab_path=config.vocab_path),
        graph_mode=config.graph_mode,
        lora_alpha=config.lora_alpha,
        max_sequence_length=config.max_sequence_length,
    )
    save_bundle(
        config.out_dir,
        config=imported.model.config,
        state=imported.model.adapter_state(),
        card=f"# Scene-graph adapter for {config.model_id}\n\nImported from {config.legacy.name}.\n"
        "Its gates are at zero: the LoRA acts, a graph does not, until it is trained further.\n",
        metrics={},
    )
    return [*imported.report, f"{config.out_dir}: the adapter"]
