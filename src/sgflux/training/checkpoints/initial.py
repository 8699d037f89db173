"""A run that starts from an adapter: one of ours, or anybody's LoRA of FLUX.

Of a bundle everything is taken over: LoRA, conditioner and graph encoder. Of a LoRA file, which has
no reader of graphs, its LoRA is taken over as far as the new adapter has the same layers; the graph
encoder and the conditioner start untrained. Sizes follow what is taken over, whatever is set to its
default; a setting that contradicts them is an error. Data, rates, losses and the length are the new
run's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgflux.bases.families import expect_family, family_of
from sgflux.bases.identity import BaseIdentity, check_identity
from sgflux.bases.lora_weights import LoraWeights
from sgflux.errors import SgfluxError, located
from sgflux.models.adapter import GraphLoraModel
from sgflux.models.adapter_config import AdapterConfig
from sgflux.models.bundle import load_bundle
from sgflux.models.bundle_folder import LORA_FILE, find_bundle
from sgflux.models.cgip_vocabulary import CGIPVocabulary
from sgflux.settings.adapter import AdapterSettings, LoraTargets
from sgflux.settings.conditions import ConditionSettings
from sgflux.settings.flat import flat_values
from sgflux.settings.graph_encoder import BOX_SETTINGS, EncoderKind, GraphEncoderSettings
from sgflux.settings.model_source import ModelSource
from sgflux.training.checkpoints.checkpoint import TrainingState

_SIZES = (
    "graph_mode",
    "block_start",
    "block_end",
    "lora_rank",
    "lora_alpha",
    "lora_targets",
    "max_sequence_length",
)
"""Settings of a run that an adapter has, too."""

_OF_ENCODER = {
    "graph_encoder_dim": "hidden_dim",
    "graph_encoder_layers": "layers",
    "number_triples": "number_triples",
    **{name: name for name in BOX_SETTINGS},
}
"""Settings of the native graph encoder that count among the sizes -> their names in a bundle."""


@dataclass(frozen=True, eq=False)
class InitialAdapter:
    """What a run starts from.

    Attributes:
        name: Name by which the adapter was given.
        config: Settings of the bundle; None for a LoRA file.
        state: Weights of the bundle.
        lora: Weights of the LoRA file.
    """

    name: str
    config: AdapterConfig | None = None
    state: Mapping[str, Tensor] | None = None
    lora: LoraWeights | None = None


def read_initial(source: str, *, model: ModelSource) -> InitialAdapter:
    """Read what ``--init-from`` names.

    Args:
        source: Folder or hub id of a bundle, or a ``.safetensors`` file.
        model: Base of the run; a bundle is fetched from the hub if that is allowed for the base.

    Raises:
        SgfluxError: if it cannot be read, or belongs to another family of bases.
    """
    path, family = Path(source).expanduser(), family_of(model)
    with located("init_from"):
        if path.suffix == ".safetensors" or path.is_file():
            return InitialAdapter(name=source, lora=family.read_lora(path))
        config, state = load_bundle(find_bundle(source, allow_download=model.allow_download))
        expect_family(config.base, family)
    return InitialAdapter(name=source, config=config, state=state)


def sizes_of(
    adapter: AdapterSettings, encoder: GraphEncoderSettings, conditions: ConditionSettings
) -> dict[str, Any]:
    """Setting -> value, for those settings of a run that an adapter has, too."""
    settings = flat_values(adapter) | flat_values(encoder) | flat_values(conditions)
    return {name: settings[name] for name in (*_SIZES, *_OF_ENCODER)}


_DEFAULTS = sizes_of(AdapterSettings(), GraphEncoderSettings(), ConditionSettings())


def adopted(
    initial: InitialAdapter,
    sizes: Mapping[str, Any],
    *,
    kind: EncoderKind,
    predicts_layout: bool = False,
    vocabulary: CGIPVocabulary | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Which of a run's sizes become those of what it starts from.

    Args:
        initial: Adapter from which the run starts.
        sizes: Sizes of the run, from :func:`sizes_of`.
        kind: Graph encoder of the run.
        predicts_layout: Whether the run trains a predictor of boxes.
        vocabulary: Words of the run's cgip encoder; None: it has the native one.

    Returns:
        The changed settings, and what was adopted, a line each.

    Raises:
        SgfluxError: if a setting contradicts it.
    """
    if initial.config is not None:
        _expect_same_predictor(initial.config, predicts_layout, name=initial.name)
        _expect_same_tokens(initial.config, name=initial.name)
        found = _with_sizes_of(initial.config, sizes, kind=kind, name=initial.name)
        if vocabulary is not None:
            _expect_same_words(initial.config, vocabulary, name=initial.name)
        return found
    assert initial.lora is not None
    rank, own = max(initial.lora.ranks.values()), sizes["lora_rank"]
    if rank <= own:
        return {}, []
    if own != _DEFAULTS["lora_rank"]:
        raise SgfluxError(
            f"init_from: {initial.name} has rank {rank}, more than lora_rank {own}; give lora_rank "
            f"{rank} or more"
        )
    # The scale, alpha / rank, stays.
    alpha = sizes["lora_alpha"] * rank / own
    changed = {"lora_rank": rank, "lora_alpha": alpha}
    return changed, _followed(initial.name, changed)


def as_started(state: TrainingState, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Which sizes change when a run that started from an adapter is resumed.

    Its sizes are in the checkpoint; what it started from need not be there any more.
    """
    return {
        name: state.config[name]
        for name, value in sizes.items()
        if name in state.config and value == _DEFAULTS[name]
    }


def _expect_same_predictor(adapter: AdapterConfig, predicts_layout: bool, *, name: str) -> None:
    if bool(adapter.encoder.get("predict_layout")) == predicts_layout:
        return
    raise SgfluxError(
        f"init_from: {name} has no predictor of boxes, which lambda_layout trains further; leave "
        "lambda_layout out, or start without init_from"
        if predicts_layout
        else f"init_from: {name} has a predictor of boxes; give lambda_layout, which trains it "
        "further"
    )


def _expect_same_tokens(adapter: AdapterConfig, *, name: str) -> None:
    own, usual = adapter.tokens_per_triple, AdapterConfig.tokens_per_triple
    if adapter.graph_mode == "token" and own != usual:
        raise SgfluxError(
            f"init_from: {name} makes {own} graph tokens of a triple (adapters of the earlier "
            f"training script make 1), and a run trains {usual}; give its {LORA_FILE}, of which "
            "the LoRA alone is taken over, or start without init_from"
        )


def _expect_same_words(adapter: AdapterConfig, vocabulary: CGIPVocabulary, *, name: str) -> None:
    """An embedding belongs to the place of its word."""
    for kind, words in (("objects", vocabulary.objects), ("predicates", vocabulary.predicates)):
        if tuple(adapter.encoder[kind]) != words:
            raise SgfluxError(
                f"init_from: {name} has other {kind} than vocab_path names, or has them in another "
                "order; give the vocab_path that it was trained with"
            )


def _with_sizes_of(
    adapter: AdapterConfig, sizes: Mapping[str, Any], *, kind: EncoderKind, name: str
) -> tuple[dict[str, Any], list[str]]:
    if adapter.encoder["kind"] != kind:
        way_out = (
            "give the cgip_ckpt and vocab_path that it was trained with"
            if adapter.encoder["kind"] == "cgip"
            else "drop cgip_ckpt and graph_encoder"
        )
        raise SgfluxError(
            f"init_from: {name} has the {adapter.encoder['kind']} graph encoder, this run the "
            f"{kind} one; {way_out}"
        )
    wanted: dict[str, Any] = {name: getattr(adapter, name) for name in _SIZES}
    if kind == "native":
        # What is off may be left out of an encoder's settings.
        wanted |= {name: adapter.encoder.get(own, False) for name, own in _OF_ENCODER.items()}
    changed: dict[str, Any] = {}
    for setting, value in wanted.items():
        own = sizes[setting]
        if own == value or (setting == "lora_targets" and _extends(adapter, own)):
            continue
        if own != _DEFAULTS[setting]:
            raise SgfluxError(
                f"init_from: {name} has {setting} {value!r}, this run {own!r}; leave it out, or "
                "start without init_from"
            )
        changed[setting] = value
    return changed, _followed(name, changed)


def _followed(name: str, changed: Mapping[str, Any]) -> list[str]:
    """Say which settings an adapter decides; one that is given its default is among them."""
    if not changed:
        return []
    said = ", ".join(f"{setting} {value}" for setting, value in changed.items())
    return [f"from {name}, which settings at their defaults follow: {said}"]


def _extends(adapter: AdapterConfig, own: LoraTargets) -> bool:
    """Whether a run that sets its LoRA's layers has all of the adapter's, and more."""
    layers = replace(adapter, lora_targets=own).lora_modules
    return own != _DEFAULTS["lora_targets"] and set(layers) > set(adapter.lora_modules)


def check_initial_base(
    initial: InitialAdapter, base: BaseIdentity, *, allow_other: bool
) -> list[str]:
    """Compare the base that a bundle was trained on with the run's.

    Returns:
        What is to be said.

    Raises:
        SgfluxError: if it is another one and that is not allowed.
    """
    if initial.config is None:
        return [f"{initial.name} does not say which base it was trained on: not verified"]
    check = check_identity(initial.config.base_identity, base, allow_other=allow_other)
    return [] if check.status == "same" else [f"{initial.name}: {check.text}"]


def load_initial(model: GraphLoraModel, initial: InitialAdapter) -> list[str]:
    """Put the weights of what a run starts from into its model.

    Returns:
        What was taken over and what was not, a line each.

    Raises:
        SgfluxError: if the weights do not fit.
    """
    if initial.state is not None:
        added = {
            name: value
            for name, value in model.adapter_state().items()
            if name.startswith("lora.") and name not in initial.state
        }
        with located(f"init_from: {initial.name}"):
            model.load_trainable_state({**initial.state, **added})
        lines = [f"starts from {initial.name}: LoRA, conditioner and graph encoder are taken over"]
        if added:
            lines.append(
                f"{len(added) // 2} of the adapter's {len(model.config.lora_modules)} LoRA layers "
                f"are not in {initial.name}: untrained"
            )
        return lines
    assert initial.lora is not None
    return _load_lora(model, initial.lora, name=initial.name)


@torch.no_grad()
def _load_lora(model: GraphLoraModel, lora: LoraWeights, *, name: str) -> list[str]:
    own = model.config.lora_modules
    shared = [module for module in lora.modules if module in own]
    if not shared:
        raise SgfluxError(
            f"init_from: {name} has no LoRA on a layer that this adapter changes "
            f"({_layers(model)}); its first layer is {lora.modules[0]}"
        )
    weights = model.adapter_parameters()
    for module in shared:
        down, up = (lora.weights[f"{module}.lora_{part}.weight"] for part in "AB")
        a, b = (weights[f"lora.{module}.lora_{part}.weight"] for part in "AB")
        rank = down.shape[0]
        if a.shape[1] != down.shape[1] or b.shape[0] != up.shape[0] or rank > a.shape[0]:
            raise SgfluxError(
                f"init_from: {name}: {module} is {tuple(down.shape)} and {tuple(up.shape)}, which "
                f"does not fit {tuple(a.shape)} and {tuple(b.shape)}"
            )
        # The rows beyond its rank stay as they were drawn, and their columns add nothing.
        scale = lora.alphas[module] / rank * model.config.lora_rank / model.config.lora_alpha
        a[:rank] = down.to(a)
        b.zero_()
        b[:, :rank] = (up.double() * scale).to(b)
    left_out = len(lora.modules) - len(shared)
    fresh = len(own) - len(shared)
    lines = [
        f"starts from the LoRA {name}: {len(shared)} of its {len(lora.modules)} layers are taken "
        "over; the graph encoder and the conditioner start untrained"
    ]
    if left_out:
        lines.append(
            f"warning: {left_out} layers of {name} are no layers of this adapter "
            f"({_layers(model)}) and are left out: what they do is missing"
        )
    if fresh:
        lines.append(
            f"{fresh} of the adapter's {len(own)} LoRA layers are not in {name}: untrained"
        )
    return lines


def _layers(model: GraphLoraModel) -> str:
    """The layers of an adapter's LoRA, in words."""
    return f"lora_targets {model.config.lora_targets} of {model.config.blocks_in_words}"
