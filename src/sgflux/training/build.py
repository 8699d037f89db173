"""The model of a run: the frozen transformer with its adapter, and all else the loop needs."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from diffusers import FluxTransformer2DModel
from torch import nn

from sgflux.bases.devices import DTYPES
from sgflux.bases.flux1.load import load_scheduler, load_transformer, model_identity
from sgflux.bases.identity import BaseIdentity
from sgflux.bases.memory.quantization import quantize_base
from sgflux.data.buckets import Size
from sgflux.data.cache.arrays import TrainingArrays
from sgflux.errors import SgfluxError
from sgflux.flow_matching import SCHNELL_STEPS, resolution_shift, sigma_grid
from sgflux.models.adapter import AdapterConfig, GraphLoraModel, build_model
from sgflux.models.block_range import default_block_range, validate_block_range
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.encoders import make_encoder
from sgflux.models.graph_encoder import NameFeatures, NativeGraphEncoder
from sgflux.models.training_adapter import TrainingAdapter, add_training_adapter
from sgflux.sampling.inputs import flux_schedule
from sgflux.settings.training import TrainConfig
from sgflux.training.batches.batch import LatentScale
from sgflux.training.checkpoints.initial import InitialAdapter, load_initial
from sgflux.training.encoding.encode import Encoded, image_tokens_of
from sgflux.training.encoding.graph_encoder import pretrained_encoder
from sgflux.training.encoding.splits import Splits, images_root
from sgflux.training.planning.plan import RunPlan, make_plan
from sgflux.training.processes.processes import Processes
from sgflux.training.randomness import derived_seed
from sgflux.training.terms.regions import relation_regions
from sgflux.training.terms.term import Parts, Term
from sgflux.training.validation import Validator


@dataclass(frozen=True)
class Preparation:
    """All that the loop needs.

    Attributes:
        model: Frozen transformer with its adapter, on the device.
        adapter: Description of the adapter.
        train: Encoded training set.
        validator: None without a validation set.
        latent_scale: Shift and scale of the autoencoder.
        dtype: Precision of the arithmetic.
        guidance: Guidance that a guidance-distilled model is told; None for any other model.
        digests: Split, or name of another file that decides the training -> SHA-256 of that file.
        content: Split -> digest of its rows and the bytes of their pictures.
        seen: Split -> digests of each of its rows and pictures.
        plan: Numbers of the run.
        terms: Terms of the loss.
        parts: What the terms are made of.
        sigma_shift: Shift of the noise levels drawn, see :func:`sgflux.flow_matching.shifted`.
        training_adapter: Frozen LoRA that is in the base while it is trained; None without.
        sigma_shifts: Shift of each size, with aspect buckets; else empty.
    """

    model: GraphLoraModel
    adapter: AdapterConfig
    train: TrainingArrays
    validator: Validator | None
    latent_scale: LatentScale
    dtype: torch.dtype
    guidance: float | None
    digests: dict[str, str]
    content: dict[str, str]
    seen: dict[str, dict[str, np.ndarray]]
    plan: RunPlan
    terms: Sequence[Term]
    parts: Parts
    sigma_shift: float
    training_adapter: TrainingAdapter | None
    sigma_shifts: Mapping[Size, float] = field(default_factory=dict)

    def sigma_shift_of(self, rows: Sequence[int]) -> float:
        """The shift of the noise levels drawn for training examples of one size."""
        if not self.train.sizes:
            return self.sigma_shift
        return self.sigma_shifts[self.train.sizes[rows[0]]]

    def as_sampled(self) -> AbstractContextManager[None]:
        """A context in which the training adapter is off, as it is in sampling."""
        if self.training_adapter is None:
            return nullcontext()
        return self.training_adapter.switched_off()


def build(
    config: TrainConfig,
    splits: Splits,
    encoded: Encoded,
    *,
    processes: Processes,
    base_identity: BaseIdentity | None = None,
    initial: InitialAdapter | None = None,
    say: Callable[[str], None] | None = None,
) -> Preparation:
    """Load the transformer and put the adapter into it.

    Args:
        config: Configuration of the run.
        splits: Examples of the run.
        encoded: The same examples, encoded.
        processes: Processes that share the work.
        base_identity: Identity of the base; None: the adapter will record none.
        initial: Weights from which the adapter starts; None: it starts untrained.
        say: Takes lines for the user.

    Raises:
        SgfluxError: if the model cannot be loaded, or a setting does not fit it.
    """
    device = processes.device
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what the encoders had, for the transformer
    # A base that is to be quantised or offloaded may not fit the device before.
    comes_small = config.memory.quantize != "none" or config.memory.offload_blocks
    transformer = load_transformer(
        **config.model.for_transformer,
        dtype=DTYPES[config.compute.dtype],
        device="cpu" if comes_small else device,
    )
    encoder = pretrained_encoder(config)
    adapter = adapter_config(
        config,
        transformer,
        text_tokens=encoded.text_tokens,
        encoder=encoder,
        base_identity=base_identity,
    )
    # The adapter's first weights are drawn from torch's global generator.
    torch.manual_seed(derived_seed(config.run.seed, "weights"))
    model = build_model(
        transformer=transformer,
        config=adapter,
        name_features=encoded.names,
        encoder=encoder or frozen_encoder(config, adapter, encoded.names),
    )
    if initial is not None:
        for line in load_initial(model, initial):
            if say is not None:
                say(line)
    plan = plan_of(
        config,
        splits,
        adapter,
        model,
        processes=processes,
        image_tokens=encoded.image_tokens,
        sizes=encoded.train.sizes,
    )
    training_adapter = None
    if splits.training_adapter is not None:
        training_adapter = add_training_adapter(transformer, splits.training_adapter)
    if config.memory.quantize != "none":
        quantize_base(
            transformer, config.memory.quantize, keep=frozenset(adapter.lora_modules), device=device
        )
    if config.memory.offload_blocks:
        model.offload_blocks(device, folder=config.memory.offload_folder)
    else:
        model.to(device)
    if config.blocks.compile:
        model.flux.compile_blocks()
    guidance = guidance_of(config, is_distilled=transformer.config.guidance_embeds)
    validator = None
    if encoded.val is not None:
        validator = Validator(
            encoded.val,
            splits.items,
            sigmas=sigma_grid(
                config.validation.val_sigmas, t_min=config.flow.t_min, t_max=config.flow.t_max
            ),
            latent_scale=encoded.latent_scale,
            prompt_kind=config.conditions.texts.heaviest,
            seed=config.run.seed,
            batch_size=config.optimizer.batch_size,
        )
    return Preparation(
        model=model,
        adapter=adapter,
        train=encoded.train,
        validator=validator,
        latent_scale=encoded.latent_scale,
        dtype=DTYPES[config.compute.dtype],
        guidance=guidance,
        digests=splits.digests,
        content=encoded.content,
        seen=encoded.seen,
        plan=plan,
        terms=splits.terms,
        parts=Parts(
            examples=splits.train,
            names=encoded.names,
            captions=encoded.train.words,
            concept_text=encoded.concept_text,
            regions=lambda: relation_regions(
                splits.train,
                images_dir=images_root(config, config.data.train_jsonl),
                sizes=encoded.train.sizes or [config.pictures.size] * len(splits.train),
                crop=config.pictures.crop,
                patch=encoded.patch,
            ),
            sampling_sigmas=cache(
                lambda image_tokens: sampling_sigmas_of(config, image_tokens=image_tokens)
            ),
            image_tokens=encoded.image_tokens,
            num_layers=adapter.base["num_layers"],
            reads={
                "latent": [encoded.autoencoder_identity],
                # Older cards have the fingerprint of two layers, and not the digest of all weights.
                "saliency": [
                    adapter.base["fingerprint"],
                    *([] if base_identity is None else [base_identity.parts["transformer"]]),
                ],
            },
            model_id=config.model.name,
            seed=config.run.seed,
            device=device,
        ),
        sigma_shift=sigma_shift_of(config, image_tokens=encoded.image_tokens),
        training_adapter=training_adapter,
        sigma_shifts={
            size: sigma_shift_of(
                config,
                image_tokens=image_tokens_of(config, downsample=encoded.patch // 2, sizes=[size]),
            )
            for size in sorted(set(encoded.train.sizes))
        },
    )


def adapter_config(
    config: TrainConfig,
    transformer: FluxTransformer2DModel,
    *,
    text_tokens: int,
    encoder: CGIPEncoder | None,
    base_identity: BaseIdentity | None = None,
) -> AdapterConfig:
    """What the adapter will be on this transformer, with a pretrained encoder or the native one.

    Raises:
        SgfluxError: if the block range does not fit it.
    """
    layers = transformer.config.num_layers
    start, end = default_block_range(layers)
    if config.adapter.block_start is not None and config.adapter.block_end is not None:
        start, end = config.adapter.block_start, config.adapter.block_end
        validate_block_range(start, end, layers)
    return AdapterConfig(
        graph_mode=config.adapter.graph_mode,
        block_start=start,
        block_end=end,
        lora_rank=config.adapter.lora_rank,
        lora_alpha=config.adapter.lora_alpha,
        lora_targets=config.adapter.lora_targets,
        encoder=(
            {"kind": "native", "number_triples": config.encoder.number_triples}
            if encoder is None
            else encoder.config()
        ),
        base={
            **model_identity(transformer),
            **({} if base_identity is None else {"identity": base_identity.to_json()}),
        },
        max_sequence_length=text_tokens,
    )


def frozen_encoder(
    config: TrainConfig, adapter: AdapterConfig, names: NameFeatures
) -> NativeGraphEncoder | CGIPEncoder | None:
    """The native encoder at its random initial weights, frozen, if the run asks for that."""
    if not config.encoder.freeze_graph_encoder:
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
    sizes: Sequence[Size] = (),
) -> RunPlan:
    """The numbers of the run; ``sizes`` are those of its pictures, with aspect buckets."""
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
        bucket_counts=tuple(Counter(sizes).values()),
    )


def guidance_of(config: TrainConfig, *, is_distilled: bool) -> float | None:
    """Guidance that the model is told; None for a model that is not guidance-distilled.

    Raises:
        SgfluxError: if a guidance is given that the model would not listen to.
    """
    if config.flow.guidance is not None and not is_distilled:
        raise SgfluxError(
            f"guidance ({config.flow.guidance}) has no effect: {config.model.name!r} is not "
            "guidance-distilled"
        )
    if not is_distilled:
        return None
    return 1.0 if config.flow.guidance is None else config.flow.guidance


def sigma_shift_of(config: TrainConfig, *, image_tokens: int) -> float:
    """How far the drawn noise levels are moved towards noise; 1: not at all.

    Raises:
        SgfluxError: if the model's scheduler cannot be loaded.
    """
    if config.flow.sigma_shift == "none" or config.flow.sigma_scheme == "schnell":
        return 1.0
    settings = load_scheduler(**config.model.for_scheduler).config
    if config.flow.sigma_shift == "auto" and not settings["use_dynamic_shifting"]:
        return 1.0
    return resolution_shift(
        image_tokens,
        base_tokens=settings["base_image_seq_len"],
        max_tokens=settings["max_image_seq_len"],
        base_shift=settings["base_shift"],
        max_shift=settings["max_shift"],
    )


def sampling_sigmas_of(config: TrainConfig, *, image_tokens: int) -> torch.Tensor:
    """The noise levels of the model's own four-step sampling, (4,) float32.

    Raises:
        SgfluxError: if the model's scheduler cannot be loaded.
    """
    scheduler = load_scheduler(**config.model.for_scheduler)
    _, timesteps = flux_schedule(
        scheduler, SCHNELL_STEPS, image_tokens=image_tokens, device=torch.device("cpu")
    )
    return timesteps / scheduler.config["num_train_timesteps"]
