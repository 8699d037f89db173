"""Three nodes: load an adapter, encode a graph, put both into a FLUX model."""

from __future__ import annotations

import hashlib
import logging
from typing import Any, ClassVar

import torch

from .encoding import Adapter, EncodedGraph, encode_graph, load_adapter, state_of
from .graph_blocks import GraphHooks

_LOGGER = logging.getLogger(__name__)
_CATEGORY = "sgflux"


class LoadAdapter:
    """Load an sgflux adapter: the folder of a run's ``final/``, or its id on the hub."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("SGFLUX_ADAPTER",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """The node's inputs."""
        return {
            "required": {
                "adapter": ("STRING", {"default": "", "placeholder": "folder, or user/name"}),
                "allow_download": ("BOOLEAN", {"default": False}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, adapter: str, allow_download: bool) -> str:  # noqa: ARG003, N802
        """A value that changes when the adapter was trained or exported again."""
        return state_of(adapter)

    def load(self, adapter: str, allow_download: bool) -> tuple[Adapter]:
        """Read the bundle."""
        return (load_adapter(adapter, allow_download=allow_download),)


class EncodeGraph:
    """Encode a scene graph through the T5 that also reads the prompt."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("SGFLUX_GRAPH",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """The node's inputs."""
        return {
            "required": {
                "adapter": ("SGFLUX_ADAPTER",),
                "clip": ("CLIP",),
                "graph": ("STRING", {"default": "man, riding, horse", "multiline": True}),
                "open_vocabulary": ("BOOLEAN", {"default": False}),
            },
            # Workflows of before do not have these.
            "optional": {
                "boxes": ("STRING", {"default": "predicted"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1}),
            },
        }

    def encode(
        self,
        adapter: Adapter,
        clip: Any,
        graph: str,
        open_vocabulary: bool,
        boxes: str = "predicted",
        seed: int = 0,
    ) -> tuple[EncodedGraph]:
        """Encode it."""
        text = "; ".join(line.strip() for line in graph.splitlines() if line.strip())
        features = encode_graph(
            adapter,
            clip,
            text,
            open_vocabulary=open_vocabulary,
            boxes=boxes.strip(),
            seed=seed,
        )
        return (features,)


class ApplyGraph:
    """Put the adapter's LoRA and a graph into a FLUX model."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "apply"

    _STRENGTH: ClassVar[dict[str, float]] = {
        "default": 1.0,
        "min": 0.0,
        "max": 4.0,
        "step": 0.05,
    }

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """The node's inputs."""
        return {
            "required": {
                "model": ("MODEL",),
                "adapter": ("SGFLUX_ADAPTER",),
                "graph": ("SGFLUX_GRAPH",),
                "lora_strength": ("FLOAT", dict(cls._STRENGTH)),
                "graph_strength": ("FLOAT", dict(cls._STRENGTH)),
            }
        }

    def apply(
        self,
        model: Any,
        adapter: Adapter,
        graph: EncodedGraph,
        lora_strength: float,
        graph_strength: float,
    ) -> tuple[Any]:
        """A copy of the model with both in it.

        Raises:
            ValueError: if the model is another base than the adapter's, the graph is encoded by
                another adapter, or a chosen block is taken.
        """
        import comfy.sd  # ComfyUI's own; there is none outside of it

        flux = model.model.diffusion_model
        check_model(flux, adapter)
        if graph.adapter != adapter.digest:
            raise ValueError(
                "the graph is encoded by another adapter, or by an earlier state of this one: wire "
                "one 'Load scene-graph adapter' into both nodes"
            )
        hooks = GraphHooks(flux, adapter.part, graph.features, strength=graph_strength).hooks()
        lora = dict(adapter.lora)
        patched, _ = comfy.sd.load_lora_for_models(model, None, lora, lora_strength, 0)
        taken = patched.model_options["transformer_options"].get("patches_replace", {})
        for index, hook in hooks.items():
            if ("double_block", index) in taken.get("dit", {}):
                raise ValueError(
                    f"another node already takes the place of double block {index}; the graph "
                    "needs it: apply only one of them"
                )
            patched.set_model_patch_replace(hook, "dit", "double_block", index)
        return (patched,)


def check_model(flux: Any, adapter: Adapter) -> None:
    """Check that a model is the adapter's base: its sizes, and the layers that identify it.

    Raises:
        ValueError: naming what differs.
    """
    base = adapter.config.base
    found = {
        "num_layers": len(getattr(flux, "double_blocks", ())),
        "num_single_layers": len(getattr(flux, "single_blocks", ())),
        "inner_dim": getattr(flux, "hidden_size", None),
    }
    different = [
        f"{n} is {base[n]} for the adapter, {v} here" for n, v in found.items() if base[n] != v
    ]
    if different:
        raise ValueError("the adapter belongs to another model: " + "; ".join(different))
    own = fingerprint(flux)
    if own is None:
        _LOGGER.warning("sgflux: an 8-bit model cannot be compared with the adapter's base")
    elif own != base["fingerprint"]:
        raise ValueError(
            "the adapter belongs to another model of the same sizes (FLUX.1-dev and -schnell "
            "differ): load the base that its model card names"
        )


def fingerprint(flux: Any) -> str | None:
    """What an adapter knows its base by; None if 8-bit weights hide it.

    See ``sgflux.bases.flux1.load.model_identity``.
    """
    digest = hashlib.sha256()
    layers = {"x_embedder": flux.img_in, "proj_out": flux.final_layer.linear}
    for name, layer in layers.items():
        for part in ("weight", "bias"):
            values = getattr(layer, part, None)
            if values is None:
                return ""  # no FLUX.1
            values = values.detach()
            if values.dtype not in (torch.bfloat16, torch.float32):
                return None
            values = values.to("cpu", torch.bfloat16).contiguous()
            digest.update(f"{name}.{part}{tuple(values.shape)}".encode())
            digest.update(values.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


NODE_CLASS_MAPPINGS = {
    "SgfluxLoadAdapter": LoadAdapter,
    "SgfluxEncodeGraph": EncodeGraph,
    "SgfluxApplyGraph": ApplyGraph,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "SgfluxLoadAdapter": "Load scene-graph adapter",
    "SgfluxEncodeGraph": "Encode scene graph",
    "SgfluxApplyGraph": "Apply scene graph to FLUX",
}
