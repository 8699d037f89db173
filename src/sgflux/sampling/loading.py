"""Loading of a pipeline's parts, each onto its device."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sgflux.bases.families import expect_family, family_of
from sgflux.bases.family import TextEncoders
from sgflux.bases.identity import check_identity
from sgflux.bases.memory.offload import check_gain, offload_for_sampling
from sgflux.bases.memory.quantization import check_libraries, quantize_base
from sgflux.models.adapter import AdapterConfig, GraphLoraModel, build_model
from sgflux.models.bundle import load_bundle
from sgflux.models.bundle_folder import find_bundle, read_drawing
from sgflux.models.hub import base_of
from sgflux.models.name_features import NameFeatures
from sgflux.settings.drawing import NOTHING_RECOMMENDED
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource

_LOGGER = logging.getLogger(__name__)


def load_parts(
    source: ModelSource,
    memory: MemorySettings,
    *,
    adapter: str | os.PathLike[str] | None,
    dtype: torch.dtype,
    device: torch.device,
    allow_other_base: bool,
    max_sequence_length: int | None = None,
) -> dict[str, Any]:
    """Load the arguments of ``SceneGraphFluxPipeline`` for those of ``from_pretrained``.

    Raises:
        SgfluxError: if a part cannot be loaded, the adapter was trained on another base, or nobody
            names the base.
    """
    bundle_folder, drawing = None, NOTHING_RECOMMENDED
    if adapter is not None:
        bundle_folder = find_bundle(adapter, allow_download=source.allow_download)
        drawing = read_drawing(bundle_folder)
    if source.model_id is None and bundle_folder is not None:
        model_id, revision = base_of(bundle_folder)
        source = replace(source, model_id=model_id, revision=source.revision or revision)
    source = source.named()
    encoder_device = torch.device(memory.encoder_device or device)
    check_libraries(quantize=memory.quantize)
    if memory.offload_blocks:
        check_gain(device, memory.offload_folder)
    family = family_of(source)
    family.check(source)
    bundle = None if bundle_folder is None else load_bundle(bundle_folder)
    if bundle is not None:
        expect_family(bundle[0].base, family)
    identity = family.identity(source)
    check = None
    if bundle is not None:
        if max_sequence_length is None:
            max_sequence_length = bundle[0].max_sequence_length
        check = check_identity(bundle[0].base_identity, identity, allow_other=allow_other_base)
        if check.status != "same":
            _LOGGER.warning("%s: %s", bundle_folder, check.text)
    text = family.load_text_encoders(
        source, dtype=dtype, device=encoder_device, max_sequence_length=max_sequence_length
    )
    transformer = family.load_transformer(
        source, dtype=dtype, device="cpu" if memory.comes_small else device
    )
    model = fingerprint = files = None
    keep: frozenset[str] = frozenset()
    if bundle is not None:
        model = adapter_on(transformer, *bundle, text=text, allow_other_base=allow_other_base)
        fingerprint = adapter_fingerprint(*bundle)
        keep = frozenset(bundle[0].lora_modules)
    if memory.quantize != "none":
        quantize_base(transformer, memory.quantize, keep=keep, device=device)
    if not memory.offload_blocks:
        (transformer if model is None else model).to(device)
    elif model is None:
        files = offload_for_sampling(transformer, device=device, folder=memory.offload_folder)
    else:
        model.offload_blocks(device, folder=memory.offload_folder)
    return {
        "text_encoders": text,
        "autoencoder": family.load_autoencoder(source, dtype=dtype, device=encoder_device),
        "scheduler": family.load_scheduler(source),
        "transformer": transformer,
        "model": model,
        "adapter_fingerprint": fingerprint,
        "base_identity": identity,
        "base_check": check,
        "files": files,
        "model_id": source.name,
        "quantize": memory.quantize,
        "not_quantized": _digest(keep) if keep else None,
        "source": source,
        "drawing": drawing,
    }


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def adapter_on(
    transformer: Any,
    config: AdapterConfig,
    state: Mapping[str, Tensor],
    *,
    text: TextEncoders,
    allow_other_base: bool = False,
) -> GraphLoraModel:
    """A transformer with a bundle's adapter on it, frozen, in eval mode.

    Raises:
        SgfluxError: if the adapter was trained on another base.
    """
    model = build_model(
        transformer=transformer,
        config=config,
        name_features=NameFeatures(text.dim, text.encode_names),
        allow_other_base=allow_other_base,
    )
    model.load_trainable_state(state)
    return model.eval().requires_grad_(False)


def adapter_fingerprint(config: AdapterConfig, state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over an adapter's configuration and all its weights."""
    digest = hashlib.sha256(json.dumps(config.to_json(), sort_keys=True).encode())
    for name in sorted(state):
        values = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
