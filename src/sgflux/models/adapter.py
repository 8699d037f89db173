"""The adapter: LoRA in the chosen blocks, the conditioner and the graph encoder, as one thing.

What it is, is an :class:`AdapterConfig`; on disk it is a bundle (:mod:`sgflux.models.bundle`). All
trained weights are float32, whatever the base is in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from sgflux.bases.families import described, expect_family, family_of_transformer
from sgflux.data.boxes import Layout
from sgflux.errors import SgfluxError
from sgflux.files.finite import check_finite
from sgflux.files.tensors import check_shapes, shapes_of
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter_config import AdapterConfig
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.conditioning import ConditionedFlux
from sgflux.models.encoders import make_encoder
from sgflux.models.graph_encoder import GraphFeatures, NativeGraphEncoder
from sgflux.models.layout import LayoutPredictor
from sgflux.models.lora_switch import switched_off
from sgflux.models.name_features import NameFeatures

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

LORA_NAME = "sgflux"
"""peft's name of the adapter."""


class GraphLoraModel(nn.Module):
    """A frozen transformer with LoRA, conditioner and graph encoder: graphs in, velocity out.

    On a GPU, a training step belongs inside
    :func:`~sgflux.bases.memory.attention_kernels.attention_kernel`, forward and backward pass both,
    since the gradients of cuDNN's bf16 attention may be NaN.
    :func:`sgflux.training.run.train.train` does so; code of your own that calls ``backward`` must
    do it as well.

    Attributes:
        flux: the conditioned transformer.
        encoder: the graph encoder.
        config: Description of the adapter.
    """

    def __init__(
        self,
        *,
        flux: ConditionedFlux,
        encoder: NativeGraphEncoder | CGIPEncoder,
        config: AdapterConfig,
    ) -> None:
        """Keep the parts; :func:`build_model` makes them."""
        super().__init__()
        self.flux = flux
        self.encoder = encoder
        self.config = config
        self._frozen = frozenset(
            name for name, weight in encoder.named_parameters() if not weight.requires_grad
        )

    def forward(
        self,
        graphs: Sequence[SceneGraph] | None,
        inputs: Any,
        *,
        gradient_checkpointing: bool | int = False,
    ) -> Tensor:
        """The velocity (B, S, c) under B graphs, or under none.

        Args:
            graphs: B graphs, the null graph among them or not; None: LoRA alone.
            inputs: Inputs of the network, as for :meth:`ConditionedFlux.forward`.
            gradient_checkpointing: Recomputation, as for :meth:`ConditionedFlux.forward`.

        Raises:
            ValueError: if graphs are given to a model that is switched off.
        """
        if graphs is not None and self._is_disabled:
            raise ValueError("the adapter is switched off: the base takes no graph")
        features = None if graphs is None else self.encoder(graphs)
        return self.flux(inputs, graph=features, gradient_checkpointing=gradient_checkpointing)

    def features(
        self, graphs: Sequence[SceneGraph], layouts: Sequence[Layout | None] | None = None
    ) -> GraphFeatures:
        """The encoder's features of B graphs.

        Args:
            graphs: B graphs.
            layouts: Boxes of the objects of each graph, as far as they are known; None: of none.

        Raises:
            SgfluxError: if a word cannot be read, or there are boxes that would have no effect.
        """
        if layouts is None or all(layout is None for layout in layouts):
            return self.encoder(graphs)
        if isinstance(self.encoder, CGIPEncoder):
            raise SgfluxError("the cgip graph encoder reads no boxes; leave them out")
        return self.encoder(graphs, layouts)

    @property
    def takes_layouts(self) -> bool:
        """Whether boxes have an effect."""
        return not isinstance(self.encoder, CGIPEncoder) and self.encoder.takes_layouts

    @property
    def layout(self) -> LayoutPredictor | None:
        """The predictor of boxes; None: the adapter has none."""
        return None if isinstance(self.encoder, CGIPEncoder) else self.encoder.layout

    def sample_layouts(self, graphs: Sequence[SceneGraph], seeds: Sequence[int]) -> list[Layout]:
        """A box for every object of B graphs, which follows from graph and seed.

        See :meth:`sgflux.models.layout.LayoutPredictor.sample`.

        Raises:
            SgfluxError: if the adapter has no predictor, or a word cannot be read.
        """
        if isinstance(self.encoder, CGIPEncoder) or self.encoder.layout is None:
            raise SgfluxError(
                "the adapter predicts no boxes; train one with --lambda-layout, or give boxes"
            )
        device = self.encoder.pool.weight.device
        return self.encoder.layout.sample(self.encoder.batch(graphs, device), seeds)

    def offload_blocks(self, device: torch.device | str, *, folder: Path | None = None) -> None:
        """See :meth:`ConditionedFlux.offload_blocks`; the encoder is moved as well."""
        self.flux.offload_blocks(device, folder=folder)
        self.encoder.to(device)

    def share_blocks(self, mesh: DeviceMesh, device: torch.device | str) -> None:
        """See :meth:`ConditionedFlux.share_blocks`; every process keeps the encoder whole."""
        self.flux.share_blocks(mesh, device)
        if isinstance(self.encoder, nn.Module):
            self.encoder.to(device)

    @property
    def _is_disabled(self) -> bool:
        layer: Any = self.flux.transformer.get_submodule(self.config.lora_modules[0])
        return bool(layer.disable_adapters) or LORA_NAME not in layer.active_adapters

    def lora_layers(self) -> dict[str, LoraLayer]:
        """The adapter's LoRA layers by their name in the transformer."""
        transformer = self.flux.transformer
        return {name: transformer.get_submodule(name) for name in self.config.lora_modules}

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """All trained weights by name: ``lora.…``, ``conditioner.…``, ``encoder.…``.

        A frozen encoder's are not among them.
        """
        frozen = self.frozen_parameters()
        return {n: value for n, value in self.adapter_parameters().items() if n not in frozen}

    def frozen_parameters(self) -> dict[str, nn.Parameter]:
        """Those weights of the encoder that came trained and stay as they are; names as above."""
        return {
            name: parameter
            for name, parameter in self.adapter_parameters().items()
            if name.startswith("encoder.") and name.partition(".")[2] in self._frozen
        }

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """All that is not the base's, trained or not."""
        parameters: dict[str, nn.Parameter] = {}
        for name, layer in self.lora_layers().items():
            parameters[f"lora.{name}.lora_A.weight"] = layer.lora_A[LORA_NAME].weight
            parameters[f"lora.{name}.lora_B.weight"] = layer.lora_B[LORA_NAME].weight
        for name, parameter in self.flux.conditioner.named_parameters():
            parameters[f"conditioner.{name}"] = parameter
        for name, parameter in self.encoder.named_parameters():
            parameters[f"encoder.{name}"] = parameter
        return parameters

    def trainable_state(self) -> dict[str, Tensor]:
        """The trained weights, detached but not copied; names as in trainable_parameters."""
        return {name: value.detach() for name, value in self.trainable_parameters().items()}

    def adapter_state(self) -> dict[str, Tensor]:
        """:meth:`trainable_state` and the frozen weights beside it: what a bundle holds."""
        return {name: value.detach() for name, value in self.adapter_parameters().items()}

    @torch.no_grad()
    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over the values of :meth:`trainable_state`, or of :meth:`adapter_state`.

        Raises:
            SgfluxError: if a name is missing or unknown, a shape differs, or a value is not
                finite; nothing is changed.
        """
        with_frozen = any(name in state for name in self.frozen_parameters())
        parameters = self.adapter_parameters() if with_frozen else self.trainable_parameters()
        where = "the weights are of another adapter"
        check_shapes(shapes_of(state), shapes_of(parameters), where=where, why="this one has")
        check_finite(state, where="the weights")
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


def build_model(
    *,
    transformer: Any,
    config: AdapterConfig,
    name_features: NameFeatures,
    encoder: NativeGraphEncoder | CGIPEncoder | None = None,
    allow_other_base: bool = False,
) -> GraphLoraModel:
    """Put an untrained adapter into a transformer, which is frozen.

    The first weights come from torch's global generator.

    Args:
        transformer: the base, changed in place: its chosen projections become LoRA layers.
        config: Description of the adapter to build.
        name_features: features of the graphs' words.
        encoder: one that is trained already; None: an untrained one of the config's settings.
        allow_other_base: take other weights than the config's base has, if the sizes fit.

    Raises:
        SgfluxError: if the transformer is not the config's base, or has this adapter already.
        ValueError: if the encoder given is not the config's.
    """
    check_base(config, transformer, allow_other=allow_other_base)
    if LORA_NAME in getattr(transformer, "peft_config", {}):
        raise SgfluxError("the transformer has an sgflux adapter already; load it afresh")
    transformer.requires_grad_(False)
    transformer.add_adapter(
        LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            target_modules=list(config.lora_modules),
        ),
        adapter_name=LORA_NAME,
    )
    if encoder is None:
        encoder = make_encoder(config.encoder, name_features=name_features)
    elif encoder.config() != config.encoder:
        raise ValueError("the graph encoder is not the one that the config describes")
    encoder.to(transformer.device)
    flux = ConditionedFlux(
        transformer=transformer,
        conditioner=config.conditioner(encoder, device=transformer.device),
        block_start=config.block_start,
    )
    model = GraphLoraModel(flux=flux, encoder=encoder, config=config)
    for layer in model.lora_layers().values():
        # peft makes them in the base's precision, in which small updates would be lost.
        layer.lora_A[LORA_NAME].float()
        layer.lora_B[LORA_NAME].float()
        layer.reset_lora_parameters(LORA_NAME, init_lora_weights=True)
    return model


@contextmanager
def adapter_disabled(model: GraphLoraModel) -> Iterator[None]:
    """Within it the model is its base, without gradient: its own LoRA is off.

    There it takes no graph; ``model(None, …)`` and ``model.flux(…)`` are the plain transformer. A
    training adapter in the base stays as it is, on or off.
    """
    with switched_off(model.lora_layers().values(), LORA_NAME), torch.no_grad():
        yield


def check_base(config: AdapterConfig, transformer: Any, *, allow_other: bool = False) -> None:
    """Check that an adapter fits a transformer, and that its outermost layers are the adapter's.

    All weights of all parts are compared by :func:`sgflux.bases.identity.check_identity`,
    which needs the files; this needs the transformer alone.

    Args:
        config: Settings of the adapter.
        transformer: the base at hand.
        allow_other: let weights differ, but not sizes.

    Raises:
        SgfluxError: naming what differs, on both sides.
    """
    expect_family(config.base, family_of_transformer(transformer))
    here = described(transformer)
    different = {
        name: f"{name} is {config.base.get(name)!r} for the adapter and {value!r} for this model"
        for name, value in here.items()
        if config.base.get(name) != value and not (allow_other and name == "fingerprint")
    }
    if different:
        raise SgfluxError(
            "the adapter belongs to another base model: "
            + "; ".join(different.values())
            + (
                ". If other weights are intended (a merge or a fine-tune), add --allow-other-base"
                if list(different) == ["fingerprint"]
                else ""
            )
        )
