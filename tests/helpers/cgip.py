"""A small CGIP checkpoint and vocabulary, in the published files' formats."""

from __future__ import annotations

import json
from pathlib import Path

import torch

OBJECTS = ("__image__", "man", "horse", "dog", "car", "bird", "tree", "girl", "hat", "ball", "cat")
PREDICATES = (
    "__in_image__", "on", "near", "by", "above", "riding", "wearing", "hanging on", "behind",
)  # fmt: skip
DIM, HIDDEN, LAYERS = 6, 10, 5


def write_vocabulary(
    path: Path, *, objects: tuple[str, ...] = OBJECTS, predicates: tuple[str, ...] = PREDICATES
) -> Path:
    tables = {}
    for kind, names in (("object", objects), ("pred", predicates), ("attribute", ("red",))):
        tables[f"{kind}_idx_to_name"] = list(names)
        tables[f"{kind}_name_to_idx"] = {name: index for index, name in enumerate(names)}
    path.write_text(json.dumps(tables))
    return path


def own_weights(
    *, objects: int = len(OBJECTS), predicates: int = len(PREDICATES), dim: int = DIM,
    hidden: int = HIDDEN,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """The encoder's 53 tensors under the names that the published checkpoint has."""
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / (shape[-1] ** 0.5 if shape else 1)

    weights = {
        "obj_embeddings.weight": random(objects + 1, dim),
        "pred_embeddings.weight": random(predicates, dim),
    }
    layers = ["graph_conv", *(f"graph_net.gconvs.{index}" for index in range(LAYERS))]
    for layer in layers:
        for name, rows, columns in (
            ("net1.0", hidden, 3 * dim),
            ("net1.2", 2 * hidden + dim, hidden),
            ("net2.0", hidden, hidden),
            ("net2.2", dim, hidden),
        ):
            weights[f"{layer}.{name}.weight"] = 2 * random(rows, columns)
            weights[f"{layer}.{name}.bias"] = random(rows)
    weights["graph_projection.weight"] = random(dim, 2 * dim)
    weights["graph_projection.bias"] = random(dim)
    weights["logit_scale"] = random()
    return weights


def clip_weights() -> dict[str, torch.Tensor]:
    """Some of the CLIP model that lies beside it."""
    return {
        "clip_model.positional_embedding": torch.zeros(2, 3),
        "clip_model.visual.transformer.resblocks.0.ln_1.weight": torch.zeros(3),
        "visual.conv1.weight": torch.zeros(1),
    }


def write_checkpoint(path: Path, weights: dict[str, torch.Tensor] | None = None) -> Path:
    weights = own_weights() if weights is None else weights
    torch.save({"state_dict": {**clip_weights(), **weights}, "epoch": 35}, path)
    return path
