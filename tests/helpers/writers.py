"""Everything of sgflux that writes files, each called with a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sgflux.bases.memory.offload import BlockOffload
from sgflux.data.pictures import save_picture
from sgflux.files.writing import replace_file
from sgflux.training.log.event_file import EventFile
from sgflux.training.log.run_log import RunLog


def _bundle(folder: Path) -> None:
    from sgflux.models.adapter_config import AdapterConfig
    from sgflux.models.bundle import save_bundle

    config = AdapterConfig(
        graph_mode="token",
        block_start=0,
        block_end=1,
        lora_rank=1,
        lora_alpha=1.0,
        lora_targets="all",
        encoder={"kind": "native"},
        base={"num_layers": 1, "joint_attention_dim": 8, "inner_dim": 8},
        max_sequence_length=8,
    )
    layer = "transformer_blocks.0.attn.to_q"
    state = {
        f"lora.{layer}.lora_A.weight": torch.zeros(1, 3000),
        f"lora.{layer}.lora_B.weight": torch.zeros(3000, 1),
        "conditioner.a": torch.zeros(3000),
        "encoder.a": torch.zeros(3000),
    }
    save_bundle(folder / "final", config=config, state=state, card="", metrics={})


def _cache(folder: Path) -> None:
    from sgflux.data.cache.store import CacheStore

    with CacheStore(folder).writer() as writer:
        writer.add(["0" * 64], {"mean": torch.zeros(1, 3000)})


def _world(folder: Path) -> None:
    from sgflux.world.dataset import write_world

    write_world(folder / "w", train_per_class=1, val_per_class=0, test_per_class=0)


def _classifier(folder: Path) -> None:
    from sgflux.models.relation_classifier import (
        ClassifierCard,
        LatentRelationClassifier,
        save_classifier,
    )

    words = ("on", "in")
    card = ClassifierCard(
        kind="latent", predicates=words, settings={}, reads="", held_out={}, training={}
    )
    model = LatentRelationClassifier(predicates=words, text_dim=8)
    save_classifier(folder / "classifier", model, card)


def _offloaded(folder: Path) -> None:
    BlockOffload([torch.nn.Linear(100, 100)], device="cpu", folder=folder)


def _log(folder: Path) -> None:
    log = RunLog(silent=False)
    log.open(folder, step=0, max_steps=1)
    try:
        for _ in range(2000):
            log.say("a line of text")
    finally:
        log.close()


def _board(folder: Path) -> None:
    board = EventFile(folder)
    for step in range(2000):
        board.add_scalar("train/loss", 1.0, step)


def _evaluated(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    save_picture(folder / "pictures" / "graph" / "0-0.png", Image.fromarray(noise), {})


def _checkpoint(folder: Path) -> None:
    from sgflux.training.checkpoints.checkpoint import AdapterWeights

    weights = {"a": torch.zeros(3000)}
    AdapterWeights(step=1, trainable=weights, ema=None, adapter={}, metrics={}).save(
        folder / "b.pt"
    )


def _exported(folder: Path) -> None:
    from sgflux.bases.flux1.lora_formats import LoraWeights, write_lora

    layer = "transformer_blocks.0.attn.to_q"
    weights = {
        f"{layer}.lora_A.weight": torch.zeros(1, 3000),
        f"{layer}.lora_B.weight": torch.zeros(3000, 1),
    }
    write_lora(
        folder / "l.safetensors",
        LoraWeights(weights=weights, alphas={layer: 1.0}),
        layout="diffusers",
    )


def _rows(folder: Path) -> None:
    replace_file(folder / "results.jsonl", (json.dumps({"row": 1}) + "\n") * 1000)


WRITERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "bundle": (_bundle, "final"),
    "cache": (_cache, "shard-"),
    "world": (_world, "w"),
    "classifier": (_classifier, "classifier"),
    "offloaded": (_offloaded, "0.safetensors"),
    "log": (_log, "training.log"),
    "board": (_board, "events.out.tfevents"),
    "evaluated": (_evaluated, "0-0.png"),
    "checkpoint": (_checkpoint, "b.pt"),
    "exported": (_exported, "l.safetensors"),
    "rows": (_rows, "results.jsonl"),
}
"""Name -> a writer, and the beginning of the name that its error must give."""
