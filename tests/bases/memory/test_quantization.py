"""A base in eight or four bits draws nearly the same, and its adapter learns nearly the same.

If one of these failed, a quantised base would draw noise, train an adapter that only fits the
rounded weights, or use as much memory as before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from sgflux.bases.flux1.load import model_identity
from sgflux.bases.flux1.network import FluxInputs
from sgflux.bases.memory.quantization import quantizable, quantize_base
from sgflux.errors import SgfluxError
from sgflux.models.adapter import GraphLoraModel, build_model
from sgflux.models.name_features import NameFeatures
from tests.helpers.flux import make_transformer
from tests.helpers.models import GRAPHS, make_config, train_by_chance

LIBRARY = {"int8": "torchao", "float8": "torchao", "nf4": "bitsandbytes"}
ALLOWED = {"int8": (0.01, 0.02), "float8": (0.04, 0.1), "nf4": (0.1, 0.2)}
"""Relative errors, over all outputs and all gradients together."""


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [("int8", "torchao.quantization", "quantize"), ("nf4", "bitsandbytes.nn", "nf4")],
)
def test_without_its_library_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, kind: Any, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        SgfluxError, match=rf"quantize '{kind}' needs {LIBRARY[kind]}.*'\.\[{extra}\]'"
    ):
        quantize_base(make_transformer(), kind, keep=frozenset())


def test_lora_and_what_identifies_the_base_are_left_alone(names: NameFeatures) -> None:
    transformer = make_transformer()
    config = make_config(transformer)
    build_model(transformer=transformer, config=config, name_features=names)
    chosen = [name for name, _ in quantizable(transformer, keep=frozenset(config.lora_modules))]
    assert "transformer_blocks.0.attn.to_q" in chosen
    assert "transformer_blocks.3.ff.net.2" in chosen
    assert not [name for name in chosen if "lora" in name or ".3.attn.to_q" in name]
    assert not [name for name in chosen if "blocks" not in name]


def make_pair(names: NameFeatures, kind: Any) -> tuple[GraphLoraModel, GraphLoraModel]:
    """A plain model, and the same one with its base quantised."""
    pytest.importorskip(LIBRARY[kind])
    transformers = [make_transformer(), make_transformer()]
    config = make_config(transformers[0])
    plain, quantized = (
        build_model(transformer=transformer, config=config, name_features=names)
        for transformer in transformers
    )
    quantized.load_trainable_state(train_by_chance(plain))
    quantize_base(transformers[1], kind, keep=frozenset(config.lora_modules))
    assert model_identity(transformers[1]) == config.base
    return plain, quantized


def results(
    model: GraphLoraModel, inputs: FluxInputs, *, recompute: bool
) -> Sequence[torch.Tensor]:
    """The velocity, and all gradients in one row."""
    model.zero_grad()
    velocity = model(GRAPHS, inputs, gradient_checkpointing=recompute)
    velocity.square().mean().backward()
    gradients = [p.grad for p in model.trainable_parameters().values() if p.grad is not None]
    assert len(gradients) == len(model.trainable_parameters())
    return velocity.detach(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("kind", list(ALLOWED))
@pytest.mark.parametrize("recompute", [False, True])
def test_outputs_and_gradients_are_close_to_the_plain_models(
    names: NameFeatures, inputs: FluxInputs, kind: str, recompute: bool
) -> None:
    plain, quantized = make_pair(names, kind)
    pairs = zip(*(results(m, inputs, recompute=recompute) for m in (plain, quantized)), strict=True)
    for (one, other), allowed in zip(pairs, ALLOWED[kind], strict=True):
        assert 0 < (other - one).norm() / one.norm() < allowed


def test_a_validation_between_two_steps_leaves_nf4s_gradients_alone(
    names: NameFeatures, inputs: dict[str, Any]
) -> None:
    """Some CPUs have a layout for inference, which stays once it is made and has no gradient."""
    _, quantized = make_pair(names, "nf4")
    before = results(quantized, inputs, recompute=False)
    with torch.no_grad():
        quantized.eval()(GRAPHS, inputs)
    after = results(quantized, inputs, recompute=False)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


def test_nf4_is_small(names: NameFeatures) -> None:
    plain, quantized = make_pair(names, "nf4")
    assert size_of(quantized) < 0.5 * size_of(plain)


def size_of(model: GraphLoraModel) -> int:
    """Bytes of the blocks."""
    blocks = model.flux.transformer.transformer_blocks
    return sum(w.numel() * w.element_size() for w in blocks.parameters())
