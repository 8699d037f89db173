"""Pictures from scene graphs: the base's own sampling, with the adapter in it.

Without an adapter, or with it switched off, the pictures are those of the base's diffusers pipeline
for the same noise.

Shapes: B pictures, latents (B, c, h, w); L text tokens.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sgflux.bases.base import Network, Text
from sgflux.bases.devices import resolve_device, resolve_dtype
from sgflux.bases.families import network_of
from sgflux.bases.family import Autoencoder, Scheduler, TextEncoders
from sgflux.bases.guidance import guidance_told
from sgflux.bases.identity import BaseCheck, BaseIdentity
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import GraphLoraModel
from sgflux.sampling.boxes import BoxesInput, boxes_record, layouts_for
from sgflux.sampling.callbacks import StepCallback, after_step
from sgflux.sampling.inputs import (
    GraphInput,
    check_settings,
    paired_inputs,
    randomness_of,
    standard_noise,
)
from sgflux.sampling.integration import integrate, mixed_precision
from sgflux.sampling.loading import load_parts
from sgflux.sampling.output import PipelineOutput, decoded, to_pil, to_uint8
from sgflux.settings.compute import SamplingCompute
from sgflux.settings.drawing import NOTHING_RECOMMENDED, RecommendedDrawing
from sgflux.settings.memory import MemorySettings, Quantization
from sgflux.settings.model_source import ModelSource
from sgflux.settings.trained_adapter import TrainedAdapter

DEFAULT_GUIDANCE = 3.5  # FluxPipeline's, for a guidance-distilled model such as FLUX.1-dev


@dataclass(kw_only=True, eq=False)
class SceneGraphFluxPipeline:
    """A base model with an adapter or without; a call does not change it.

    Attributes:
        text_encoders, autoencoder, transformer: Parts of the base.
        scheduler: Noise levels of the base.
        model: Transformer of the base with the adapter on it; None: no adapter.
        model_id: Name of the base, for the record.
        adapter_fingerprint: Digest of the adapter, for the record.
        base_identity: Identity of the base; None: unknown, as for parts made by hand.
        base_check: Comparison of the base with the one that the adapter was trained on; None: there
            is no adapter, or nothing was compared.
        quantize: Rounding of the base's matrices, for the record.
        not_quantized: Digest of the names of the layers that the rounding leaves out since an
            adapter changes them, for the record; None: it leaves out none.
        source: Place that the base was loaded from; None: its parts are from somewhere else.
        drawing: Recommendation of the adapter, for callers that give nothing else.
        files: Object that must live as long as the pipeline, such as offloaded weights.
    """

    text_encoders: TextEncoders
    autoencoder: Autoencoder
    scheduler: Scheduler
    transformer: Any
    model: GraphLoraModel | None = None
    model_id: str = ""
    adapter_fingerprint: str | None = None
    base_identity: BaseIdentity | None = None
    base_check: BaseCheck | None = None
    quantize: str = "none"
    not_quantized: str | None = None
    source: ModelSource | None = None
    drawing: RecommendedDrawing = NOTHING_RECOMMENDED
    files: Any = None

    @classmethod
    def from_pretrained(
        cls,
        model_id: str | os.PathLike[str] | None = None,
        *,
        adapter: str | os.PathLike[str] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        allow_download: bool = False,
        max_sequence_length: int | None = None,
        components: str | None = None,
        autoencoder: Path | None = None,
        text_encoder: Path | None = None,
        text_encoder_2: Path | None = None,
        revision: str | None = None,
        encoder_device: torch.device | str | None = None,
        quantize: Quantization = "none",
        offload_blocks: bool = False,
        offload_folder: Path | None = None,
        allow_other_base: bool = False,
    ) -> SceneGraphFluxPipeline:
        """Load a base, and an adapter bundle onto it.

        Args:
            model_id: ``tiny``, a diffusers FluxPipeline folder, an id on the hub, or a single
                original-layout ``.safetensors`` with the transformer; None: the base that the
                adapter's bundle names, or FLUX.1-schnell without an adapter.
            adapter: Folder of a bundle (``final/`` of a run), ``user/name[@revision]`` of one on
                the hub, or ``tiny``, which comes with the package; None for the base alone.
            dtype: Precision of the frozen weights and the arithmetic; the adapter's weights are
                float32.
            device: Device of all parts.
            allow_download: Fetch from the hub what is not on this machine.
            max_sequence_length: Text tokens of a prompt; None: as many as the adapter was trained
                with, or without an adapter what the tokenizer allows, at most 256.
            components: Folder or hub id with the other parts, if ``model_id`` is a single file.
            autoencoder, text_encoder, text_encoder_2: Parts that are files of their own.
            revision: Branch, tag or commit of the hub's repository.
            encoder_device: Device of the text encoders and the autoencoder; None: ``device``.
            quantize: Rounding of the base's frozen matrices, as in training.
            offload_blocks: Keep the weights of all but the adapted blocks off the device.
            offload_folder: Folder with the offloaded weights; None: the CPU's memory.
            allow_other_base: Take an adapter of another base (a merge or a fine-tune) whose sizes
                fit; :attr:`base_check` and every picture's record say so.

        Raises:
            SgfluxError: if a part cannot be loaded, the adapter was trained on another base, or
                settings do not go together.
        """
        source = ModelSource(
            model_id=None if model_id is None else os.fspath(model_id),
            components=components,
            autoencoder=autoencoder,
            text_encoder=text_encoder,
            text_encoder_2=text_encoder_2,
            revision=revision,
            allow_download=allow_download,
        )
        memory = MemorySettings(
            encoder_device=None if encoder_device is None else str(encoder_device),
            quantize=quantize,
            offload_blocks=offload_blocks,
            offload_folder=offload_folder,
        )
        parts = load_parts(
            source,
            memory,
            adapter=adapter,
            dtype=dtype,
            device=torch.device(device),
            max_sequence_length=max_sequence_length,
            allow_other_base=allow_other_base,
        )
        return cls(**parts)

    @classmethod
    def from_settings(
        cls,
        model: ModelSource,
        trained: TrainedAdapter,
        compute: SamplingCompute,
        memory: MemorySettings | None = None,
        *,
        max_sequence_length: int | None = None,
    ) -> SceneGraphFluxPipeline:
        """The pipeline of a command's settings, see :meth:`from_pretrained`.

        Raises:
            SgfluxError: as :meth:`from_pretrained`, or if this machine has no such device.
        """
        device = resolve_device(compute.device)
        parts = load_parts(
            model,
            memory or MemorySettings(),
            adapter=trained.adapter,
            dtype=resolve_dtype(compute.dtype, device),
            device=device,
            allow_other_base=trained.allow_other_base,
            max_sequence_length=max_sequence_length,
        )
        return cls(**parts)

    @property
    def model_fingerprint(self) -> str | None:
        """One digest of all parts of the base, see :class:`BaseIdentity`; None if it is unknown."""
        return None if self.base_identity is None else self.base_identity.fingerprint

    @cached_property
    def network(self) -> Network:
        """Network of the base, with the adapter's LoRA in it or without."""
        return network_of(self.transformer) if self.model is None else self.model.flux.network

    @property
    def device(self) -> torch.device:
        """Device of the transformer."""
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the frozen weights and of the latents between two steps."""
        return self.network.dtype

    @property
    def default_size(self) -> int:
        """Side of a picture, in pixels, where the caller names none: the autoencoder's own."""
        return self.autoencoder.size

    def __call__(
        self,
        graph: GraphInput | Sequence[GraphInput] = None,
        prompt: str | Sequence[str] | None = None,
        *,
        num_inference_steps: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        seed: int | Sequence[int] | None = None,
        graph_scale: float | None = None,
        stochastic_sampling: bool | None = None,
        guidance: float | None = None,
        height: int | None = None,
        width: int | None = None,
        use_adapter: bool | None = None,
        open_vocabulary: bool = False,
        vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
        boxes: BoxesInput = None,
        output_type: Literal["pil", "np", "latent"] = "pil",
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> PipelineOutput:
        """Draw pictures.

        Args:
            graph: Graph, its text form, its JSON (see :mod:`sgflux.graphs.reading`), None for no
                graph, or several of these.
            prompt: One text or several; None: the neutral text of each graph ("a photo of man and
                horse"). One graph or one prompt goes with several of the other.
            num_inference_steps: Number of steps; None: as many as the adapter recommends, else 4.
            generator: Generator of the noise as in diffusers, one for all pictures or one for each.
            seed: Seed of the noise, in place of a generator: a sequence has one for each picture, a
                single seed is the first of consecutive ones. Without both, seeds are random, and
                the output names them.
            graph_scale: Extrapolation from the velocity without a graph towards the one with it:
                v_null + graph_scale * (v_graph - v_null); other values than 1 cost more time. With
                None it is what the adapter recommends, else 1.
            stochastic_sampling: Whether each step draws new noise, from the same generator or seed,
                in place of an Euler step. With None it is what the adapter recommends, else False.
            guidance: Guidance scale, for a guidance-distilled model only; None: 3.5.
            height: Height in pixels; None: the autoencoder's own size.
            width: Width in pixels; None: the autoencoder's own size.
            use_adapter: False: the base alone; None: the adapter if there is one.
            open_vocabulary: Accept predicates that ``vocabulary`` does not know; else a misspelt
                one is an error that names the nearest known ones.
            vocabulary: Known predicates.
            boxes: Boxes of the objects: 'predicted', 'none', (left, top, width, height) in shares
                of the picture's sides by the names of objects, or one layout for each picture.
                None: predicted if the adapter has a predictor, else none.
            output_type: ``pil``, ``np`` or ``latent``.
            callback_on_step_end: Function that is called after each step, as diffusers calls it:
                with the pipeline, the number of the step from 0, its timestep (1000 sigma) and a
                dictionary of the tensors that ``callback_on_step_end_tensor_inputs`` names. It
                returns a dictionary, whose ``latents`` take the place of the step's; an error that
                it raises ends the drawing.
            callback_on_step_end_tensor_inputs: Names of the tensors in the dictionary: ``latents``
                after the step and ``denoised``, the picture that the step foresees. Both are packed
                as those of ``output_type="latent"``, and :meth:`decode` makes pictures of them.

        Raises:
            SgfluxError: on a graph that cannot be read or has an unknown predicate, numbers that do
                not go together, or a setting that has no effect.
        """
        graphs, prompts = paired_inputs(
            graph, prompt, vocabulary=vocabulary, open_vocabulary=open_vocabulary
        )
        random = randomness_of(generator, seed, len(prompts))
        use_adapter = self.model is not None if use_adapter is None else use_adapter
        has_graph = any(one is not None and not one.is_null for one in graphs)
        steps, graph_scale, is_stochastic = self.drawing.chosen(
            num_inference_steps, graph_scale, stochastic_sampling, has_graph=has_graph
        )
        height, width = self.picture_size(height, width)
        factor = self.autoencoder.downsample
        shape = (len(prompts), self.network.channels, height // factor, width // factor)
        new_noise = partial(standard_noise, shape, random.generator, self.device)
        noise = new_noise().to(self.dtype)
        layouts = layouts_for(self.model if use_adapter else None, graphs, random.of_boxes, boxes)
        call = after_step(
            self, self.network, callback_on_step_end, callback_on_step_end_tensor_inputs
        )
        check_settings(
            has_adapter=self.model is not None,
            has_graph=has_graph,
            steps=steps,
            graph_scale=graph_scale,
            use_adapter=use_adapter,
        )
        latents = integrate(
            noise,
            network=self.network,
            model=self.model,
            use_adapter=use_adapter,
            text=self.encode_text(prompts),
            guidance=self.guidance_scale(guidance),
            schedule=self.scheduler.schedule(
                steps, image_tokens=math.prod(self.network.grid(noise)), device=self.device
            ),
            graphs=graphs,
            layouts=layouts,
            graph_scale=graph_scale,
            new_noise=new_noise if is_stochastic else None,
            after_step=call,
        )
        if output_type == "latent":
            return PipelineOutput(self.network.pack(latents), prompts, random.seeds)
        images: Any = decoded(self.autoencoder, latents)
        if output_type == "pil":
            images = to_pil(images)
        elif output_type != "np":
            raise SgfluxError(f"output_type must be 'pil', 'np' or 'latent', got {output_type!r}")
        return PipelineOutput(images, prompts, random.seeds)

    def sample_batch(
        self,
        graphs: Sequence[SceneGraph | None] | None,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        steps: int | None = None,
        graph_scale: float | None = None,
        stochastic_sampling: bool | None = None,
        guidance: float | None = None,
        height: int | None = None,
        width: int | None = None,
        use_adapter: bool | None = None,
        boxes: BoxesInput = None,
    ) -> np.ndarray:
        """One picture for each prompt and seed: (B, H, W, 3) uint8.

        Args:
            graphs: B graphs, where None is no graph; None for no graph at all. Their predicates are
                not checked again.
            prompts: B texts.
            seeds: B seeds of the noise.
            steps: Number of steps; None: as many as the adapter recommends, else 4.
            graph_scale, stochastic_sampling, guidance, height, width, use_adapter, boxes: Settings
                of :meth:`__call__`.

        Raises:
            SgfluxError: if the lengths differ; as :meth:`__call__`.
        """
        graphs = [None] * len(prompts) if graphs is None else graphs
        if not len(graphs) == len(prompts) == len(seeds):
            raise SgfluxError(
                f"{len(graphs)} graphs, {len(prompts)} prompts and {len(seeds)} seeds: "
                "expected one of each for every picture"
            )
        output = self(
            list(graphs),
            list(prompts),
            num_inference_steps=steps,
            seed=list(seeds),
            graph_scale=graph_scale,
            stochastic_sampling=stochastic_sampling,
            guidance=guidance,
            height=height,
            width=width,
            use_adapter=use_adapter,
            open_vocabulary=True,
            boxes=boxes,
            output_type="np",
        )
        return to_uint8(output.images)

    def decode(
        self, latents: Tensor, *, height: int | None = None, width: int | None = None
    ) -> list[Image.Image]:
        """Return the pictures of latents, such as a callback is given.

        Args:
            latents: Packed latents (B, S, c), as ``output_type="latent"`` returns them.
            height, width: Size of the pictures in pixels; None: :attr:`default_size`.

        Raises:
            SgfluxError: if the latents are not those of such a picture.
        """
        height, width = self.picture_size(height, width)
        factor = self.autoencoder.downsample
        grid = height // factor, width // factor
        tokens = math.prod(grid) // self.network.patch**2
        if latents.ndim != 3 or latents.shape[1] != tokens:
            raise SgfluxError(
                f"latents of {height} x {width} pixels must be packed as (B, {tokens}, c), "
                f"got {tuple(latents.shape)}"
            )
        return to_pil(decoded(self.autoencoder, self.network.unpack(latents, *grid)))

    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Features of the prompts, each different one encoded once, in the model's precision."""
        unique = list(dict.fromkeys(prompts))
        features = self.text_encoders.encode(unique)
        rows = torch.tensor([unique.index(prompt) for prompt in prompts])
        return {
            name: part[rows.to(part.device)].to(self.device, self.dtype)
            for name, part in features.items()
        }

    def guidance_scale(self, guidance: float | None) -> float | None:
        """Return the guidance scale that a guidance-distilled model is given; else None.

        Raises:
            SgfluxError: if ``guidance`` is given and has no effect.
        """
        return guidance_told(
            guidance, network=self.network, default=DEFAULT_GUIDANCE, model=self.model_id
        )

    def mixed_precision(self) -> AbstractContextManager[None]:
        """Autocast to the base's precision if an adapter in float32 acts on it, as in training."""
        return mixed_precision(self.network, self.model)

    def record(
        self,
        *,
        graph: SceneGraph | None,
        prompt: str,
        seed: int,
        steps: int | None,
        graph_scale: float | None = None,
        stochastic_sampling: bool | None = None,
        guidance: float | None = None,
        height: int | None = None,
        width: int | None = None,
        use_adapter: bool = True,
        boxes: BoxesInput = None,
    ) -> dict[str, Any]:
        """Describe how a picture is made, as plain JSON; equal records give equal pictures."""
        height, width = self.picture_size(height, width)
        has_graph = graph is not None and not graph.is_null
        steps, graph_scale, is_stochastic = self.drawing.chosen(
            steps, graph_scale, stochastic_sampling, has_graph=has_graph
        )
        return {
            "graph": None if graph is None else graph.to_json(),
            "prompt": prompt,
            "seed": seed,
            "steps": steps,
            "graph_scale": graph_scale,
            **({"stochastic_sampling": True} if is_stochastic else {}),
            "guidance": guidance,
            "height": height,
            "width": width,
            "dtype": str(self.dtype).removeprefix("torch."),
            "text_tokens": self.text_encoders.max_sequence_length,
            "quantize": self.quantize,
            **({} if self.quantize == "none" else {"not_quantized": self.not_quantized}),
            "model": self.model_id,
            **self.base_record(use_adapter=use_adapter),
            "adapter": self.adapter_fingerprint if use_adapter else None,
            "use_adapter": use_adapter,
            **boxes_record(self.model if use_adapter else None, graph, boxes),
        }

    def base_record(self, *, use_adapter: bool = True) -> dict[str, Any]:
        """Describe the base and its comparison with the adapter's base, as plain JSON.

        ``base``: digest of every part, or None; ``base_check``: see :class:`BaseCheck`, or None
        without the adapter.
        """
        check = self.base_check if use_adapter else None
        return {
            "base": None if self.base_identity is None else self.base_identity.to_json(),
            "base_check": None if check is None else check.to_json(),
        }

    def picture_size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Height and width in pixels, where None is :attr:`default_size`.

        Raises:
            SgfluxError: if the model takes no such picture.
        """
        patch = self.network.patch * self.autoencoder.downsample
        height = self.default_size if height is None else height
        width = self.default_size if width is None else width
        if height < patch or width < patch or height % patch or width % patch:
            raise SgfluxError(
                f"height and width must be multiples of {patch} for {self.model_id!r}, "
                f"got {height} and {width}"
            )
        return height, width
