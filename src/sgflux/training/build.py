"""The model of a run: the frozen transformer with its adapter, and all else the loop needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import FluxTransformer2DModel
from torch import nn

from sgflux.config import TrainConfig
from sgflux.data.cache import TrainingArrays
from sgflux.errors import SgfluxError
from sgflux.models.adapter import AdapterConfig, GraphLoraModel, build_model
from sgflux.models.backbone import (
    default_block_range,
    load_transformer,
    model_identity,
    validate_block_range,
)
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.encoders import make_encoder
from sgflux.models.graph_encoder import NameFeatures, NativeGraphEncoder
from sgflux.models.quantization import quantize_base
from sgflux.training.batches import LatentScale
from sgflux.training.build_terms import build_terms
from sgflux.training.encoder import pretrained_encoder
from sgflux.training.plan import RunPlan, make_plan
from sgflux.training.prepare import DTYPES, Encoded, Splits, images_root
from sgflux.training.processes import Processes
from sgflux.training.randomness import derived_seed
from sgflux.training.terms import TermInputs
from sgflux.training.validation import Validator, sigma_grid


@dataclass(frozen=True)
class Preparation:
    """All that the loop needs.

    Attributes:
        model: the frozen transformer with its adapter, on the device.
        adapter: what the adapter is.
        train: encoded training set.
        validator: None without a validation set.
        latent_scale: of the autoencoder.
        dtype: of the arithmetic.
        guidance: what a guidance-distilled model is told, else None.
        digests: split -> SHA-256 of its JSONL.
        plan: the numbers of the run.
        names: features of the graphs' words.
        terms: what the further loss terms need.
    """

    model: GraphLoraModel
    adapter: AdapterConfig
    train: TrainingArrays
    validator: Validator | None
    latent_scale: LatentScale
    dtype: torch.dtype
    guidance: float | None
    digests: dict[str, str]
    plan: RunPlan
    names: NameFeatures
    terms: TermInputs


def build(
    config: TrainConfig, splits: Splits, encoded: Encoded, *, processes: Processes
) -> Preparation:
    """Load the transformer and put the adapter into it.

    Raises:
        SgfluxError: if the model cannot be loaded, or a setting does not fit it.
    """
    device = processes.device
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what the encoders had, for the transformer
    transformer = load_transformer(
        config.model_id,
        revision=config.revision,
        dtype=DTYPES[config.dtype],
        # A base that is to be quantised may not fit the device before.
        device=device if config.quantize == "none" else "cpu",
        allow_download=config.allow_download,
    )
    encoder = pretrained_encoder(config)
    adapter = adapter_config(config, transformer, text_tokens=encoded.text_tokens, encoder=encoder)
    # The adapter's first weights are drawn from torch's global generator.
    torch.manual_seed(derived_seed(config.seed, "weights"))
    model = build_model(
        transformer=transformer,
        config=adapter,
        name_features=encoded.names,
        encoder=encoder or frozen_encoder(config, adapter, encoded.names),
    )
    if config.quantize != "none":
        quantize_base(transformer, config.quantize)
    model.to(device)
    if config.compile:
        model.flux.compile_blocks()
    guidance = guidance_of(config, is_distilled=transformer.config.guidance_embeds)
    validator = None
    if encoded.val is not None:
        validator = Validator(
            encoded.val,
            splits.items,
            sigmas=sigma_grid(config.val_sigmas, t_min=config.t_min, t_max=config.t_max),
            latent_scale=encoded.latent_scale,
            prompt_kind=config.texts.heaviest,
            seed=config.seed,
            batch_size=config.batch_size,
        )
    return Preparation(
        model=model,
        adapter=adapter,
        train=encoded.train,
        validator=validator,
        latent_scale=encoded.latent_scale,
        dtype=DTYPES[config.dtype],
        guidance=guidance,
        digests=splits.digests,
        plan=plan_of(
            config,
            splits,
            adapter,
            model,
            processes=processes,
            image_tokens=encoded.image_tokens,
        ),
        names=encoded.names,
        terms=build_terms(
            config,
            splits.terms,
            splits.train,
            names=encoded.names,
            concept_pooled=encoded.concept_pooled,
            grid=encoded.image_grid,
            num_layers=adapter.base["num_layers"],
            autoencoder_identity=encoded.autoencoder_identity,
            model_fingerprint=adapter.base["fingerprint"],
            images_dir=images_root(config, config.train_jsonl),
            device=device,
        ),
    )


def adapter_config(
    config: TrainConfig,
    transformer: FluxTransformer2DModel,
    *,
    text_tokens: int,
    encoder: CGIPEncoder | None,
) -> AdapterConfig:
    """What the adapter will be on this transformer, with a pretrained encoder or the native one.

    Raises:
        SgfluxError: if the block range does not fit it.
    """
    layers = transformer.config.num_layers
    start, end = default_block_range(layers)
    if config.block_start is not None and config.block_end is not None:
        start, end = config.block_start, config.block_end
        validate_block_range(start, end, layers)
    return AdapterConfig(
        graph_mode=config.graph_mode,
        block_start=start,
        block_end=end,
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_targets=config.lora_targets,
        encoder={"kind": "native"} if encoder is None else encoder.config(),
        base=model_identity(transformer),
        max_sequence_length=text_tokens,
    )


def frozen_encoder(
    config: TrainConfig, adapter: AdapterConfig, names: NameFeatures
) -> NativeGraphEncoder | CGIPEncoder | None:
    """The native encoder as it is drawn, without gradient, if the run asks for that."""
    if not config.freeze_graph_encoder:
        return None
    encoder = make_encoder(adapter.encoder, name_features=names)
    return encoder.requires_grad_(False)


def plan_of(
    config: TrainConfig,
    splits: Splits,
    adapter: AdapterConfig,
    model: nn.Module,
    *,
    processes: Processes,
    image_tokens: int,
) -> RunPlan:
    """The numbers of the run."""
    weights = list(model.parameters())
    return make_plan(
        config,
        train_examples=len(splits.train),
        val_examples=len(splits.items),
        val_pairs=sum(item.negative is not None for item in splits.items),
        processes=processes.count,
        block_range=(adapter.block_start, adapter.block_end),
        num_layers=adapter.base["num_layers"],
        image_tokens=image_tokens,
        text_tokens=adapter.max_sequence_length,
        trainable=sum(weight.numel() for weight in weights if weight.requires_grad),
        total=sum(weight.numel() for weight in weights),
    )


def guidance_of(config: TrainConfig, *, is_distilled: bool) -> float | None:
    """What the model is told about guidance; None for one that is not guidance-distilled.

    Raises:
        SgfluxError: if a guidance is given that the model would not listen to.
    """
    if config.guidance is not None and not is_distilled:
        raise SgfluxError(
            f"guidance ({config.guidance}) has no effect: {config.model_id!r} is not "
            "guidance-distilled"
        )
    if not is_distilled:
        return None
    return 1.0 if config.guidance is None else config.guidance
