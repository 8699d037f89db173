"""The adapter: LoRA in the chosen blocks, the conditioner and the graph encoder, as one thing.

A bundle is a folder:

    pytorch_lora_weights.safetensors   LoRA alone, in diffusers' layout: plain FluxPipeline loads it
    graph_conditioner.safetensors      ConditionedFlux' own weights
    graph_encoder.safetensors          the graph encoder's weights
    sgflux_adapter.json                what it is, on which base, and how good
    README.md                          the model card

All trained weights are float32, whatever the base is in.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import FluxTransformer2DModel
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import sgflux
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.backbone import model_identity, validate_block_range
from sgflux.models.conditioning import ConditionedFlux, GraphMode
from sgflux.models.graph_encoder import GraphEncoder, NameFeatures, NativeGraphEncoder

LoraTargets = Literal["all", "image"]

IMAGE_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
TEXT_PROJECTIONS = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")

LORA_FILE = "pytorch_lora_weights.safetensors"
CONDITIONER_FILE = "graph_conditioner.safetensors"
ENCODER_FILE = "graph_encoder.safetensors"
CONFIG_FILE = "sgflux_adapter.json"
CARD_FILE = "README.md"

_FORMAT = 1
_LORA_NAME = "sgflux"
_PARTS = ("lora", "conditioner", "encoder")
_NATIVE_DEFAULTS = {"hidden_dim": 256, "layers": 2}


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What an adapter is: enough to build it again, on the right base.

    Raises:
        SgfluxError: if a value is impossible.
    """

    graph_mode: GraphMode = "token"
    block_start: int
    block_end: int
    lora_rank: int = 16
    lora_alpha: float = 16.0
    lora_targets: LoraTargets = "all"
    encoder: Mapping[str, Any] = field(default_factory=lambda: {"kind": "native"})
    """The graph encoder's ``kind`` and sizes; those not given have their defaults filled in."""
    base: Mapping[str, Any]
    """See :func:`sgflux.models.backbone.model_identity`."""
    max_sequence_length: int
    """T5's tokens of a prompt, in training."""
    sgflux_version: str = sgflux.__version__

    def __post_init__(self) -> None:
        """Check the values against each other and the base."""
        if self.graph_mode not in ("token", "temb"):
            raise SgfluxError(f"graph_mode must be 'token' or 'temb', got {self.graph_mode!r}")
        if self.lora_targets not in ("all", "image"):
            raise SgfluxError(f"lora_targets must be 'all' or 'image', got {self.lora_targets!r}")
        if not isinstance(self.lora_rank, int) or self.lora_rank < 1:
            raise SgfluxError(f"lora_rank must be a whole number >= 1, got {self.lora_rank!r}")
        if not math.isfinite(self.lora_alpha) or self.lora_alpha <= 0:
            raise SgfluxError(f"lora_alpha must be > 0, got {self.lora_alpha!r}")
        if "num_layers" not in self.base or "joint_attention_dim" not in self.base:
            raise SgfluxError(f"base must be a model's identity, got {dict(self.base)!r}")
        validate_block_range(self.block_start, self.block_end, self.base["num_layers"])
        if self.encoder.get("kind") != "native":
            raise SgfluxError(f"the encoder's kind must be 'native', got {dict(self.encoder)!r}")
        defaults = {"text_dim": self.base["joint_attention_dim"], **_NATIVE_DEFAULTS}
        unknown = sorted(set(self.encoder) - {"kind", *defaults})
        if unknown:
            raise SgfluxError(f"the native graph encoder has no setting {', '.join(unknown)}")
        object.__setattr__(self, "encoder", {**defaults, **self.encoder})
        object.__setattr__(self, "base", dict(self.base))

    @property
    def lora_modules(self) -> tuple[str, ...]:
        """The transformer's layers that get a LoRA, by name."""
        parts = IMAGE_PROJECTIONS + (TEXT_PROJECTIONS if self.lora_targets == "all" else ())
        return tuple(
            f"transformer_blocks.{index}.attn.{part}"
            for index in range(self.block_start, self.block_end)
            for part in parts
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; :meth:`from_json` reads it back to an equal config."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> AdapterConfig:
        """Read :meth:`to_json`'s form.

        Raises:
            SgfluxError: on missing or unknown settings, or as the constructor.
        """
        known = {entry.name for entry in dataclasses.fields(cls)}
        if set(settings) != known:
            raise SgfluxError(
                f"an adapter's settings are {', '.join(sorted(known))}; missing "
                f"{sorted(known - set(settings))}, unknown {sorted(set(settings) - known)}"
            )
        return cls(**settings)


# --- the model ----------------------------------------------------------------------------------


class GraphLoraModel(nn.Module):
    """A frozen transformer with LoRA, conditioner and graph encoder: graphs in, velocity out.

    Attributes:
        flux: the conditioned transformer.
        encoder: the graph encoder.
        config: what they are.
    """

    def __init__(
        self, *, flux: ConditionedFlux, encoder: GraphEncoder, config: AdapterConfig
    ) -> None:
        """Keep the parts; :func:`build_model` makes them."""
        super().__init__()
        self.flux = flux
        self.encoder = encoder
        self.config = config

    def forward(
        self,
        graphs: Sequence[SceneGraph] | None,
        *,
        gradient_checkpointing: bool = False,
        **inputs: Any,
    ) -> Tensor:
        """The velocity (B, S, 64) under B graphs, or under none.

        Args:
            graphs: B graphs, the null graph among them or not; None: LoRA alone.
            gradient_checkpointing: see :meth:`ConditionedFlux.forward`.
            inputs: the other arguments of :meth:`ConditionedFlux.forward`.

        Raises:
            ValueError: if graphs are given to a model that is switched off.
        """
        if graphs is not None and self._is_disabled:
            raise ValueError("the adapter is switched off: the base takes no graph")
        features = None if graphs is None else self.encoder(graphs)
        return self.flux(graph=features, gradient_checkpointing=gradient_checkpointing, **inputs)

    @property
    def _is_disabled(self) -> bool:
        layer = self.flux.transformer.get_submodule(self.config.lora_modules[0])
        return bool(layer.disable_adapters)

    def lora_layers(self) -> dict[str, LoraLayer]:
        """The adapter's LoRA layers by their name in the transformer."""
        transformer = self.flux.transformer
        return {name: transformer.get_submodule(name) for name in self.config.lora_modules}

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """All trained weights by name: ``lora.…``, ``conditioner.…``, ``encoder.…``."""
        parameters: dict[str, nn.Parameter] = {}
        for name, layer in self.lora_layers().items():
            parameters[f"lora.{name}.lora_A.weight"] = layer.lora_A[_LORA_NAME].weight
            parameters[f"lora.{name}.lora_B.weight"] = layer.lora_B[_LORA_NAME].weight
        for name, parameter in self.flux.conditioner_parameters().items():
            parameters[f"conditioner.{name}"] = parameter
        if isinstance(self.encoder, nn.Module):
            for name, parameter in self.encoder.named_parameters():
                parameters[f"encoder.{name}"] = parameter
        return parameters

    def trainable_state(self) -> dict[str, Tensor]:
        """The trained weights, detached but not copied; names as in trainable_parameters."""
        return {name: value.detach() for name, value in self.trainable_parameters().items()}

    @torch.no_grad()
    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over the values of :meth:`trainable_state`.

        Raises:
            SgfluxError: if a name is missing or unknown, or a shape differs; nothing is changed.
        """
        parameters = self.trainable_parameters()
        missing = [name for name in parameters if name not in state]
        unknown = [name for name in state if name not in parameters]
        if missing or unknown:
            raise SgfluxError(
                "the weights are of another adapter: "
                f"missing {_some(missing)}, unknown {_some(unknown)}"
            )
        for name, parameter in parameters.items():
            if parameter.shape != state[name].shape:
                raise SgfluxError(
                    f"the weights are of another adapter: {name} is {tuple(state[name].shape)}, "
                    f"expected {tuple(parameter.shape)}"
                )
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


def build_model(
    *, transformer: FluxTransformer2DModel, config: AdapterConfig, name_features: NameFeatures
) -> GraphLoraModel:
    """Put an untrained adapter into a transformer, which is frozen.

    The first weights come from torch's global generator.

    Args:
        transformer: the base, changed in place: its chosen projections become LoRA layers.
        config: what to build.
        name_features: features of the graphs' words.

    Raises:
        SgfluxError: if the transformer is not the config's base, or has this adapter already.
    """
    check_base(config, transformer)
    if _LORA_NAME in getattr(transformer, "peft_config", {}):
        raise SgfluxError("the transformer has an sgflux adapter already; load it afresh")
    transformer.requires_grad_(False)
    transformer.add_adapter(
        LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            target_modules=list(config.lora_modules),
        ),
        adapter_name=_LORA_NAME,
    )
    encoder_settings = {name: value for name, value in config.encoder.items() if name != "kind"}
    encoder = NativeGraphEncoder(name_features=name_features, **encoder_settings)
    encoder.to(transformer.device)
    flux = ConditionedFlux(
        transformer=transformer,
        graph_local_dim=encoder.local_dim,
        graph_global_dim=encoder.global_dim,
        graph_mode=config.graph_mode,
        block_start=config.block_start,
        block_end=config.block_end,
    )
    model = GraphLoraModel(flux=flux, encoder=encoder, config=config)
    for layer in model.lora_layers().values():
        # peft makes them in the base's precision, in which small updates would be lost.
        layer.lora_A[_LORA_NAME].float()
        layer.lora_B[_LORA_NAME].float()
        layer.reset_lora_parameters(_LORA_NAME, init_lora_weights=True)
    return model


@contextmanager
def adapter_disabled(model: GraphLoraModel) -> Iterator[None]:
    """Within it the model is its base, without gradient: LoRA is off.

    There it takes no graph; ``model(None, …)`` and ``model.flux(…)`` are the plain transformer.
    """
    layers = list(model.lora_layers().values())
    trained = [weight for weight in model.trainable_parameters().values() if weight.requires_grad]
    frozen = [p for p in model.trainable_parameters().values() if not p.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        with torch.no_grad():
            yield
    finally:
        # peft's switch also decides what is trained; that is not this function's to change.
        for layer in layers:
            layer.enable_adapters(True)
        for weight in trained:
            weight.requires_grad_(True)
        for weight in frozen:
            weight.requires_grad_(False)


def check_base(config: AdapterConfig, transformer: FluxTransformer2DModel) -> None:
    """Check that an adapter belongs to a transformer.

    Raises:
        SgfluxError: naming what differs, on both sides.
    """
    here = model_identity(transformer)
    different = [
        f"{name} is {config.base.get(name)!r} for the adapter and {value!r} for this model"
        for name, value in here.items()
        if config.base.get(name) != value
    ]
    if different:
        raise SgfluxError("the adapter belongs to another base model: " + "; ".join(different))


# --- the bundle ---------------------------------------------------------------------------------


def save_bundle(
    directory: str | os.PathLike[str],
    *,
    config: AdapterConfig,
    state: Mapping[str, Tensor],
    card: str,
    metrics: Mapping[str, Any],
) -> None:
    """Write a bundle, all of it or nothing; an older one in its place is replaced.

    Args:
        directory: the bundle's folder.
        config: what the adapter is.
        state: :meth:`GraphLoraModel.trainable_state`'s form.
        card: the text of its README.md.
        metrics: what is known of it, plain JSON.

    Raises:
        SgfluxError: if there is something else in the folder, or a weight is not float32.
    """
    directory = Path(directory)
    is_free = not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))
    if not is_free and not (directory / CONFIG_FILE).is_file():
        raise SgfluxError(f"{directory} exists and is no adapter bundle; choose another folder")
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part not in parts or value.dtype != torch.float32:
            raise SgfluxError(f"{name} ({value.dtype}) is no trained float32 weight of an adapter")
        parts[part][rest] = value.detach().cpu().contiguous()
    # What diffusers needs beyond the weights; it names everything by the pipeline's component.
    lora_settings = {
        "transformer.r": config.lora_rank,
        "transformer.lora_alpha": config.lora_alpha,
        "transformer.target_modules": list(config.lora_modules),
    }
    lora = {f"transformer.{name}": value for name, value in parts["lora"].items()}
    lora_header = {"format": "pt", "lora_adapter_metadata": json.dumps(lora_settings)}
    description = {"format": _FORMAT, "adapter": config.to_json(), "metrics": dict(metrics)}
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        save_file(lora, temporary / LORA_FILE, metadata=lora_header)
        save_file(parts["conditioner"], temporary / CONDITIONER_FILE, metadata={"format": "pt"})
        save_file(parts["encoder"], temporary / ENCODER_FILE, metadata={"format": "pt"})
        (temporary / CARD_FILE).write_text(card, encoding="utf-8")
        (temporary / CONFIG_FILE).write_text(
            json.dumps(description, indent=2) + "\n", encoding="utf-8"
        )
        if directory.exists():
            outdated = temporary.with_suffix(".old")
            directory.rename(outdated)
            temporary.rename(directory)
            shutil.rmtree(outdated)
        else:
            temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_bundle(directory: str | os.PathLike[str]) -> tuple[AdapterConfig, dict[str, Tensor]]:
    """Read a bundle: what the adapter is, and its weights on the CPU.

    Raises:
        SgfluxError: if a file is missing or damaged; the message names it.
    """
    directory = Path(directory)
    path = directory / CONFIG_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SgfluxError(
            f"{directory} is no adapter bundle: {CONFIG_FILE}: {error.strerror or error}"
        ) from error
    except ValueError as error:
        raise SgfluxError(f"{path} is damaged: {error}") from error
    if not isinstance(description, dict) or description.get("format") != _FORMAT:
        raise SgfluxError(f"{path}: expected format {_FORMAT} of an adapter's description")
    try:
        config = AdapterConfig.from_json(description["adapter"])
    except (SgfluxError, KeyError, TypeError) as error:
        raise SgfluxError(f"{path}: {error}") from error
    state: dict[str, Tensor] = {}
    files = zip(_PARTS, (LORA_FILE, CONDITIONER_FILE, ENCODER_FILE), strict=True)
    for part, name in files:
        try:
            weights = load_file(directory / name)
        except (OSError, SafetensorError) as error:
            raise SgfluxError(f"{directory / name} cannot be read: {error}") from error
        for key, value in weights.items():
            inner = key.removeprefix("transformer.") if part == "lora" else key
            state[f"{part}.{inner}"] = value
    return config, state


def _some(names: Sequence[str]) -> str:
    """The first few names, for an error message."""
    if not names:
        return "nothing"
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
