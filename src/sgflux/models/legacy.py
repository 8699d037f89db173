"""Adapters of the earlier training script: its ``.pt`` layout, key by key.

    [prefix.]transformer_blocks.7.attn.to_q.lora_A[.name].weight   LoRA, blocks 7 to 12
    [prefix.]graph_local_proj.{weight,bias}                        1536 -> inner width
    [prefix.]graph_global_proj.{weight,bias}                       512 -> inner width
    [prefix.]graph_global_to_temb.{weight,bias}                    512 -> inner width

The LoRA and the projections are taken over as they are. Two things the earlier model did not have:
the norms in front of the projections start at identity, and the gates behind them at zero. With
gates at zero a graph changes nothing: an imported adapter draws what its LoRA alone draws, and is a
start for further training, not a replica of the earlier model's graph path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sgflux.bases.families import described, family_of_transformer
from sgflux.bases.identity import BaseIdentity
from sgflux.bases.lora_weights import LoraWeights
from sgflux.errors import SgfluxError, located
from sgflux.files.tensors import read_torch_file
from sgflux.models.adapter import AdapterConfig, GraphLoraModel, build_model
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.name_features import NameFeatures
from sgflux.settings.adapter import GraphMode

_LORA_KEY = re.compile(
    r"(?:.*\.)?(transformer_blocks\.(\d+)\.attn\.(\w+(?:\.0)?)\.lora_([AB]))(?:\.\w+)?\.weight"
)
_GRAPH_KEY = re.compile(
    r"(?:.*\.)?((graph_local_proj|graph_global_proj|graph_global_to_temb)\.(?:weight|bias))"
)
_LAYERS = {
    "token": ("graph_local_proj", "graph_global_proj"),
    "temb": ("graph_global_to_temb",),
}


@dataclass(frozen=True, eq=False)
class LegacyAdapter:
    """An imported adapter.

    Attributes:
        model: Model with the imported weights.
        report: one line for every key of the file, then one for every weight that it does not have.
    """

    model: GraphLoraModel
    report: list[str]


def import_legacy(
    path: str | os.PathLike[str],
    *,
    transformer: Any,
    encoder: CGIPEncoder,
    graph_mode: GraphMode = "token",
    lora_alpha: float | None = None,
    max_sequence_length: int = 256,
    base_identity: BaseIdentity | None = None,
) -> LegacyAdapter:
    """Read an adapter of the earlier script onto a base.

    Args:
        path: the ``.pt`` file: a dictionary of tensors, or one in such a dictionary.
        transformer: the base it was trained on, changed in place.
        encoder: the CGIP encoder it was trained with.
        graph_mode: Way in which the graph enters; it decides which projections are used.
        lora_alpha: not in the file; None: the rank.
        max_sequence_length: Text tokens of a prompt, in that training.
        base_identity: Identity of the base; None: the adapter will record none.

    Raises:
        SgfluxError: if the file cannot be read, or a key is unknown, missing, misshapen, or there
            twice.
    """
    lora, graph, report = _sort(_read(path), graph_mode, path)
    weights = LoraWeights.with_alpha(lora, 1.0)
    blocks = sorted({int(name.split(".")[1]) for name in lora})
    base, family = described(transformer), family_of_transformer(transformer)
    expected = set(family.lora_layers(base, range(blocks[0], blocks[-1] + 1), "image"))
    if set(weights.modules) != expected:
        different = sorted(expected ^ set(weights.modules))
        raise SgfluxError(
            f"{path}: LoRA on to_q, to_k, to_v, to_out.0 of consecutive blocks was expected; "
            f"{different[0]} is {'missing' if different[0] in expected else 'something else'}"
        )
    config = AdapterConfig(
        graph_mode=graph_mode,
        tokens_per_triple=1,
        block_start=blocks[0],
        block_end=blocks[-1] + 1,
        lora_rank=weights.rank,
        lora_alpha=float(weights.rank if lora_alpha is None else lora_alpha),
        lora_targets="image",
        encoder=encoder.config(),
        base={
            **base,
            **({} if base_identity is None else {"identity": base_identity.to_json()}),
        },
        max_sequence_length=max_sequence_length,
    )
    model = build_model(
        transformer=transformer,
        config=config,
        name_features=NameFeatures(config.text_dim),
        encoder=encoder,
    )
    own = model.trainable_state()
    read = {f"lora.{name}": value for name, value in lora.items()}
    read |= {f"conditioner.{name}": value for name, value in graph.items()}
    for layer in _LAYERS[graph_mode]:
        for part in ("weight", "bias"):
            if f"conditioner.{layer}.{part}" not in read:
                raise SgfluxError(f"{path}: {layer}.{part} is missing in {graph_mode} mode")
    report += [
        f"{name}: not in the file, starts {'at zero' if not value.any() else 'at identity'}"
        for name, value in own.items()
        if name not in read and not name.startswith("encoder.")
    ]
    with located(path):
        model.load_trainable_state({**own, **read})
    return LegacyAdapter(model=model, report=report)


def _read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """All tensors of the file, those of inner dictionaries under ``outer.inner``."""
    content = read_torch_file(path)
    tensors: dict[str, Tensor] = {}

    def collect(entry: object, name: str) -> None:
        if isinstance(entry, Tensor):
            if name in tensors:
                raise SgfluxError(
                    f"{path}: has {name} twice; save one of them in a file of its own"
                )
            tensors[name] = entry
        elif isinstance(entry, Mapping):
            for key, value in entry.items():
                collect(value, f"{name}.{key}" if name else str(key))

    collect(content, "")
    if not tensors:
        raise SgfluxError(f"{path}: holds no tensors")
    return tensors


def _sort(
    tensors: Mapping[str, Tensor], graph_mode: GraphMode, path: str | os.PathLike[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """LoRA weights, the mode's projections, and what became of every key."""
    lora: dict[str, Tensor] = {}
    graph: dict[str, Tensor] = {}
    report, unknown = [], []
    key_of: dict[str, str] = {}
    for key, value in tensors.items():
        if match := _LORA_KEY.fullmatch(key):
            name = f"{match[1]}.weight"
            lora[name] = value.float()
            report.append(f"{key}: taken over as lora.{name}")
        elif match := _GRAPH_KEY.fullmatch(key):
            if match[2] in _LAYERS[graph_mode]:
                graph[match[1]] = value.float()
                report.append(f"{key}: taken over as conditioner.{match[1]}")
            else:
                report.append(f"{key}: left out, {graph_mode} mode does not use it")
        else:
            unknown.append(key)
            continue
        if (other := key_of.setdefault(match[1], key)) != key:
            raise SgfluxError(
                f"{path}: {other} and {key} are the same weight of two adapters; save one of them "
                "in a file of its own"
            )
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise SgfluxError(f"{path}: {unknown[0]}{more}: not a key of the earlier layout")
    if not lora:
        raise SgfluxError(f"{path}: has no LoRA weight of the earlier layout")
    return lora, graph, report
