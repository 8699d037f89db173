"""Measure the forms in which a cache holds texts: their space, their time, and their exactness.

    python benchmarks/text_cache.py --out benchmarks/results/text_cache.json

The exactness is the relative change of the velocity, ``|v' - v| / |v|``, when the transformer reads
the features as they come out of the cache, over all prompts and sigmas. It is measured twice:

    tiny-flux   the bundled, trained model on pictures of the bundled world: texts of one statement
                and neutral texts, 24 tokens, at four sigmas
    flux-sized  random weights: a T5 encoder of width 4096 on 256 tokens, of which 8 to 64 are text,
                and a FLUX transformer of inner width 3072 with one double and one single block

For comparison, the same is measured with the padding replaced by zeros, with the text of another
prompt, and with plain rounding to 4 bits in groups of 64 features.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import checkout  # noqa: F401
import numpy as np
import torch
from diffusers import FluxTransformer2DModel
from measuring import machine, significant
from result_files import write_json
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from sgflux.bases.families import network_of
from sgflux.bases.flux1.load import load_autoencoder, load_text_encoders, load_transformer
from sgflux.data.cache.text_formats import packed, packed_bytes, unpacked
from sgflux.data.prompts import prompts_for_graph
from sgflux.settings.shared import TextFormat
from sgflux.world.scenes import PREDICATES, sample_scene

FORMS: tuple[TextFormat, ...] = get_args(TextFormat)
SIGMAS = (1.0, 0.75, 0.5, 0.25)
FLUX_TOKENS, FLUX_WIDTH = 256, 4096
PROMPTS = 100_000


@dataclass(frozen=True)
class Case:
    """What one model is measured on.

    Attributes:
        transformer: Transformer whose velocity is compared.
        text: Features of B prompts.
        lengths: Number of tokens of each prompt before its padding.
        latents: Scaled latents of B pictures.
        noise: Noise of the same shape.
        sigmas: Noise levels at which the velocity is compared.
    """

    transformer: FluxTransformer2DModel
    text: Mapping[str, Tensor]
    lengths: Sequence[int]
    latents: Tensor
    noise: Tensor
    sigmas: Sequence[float]

    @torch.no_grad()
    def velocity(self, hidden: Tensor) -> Tensor:
        """Velocities under other features of the tokens, (sigmas, B, tokens, channels)."""
        network = network_of(self.transformer)
        text = {name: value.float() for name, value in {**self.text, "hidden": hidden}.items()}
        found = []
        for sigma in self.sigmas:
            noisy = (1 - sigma) * self.latents + sigma * self.noise
            levels = torch.full((len(noisy),), sigma)
            found.append(network.plain(network.inputs(noisy, text, levels)))
        return torch.stack(found)


def tiny_case() -> Case:
    """The bundled model on one picture of each predicate, with both kinds of text."""
    encoders, autoencoder = load_text_encoders("tiny"), load_autoencoder("tiny")
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, predicate=predicate) for predicate in PREDICATES for _ in range(2)]
    prompts = [
        prompts_for_graph(scene.graph(), kind)
        for scene, kind in zip(scenes, ["neutral", "relational"] * len(PREDICATES), strict=True)
    ]
    pixels = torch.stack([torch.from_numpy(scene.image) for scene in scenes])
    images = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        latents = autoencoder.scale(autoencoder.posterior(images)[0])
        text = {name: value.bfloat16() for name, value in encoders.encode(prompts).items()}
    lengths = [len(ids) for ids in encoders.tokenizer_2(prompts)["input_ids"]]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    return Case(load_transformer("tiny"), text, lengths, latents, noise, SIGMAS)


def flux_sized_case() -> Case:
    """Random weights of FLUX's width, whose text encoder has relative positions as T5 has."""
    torch.manual_seed(0)
    encoder = T5EncoderModel(
        T5Config(
            vocab_size=1000,
            d_model=FLUX_WIDTH,
            d_kv=64,
            d_ff=2048,
            num_layers=2,
            num_heads=64,
            feed_forward_proj="gated-gelu",
        )
    ).eval()
    bias = encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    lengths = [8, 16, 32, 64]
    ids = torch.zeros(len(lengths), FLUX_TOKENS, dtype=torch.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(2, 1000, (length,))
    with torch.no_grad():
        bias.normal_(0, 3)
        hidden = encoder(ids)[0].bfloat16()
    del encoder
    transformer = FluxTransformer2DModel(num_layers=1, num_single_layers=1).eval()
    text = {"hidden": hidden, "pooled": torch.randn(len(lengths), 768).bfloat16()}
    latents, noise = torch.randn(2, len(lengths), 16, 16, 16)
    return Case(transformer, text, lengths, latents, noise, (0.75,))


def measure(case: Case) -> dict[str, Any]:
    """Change of the velocity, and seconds a prompt, for each form and for what is compared."""
    hidden, count = case.text["hidden"], len(case.lengths)
    wanted = case.velocity(hidden)
    rows: dict[str, Any] = {}
    for form in FORMS:
        started = time.process_time()
        tensors = packed({"hidden": hidden}, [""] * count, form=form)
        between = time.process_time()
        found = unpacked(tensors)["hidden"]
        rows[form] = {
            "pack_ms": significant(1e3 * (between - started) / count, 2),
            "unpack_ms": significant(1e3 * (time.process_time() - between) / count, 2),
            "bytes": sum(tensor.nbytes for tensor in tensors.values()) // count,
            **_changes(case, found, wanted),
        }
    for name, change in COMPARED.items():
        rows[name] = _changes(case, change(case), wanted)
    return rows


def _changes(case: Case, hidden: Tensor, wanted: Tensor) -> dict[str, float]:
    original = case.text["hidden"].float()
    difference = case.velocity(hidden) - wanted
    each = difference.flatten(2).norm(dim=2) / wanted.flatten(2).norm(dim=2)
    return {
        "feature_change": significant(float((hidden.float() - original).norm() / original.norm())),
        "velocity_change": significant(float(difference.norm() / wanted.norm())),
        "worst_velocity_change": significant(float(each.max())),
    }


def _without_padding(case: Case) -> Tensor:
    hidden = case.text["hidden"].clone()
    for row, length in enumerate(case.lengths):
        hidden[row, length:] = 0
    return hidden


def _four_bits(case: Case) -> Tensor:
    hidden = case.text["hidden"].float()
    grouped = hidden.unflatten(-1, (-1, math.gcd(hidden.shape[-1], 64)))
    scale = grouped.abs().amax(-1, keepdim=True) / 7
    return ((grouped / scale).round() * scale).flatten(-2).bfloat16()


COMPARED: dict[str, Callable[[Case], Tensor]] = {
    "4 bits": _four_bits,
    "padding as zeros": _without_padding,
    "text of another prompt": lambda case: case.text["hidden"].roll(1, 0),
}
"""Name -> features of the tokens in place of the right ones."""


def main() -> None:
    """Measure both models, print the tables, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file that is written.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    content: dict[str, Any] = {
        "command": "python benchmarks/text_cache.py",
        "machine": machine(),
        "flux_prompt_bytes": {
            form: packed_bytes(FLUX_TOKENS, FLUX_WIDTH, form=form) + 2 * 768 for form in FORMS
        },
        "models": {},
    }
    content["gigabytes_of_100000_prompts"] = {
        form: significant(PROMPTS * size / 1e9, 3)
        for form, size in content["flux_prompt_bytes"].items()
    }
    for name, make in {"tiny-flux": tiny_case, "flux-sized": flux_sized_case}.items():
        content["models"][name] = measure(make())
        for row, figures in content["models"][name].items():
            print(name, row, figures, flush=True)
    if arguments.out is not None:
        write_json(arguments.out, content)


if __name__ == "__main__":
    main()
