"""e(g): the flow-matching error of one batch under one or several alternative lists of graphs.

Shapes: B examples, K negatives of each, C concepts, S image tokens, L text tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgflux.bases.base import Network, Text
from sgflux.data.boxes import Layout
from sgflux.flow_matching import noise_latents, velocity_target
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import GraphLoraModel, adapter_disabled
from sgflux.models.errors import flow_matching_loss, graph_errors
from sgflux.models.graph_encoder import GraphFeatures, NativeGraphEncoder, box_tensors
from sgflux.models.prefix_state import PrefixState
from sgflux.models.saliency import concept_probabilities, softened
from sgflux.models.training_adapter import TrainingAdapter
from sgflux.training.batches.batch import Batch


@dataclass(frozen=True, eq=False)
class Concepts:
    """Words that look on while the model predicts a batch.

    Attributes:
        states: Text features of the words, (B, C, D_text).
        text: Features of the texts that modulate them.
        blocks: Blocks whose maps are averaged.
    """

    states: Tensor
    text: Text
    blocks: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Branches:
    """The model's answers for one batch under its true graphs and under negatives.

    Branch 0 is the true graph; branch k is negative k - 1. There is branch 0 alone where the
    negatives did not go through the network.

    Attributes:
        network: Network that answered, for the shapes of its tokens.
        noisy: Latents at sigma, (B, c, h, w).
        sigma: Noise levels, (B,).
        errors: e(g), (branches, B) float32.
        velocity: Predicted velocity, packed, (branches, B, S, c').
        maps: Concept probabilities, (branches, B, C, S); None without concepts.
    """

    network: Network
    noisy: Tensor
    sigma: Tensor
    errors: Tensor
    velocity: Tensor
    maps: Tensor | None


class FlowMatchingObjective:
    """The model, and the inputs that are the same for every batch."""

    def __init__(
        self,
        model: GraphLoraModel,
        *,
        dtype: torch.dtype,
        guidance: float | None,
        gradient_checkpointing: bool | int,
        training_adapter: TrainingAdapter | None = None,
    ) -> None:
        """Keep the parts.

        Args:
            model: Model to be trained.
            dtype: Precision of the arithmetic; float32, or bfloat16 through autocast.
            guidance: Guidance that a guidance-distilled model is told; None for any other model.
            gradient_checkpointing: Whether activations are recomputed in the backward pass; a
                number n: those of every n-th block.
            training_adapter: Frozen LoRA that is in the base while it is trained; None without.
        """
        self._model = model
        self._dtype = dtype
        self._guidance = guidance
        self._gradient_checkpointing = gradient_checkpointing
        self._training_adapter = training_adapter

    def __call__(self, batch: Batch, alternatives: Sequence[Sequence[SceneGraph]]) -> list[Tensor]:
        """e(g) for each list of B graphs, on the same latents, noise and sigma: (B,) float32 each.

        The blocks before the first adapted one do not see the graph and run once.
        """
        target = self.target(batch)
        prefix = self._prefix(batch, batch.sigma)
        with self._precision(batch):
            return graph_errors(
                self._model,
                prefix,
                target,
                alternatives,
                gradient_checkpointing=self._gradient_checkpointing,
            )

    def target(self, batch: Batch) -> Tensor:
        """The velocity that every branch should have, packed, (B, S, c')."""
        return self._model.flux.network.pack(velocity_target(batch.latents, batch.noise))

    def branches(
        self,
        batch: Batch,
        negatives: Sequence[Sequence[SceneGraph]],
        *,
        concepts: Concepts | None = None,
    ) -> Branches:
        """The true graphs and K negatives of each as one batch behind one prefix.

        Args:
            batch: B examples; its graphs are branch 0.
            negatives: K lists of B negatives.
            concepts: Words that look on; None without any.
        """
        count, number = len(batch.graphs), 1 + len(negatives)
        graphs = [*batch.graphs, *(graph for graphs in negatives for graph in graphs)]
        prefix = self._prefix(batch, batch.sigma, concepts)
        if number > 1:
            prefix = prefix.repeat(number)
        maps = None
        with self._precision(batch):
            features = self._features(graphs, batch)
            if concepts is None:
                velocity = self._model.flux.suffix(
                    prefix, features, gradient_checkpointing=self._gradient_checkpointing
                )
            else:
                velocity, scores = self._model.flux.suffix_with_concepts(
                    prefix,
                    features,
                    blocks=concepts.blocks,
                    gradient_checkpointing=self._gradient_checkpointing,
                )
                maps = concept_probabilities(softened(scores)).unflatten(0, (number, count))
        target = self.target(batch)
        return Branches(
            network=self._model.flux.network,
            noisy=noise_latents(batch.latents, batch.noise, batch.sigma),
            sigma=batch.sigma,
            errors=flow_matching_loss(velocity, target.repeat(number, 1, 1)).view(number, count),
            velocity=velocity.unflatten(0, (number, count)),
            maps=maps,
        )

    def anchor_errors(self, batch: Batch, sigma: Tensor) -> Tensor:
        """How far the adapter moves the velocity away from the base's, (B,) float32.

            e = mean[ (velocity under the batch's graphs - velocity without adapter)^2 ]

        Both see the same text, latents and noise. The base's few-step velocity is a distilled one
        (Sauer et al. 2024, arXiv:2403.12015), which plain flow matching would wear down. The anchor
        protects sampling, which has no training adapter, so a training adapter is off here.

        Args:
            batch: B examples; their own sigma is not used.
            sigma: Noise levels of the base's sampling, (B,).
        """
        within = None if self._training_adapter is None else self._training_adapter.switched_off
        with contextlib.nullcontext() if within is None else within():
            prefix = self._prefix(batch, sigma)
            with self._precision(batch):
                with adapter_disabled(self._model):
                    base = self._model.flux.suffix(prefix)
                velocity = self._model.flux.suffix(
                    prefix,
                    self._features(batch.graphs, batch),
                    gradient_checkpointing=self._gradient_checkpointing,
                    # The backward pass comes when the training adapter is on again.
                    recompute_within=within,
                )
        return flow_matching_loss(velocity, base)

    @property
    def asked_at_least(self) -> list[int]:
        """Places of the examples for which a term must run the base, even if it needs none.

        Processes that share the base's weights must call it equally often, or the run fails: there
        it is the first example, and none elsewhere.
        """
        return [0] if self._model.flux.is_shared else []

    @torch.no_grad()
    def base_velocity(self, batch: Batch) -> Tensor:
        """The velocity of the base without the adapter, packed, (B, S, c'), without gradient.

        A training adapter stays on: it is on for the velocity that is compared with this one.

        Args:
            batch: B examples, whose graphs are not used.
        """
        prefix = self._prefix(batch, batch.sigma)
        with self._precision(batch), adapter_disabled(self._model):
            return self._model.flux.suffix(prefix)

    def layout_errors(
        self,
        graphs: Sequence[SceneGraph],
        layouts: Sequence[Layout],
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`sgflux.models.layout.LayoutPredictor.errors`.

        Args:
            graphs: B graphs.
            layouts: True boxes of their objects.
            generator: Source of noise and sigma, on the CPU.
        """
        encoder, predictor = self._model.encoder, self._model.layout
        assert isinstance(encoder, NativeGraphEncoder), "only it has a predictor"
        assert predictor is not None, "the run's settings ask for one"
        graph = encoder.batch(graphs, encoder.pool.weight.device)
        boxes, known = box_tensors(layouts, graph.node_mask.shape[1])
        device = graph.nodes.device
        return predictor.errors(graph, boxes.to(device), known.to(device), generator)

    def _features(self, graphs: Sequence[SceneGraph], batch: Batch) -> GraphFeatures:
        """Features of a batch's graphs, or of alternatives to them, with the boxes that it reads.

        An alternative has its objects in the same places, and perhaps one more at the end, whose
        box is unknown.
        """
        if batch.layouts is None:
            return self._model.features(graphs)
        layouts: list[Layout | None] = []
        for place, graph in enumerate(graphs):
            layout = batch.layouts[place % len(batch.layouts)]
            if layout is not None:
                layout += (None,) * (len(graph.objects) - len(layout))
            layouts.append(layout)
        return self._model.features(graphs, layouts)

    def _prefix(self, batch: Batch, sigma: Tensor, concepts: Concepts | None = None) -> PrefixState:
        """The blocks that all graphs and the base share, at these noise levels."""
        noisy = noise_latents(batch.latents, batch.noise, sigma)
        network = self._model.flux.network
        return self._model.flux.prefix(
            network.inputs(noisy, batch.text, sigma, guidance=self._guidance),
            concepts=None if concepts is None else concepts.states,
            concept_text=None if concepts is None else concepts.text,
        )

    def _precision(self, batch: Batch) -> torch.autocast:
        """The arithmetic behind the prefix: only there are float32 weights among the base's."""
        return torch.autocast(
            batch.latents.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32
        )
