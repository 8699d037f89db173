"""``sgflux export`` and ``sgflux import``: adapters for and from other programs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from sgflux.bases.families import family_of
from sgflux.bases.identity import BaseIdentity
from sgflux.bases.lora_weights import LoraWeights
from sgflux.bases.name import BaseName, public_name
from sgflux.errors import SgfluxError
from sgflux.models.adapter_config import AdapterConfig
from sgflux.models.bundle import load_bundle, read_base, save_bundle
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.hub import push_to_hub
from sgflux.models.legacy import import_legacy
from sgflux.publishing import write_published
from sgflux.settings.exporting import ExportConfig, ImportConfig


def export(config: ExportConfig) -> list[str]:
    """Export an adapter to a file, a folder or the hub, as the config says.

    Returns:
        What was done, a line each.

    Raises:
        SgfluxError: if the adapter cannot be read, the layout cannot hold it, or the hub refuses.
    """
    done = []
    adapter, state = load_bundle(config.adapter)
    if config.format is not None and config.output is not None:
        weights = {
            name.removeprefix("lora."): value
            for name, value in state.items()
            if name.startswith("lora.")
        }
        lora = LoraWeights.with_alpha(weights, adapter.lora_alpha)
        adapter.family.write_lora(
            config.output,
            lora.scaled(config.scale),
            layout=config.format,
            header=_base_header(
                adapter, base=read_base(config.adapter), title=config.adapter.resolve().name
            ),
        )
        done.append(
            f"{config.output}: LoRA of {len(lora.modules)} layers, {config.format} layout, read by "
            f"{_READERS[config.format]}. It holds the LoRA alone: without the graph conditioner "
            "beside it, a program draws no graph"
        )
    if config.output_dir is not None:
        write_published(config.adapter, config.output_dir, config=config)
        done.append(f"{config.output_dir}: the whole adapter as it is published, with pipeline.py")
    if config.push_to_hub is not None:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "adapter"
            write_published(config.adapter, folder, config=config)
            address = push_to_hub(folder, config.push_to_hub, private=config.private)
        done.append(f"{address}: the whole adapter")
    return done


_READERS = {
    "kohya": "ComfyUI, sd-scripts and diffusers",
    "diffusers": "diffusers, ComfyUI, ai-toolkit and sd-scripts' converter",
    "comfyui": "ComfyUI alone",
}


def _base_header(adapter: AdapterConfig, *, base: BaseName | None, title: str) -> dict[str, str]:
    """Describe the base in a file's header as LoRA managers read it (sd-scripts, ModelSpec)."""
    return {
        **({} if base is None else {"ss_sd_model_name": base.name}),
        **adapter.family.lora_header(adapter.base),
        "modelspec.title": title,
    }


def import_adapter(config: ImportConfig) -> list[str]:
    """Write the bundle of an earlier adapter.

    Returns:
        One line for every key of the file and every weight that it does not have.

    Raises:
        SgfluxError: if a file cannot be read or does not fit the base.
    """
    identity, note = _identity_if_known(config)
    imported = import_legacy(
        config.legacy,
        transformer=family_of(config.model).load_transformer(
            config.model, dtype=torch.bfloat16, device="cpu"
        ),
        encoder=CGIPEncoder.from_checkpoint(config.cgip_ckpt, vocab_path=config.vocab_path),
        graph_mode=config.graph_mode,
        lora_alpha=config.lora_alpha,
        max_sequence_length=config.max_sequence_length,
        base_identity=identity,
    )
    save_bundle(
        config.output_dir,
        config=imported.model.config,
        state=imported.model.adapter_state(),
        card=f"# Scene-graph adapter for {public_name(config.model.name)}\n\n"
        f"Imported from {config.legacy.name}.\n"
        "Its gates are at zero: the LoRA acts, a graph does not, until it is trained further.\n",
        metrics={},
        base=BaseName.of(config.model.name, config.model.revision),
    )
    return [*imported.report, *note, f"{config.output_dir}: the adapter"]


def _identity_if_known(config: ImportConfig) -> tuple[BaseIdentity | None, list[str]]:
    """Identify the base by all its parts; None and a note if some are not on this machine."""
    try:
        return family_of(config.model).identity(config.model), []
    except SgfluxError as error:
        return None, [f"the adapter does not say its base, whose parts are not all here: {error}"]
