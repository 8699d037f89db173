"""A base in eight bits draws nearly the same, and its adapter learns nearly the same."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from flux_fixture import make_transformer

from sgflux.errors import SgfluxError
from sgflux.models.adapter import build_model
from sgflux.models.backbone import model_identity
from sgflux.models.graph_encoder import NameFeatures
from sgflux.models.quantization import quantizable, quantize_base
from tests.models.test_adapter import GRAPHS, make_config, train_by_chance


def test_without_torchao_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(SgfluxError, match=r"quantize 'int8' needs torchao.*sgflux\[quantize\]"):
        quantize_base(make_transformer(), "int8")


def test_lora_and_what_identifies_the_base_are_left_alone(names: NameFeatures) -> None:
    transformer = make_transformer()
    build_model(transformer=transformer, config=make_config(transformer), name_features=names)
    chosen = [name for name, _ in quantizable(transformer)]
    assert "transformer_blocks.0.attn.to_q" in chosen
    assert "transformer_blocks.3.ff.net.2" in chosen
    assert not [name for name in chosen if "lora" in name or ".3.attn.to_q" in name]
    assert not [name for name in chosen if "blocks" not in name]


@pytest.mark.parametrize(
    ("kind", "output_error", "gradient_error"), [("int8", 0.01, 0.02), ("float8", 0.04, 0.1)]
)
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_outputs_and_gradients_are_close_to_the_plain_models(
    names: NameFeatures,
    inputs: dict[str, Any],
    kind: Any,
    output_error: float,
    gradient_error: float,
    gradient_checkpointing: bool,
) -> None:
    """Relative errors, over all outputs and all gradients together."""
    pytest.importorskip("torchao")
    transformers = [make_transformer(), make_transformer()]
    config = make_config(transformers[0])
    plain, quantized = (
        build_model(transformer=transformer, config=config, name_features=names)
        for transformer in transformers
    )
    quantized.load_trainable_state(train_by_chance(plain))
    quantize_base(transformers[1], kind)
    assert model_identity(transformers[1]) == config.base
    results = []
    for model in (plain, quantized):
        velocity = model(GRAPHS, gradient_checkpointing=gradient_checkpointing, **inputs)
        velocity.square().mean().backward()
        gradients = [p.grad for p in model.trainable_parameters().values() if p.grad is not None]
        assert len(gradients) == len(model.trainable_parameters())
        results.append((velocity, torch.cat([gradient.flatten() for gradient in gradients])))
    for (one, other), allowed in zip(
        zip(*results, strict=True), (output_error, gradient_error), strict=True
    ):
        assert 0 < (other - one).norm() / one.norm() < allowed
