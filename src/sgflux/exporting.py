"""``sgflux export`` and ``sgflux import``: adapters for and from other programs."""

from __future__ import annotations

from pathlib import Path

import torch

from sgflux.bases.families import family_of
from sgflux.bases.identity import BaseIdentity
from sgflux.bases.lora_weights import reduced
from sgflux.bases.name import BaseName, public_name
from sgflux.errors import SgfluxError
from sgflux.models.bundle import check_reducible, load_bundle, lora_of, save_bundle
from sgflux.models.bundle_folder import read_base
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.legacy import import_legacy
from sgflux.settings.adapter import GraphMode, LoraFormat
from sgflux.settings.model_source import ModelSource


def export_lora(
    adapter: Path,
    output: Path,
    *,
    layout: LoraFormat,
    scale: float = 1.0,
    rank: int | None = None,
) -> str:
    """Write an adapter's LoRA as a file for other programs.

    Args:
        adapter: Folder of the bundle.
        output: File of weights (.safetensors), which is replaced.
        layout: Layout of the file.
        scale: Strength of the LoRA in the file, relative to what was trained.
        rank: Rank to which the LoRA is reduced; None: it keeps its own.

    Returns:
        A sentence for the user on what was written.

    Raises:
        SgfluxError: if the adapter cannot be read, its rank is not greater, or the layout cannot
            hold it.
    """
    config, state = load_bundle(adapter)
    lora = lora_of(config, state)
    if rank is not None:
        check_reducible(adapter, config, rank)
        lora, kept = lora.at_rank(rank)
    base = read_base(adapter)
    header = {  # as LoRA managers read it (sd-scripts, ModelSpec)
        **({} if base is None else {"ss_sd_model_name": base.name}),
        **config.family.lora_header(config.base),
        "modelspec.title": adapter.resolve().name,
    }
    config.family.write_lora(output, lora.scaled(scale), layout=layout, header=header)
    said = (
        f"{output}: LoRA of {len(lora.modules)} layers, {layout} layout, read by "
        f"{_READERS[layout]}. It holds the LoRA alone: without the graph conditioner "
        "beside it, a program draws no graph"
    )
    if rank is None:
        return said
    return f"{said}. {reduced(kept, before=config.lora_rank, after=rank)}"


_READERS = {
    "kohya": "ComfyUI, sd-scripts and diffusers",
    "diffusers": "diffusers, ComfyUI, ai-toolkit and sd-scripts' converter",
    "comfyui": "ComfyUI alone",
}


def import_adapter(
    legacy: Path,
    output_dir: Path,
    *,
    model: ModelSource,
    cgip_ckpt: Path,
    vocab_path: Path,
    graph_mode: GraphMode,
    lora_alpha: float | None,
    max_sequence_length: int,
) -> list[str]:
    """Write the bundle of an earlier adapter.

    Args:
        legacy: Checkpoint of the earlier training script.
        output_dir: Folder of the bundle.
        model: Base model of that training.
        cgip_ckpt: Checkpoint of SGDiff's encoder in that training.
        vocab_path: The vocab.json of that checkpoint.
        graph_mode: Way in which the graph entered.
        lora_alpha: Alpha of the LoRA; None: its rank.
        max_sequence_length: Number of text tokens of a prompt.

    Returns:
        One line for every key of the file and every weight that it does not have.

    Raises:
        SgfluxError: if a file cannot be read or does not fit the base.
    """
    identity, note = _identity_if_known(model)
    imported = import_legacy(
        legacy,
        transformer=family_of(model).load_transformer(model, dtype=torch.bfloat16, device="cpu"),
        encoder=CGIPEncoder.from_checkpoint(cgip_ckpt, vocab_path=vocab_path),
        graph_mode=graph_mode,
        lora_alpha=lora_alpha,
        max_sequence_length=max_sequence_length,
        base_identity=identity,
    )
    save_bundle(
        output_dir,
        config=imported.model.config,
        state=imported.model.adapter_state(),
        card=f"# Scene-graph adapter for {public_name(model.name)}\n\n"
        f"Imported from {legacy.name}.\n"
        "Its gates are at zero: the LoRA acts, a graph does not, until it is trained further.\n",
        metrics={},
        base=BaseName.of(model.name, model.revision),
    )
    return [*imported.report, *note, f"{output_dir}: the adapter"]


def _identity_if_known(model: ModelSource) -> tuple[BaseIdentity | None, list[str]]:
    """Identify the base by all its parts; None and a note if some are not on this machine."""
    try:
        return family_of(model).identity(model), []
    except SgfluxError as error:
        return None, [f"the adapter does not say its base, whose parts are not all here: {error}"]
