"""``sgflux saliency``: which parts of a picture depend on subject, predicate and object.

The picture is noised to one sigma, at which :mod:`sgflux.sampling.difference_maps` compares what
the model foresees with a word and without it, or one forward pass gives concept attention.

Shapes: B pictures, C concepts each, h by w latent pixels, M blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sgflux.data.images import fit_image, load_image
from sgflux.data.pictures import contact_sheet, save_picture
from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.block_range import check_concept_blocks, default_concept_blocks
from sgflux.models.saliency import concept_probabilities, concept_scores, softened
from sgflux.sampling.difference_maps import difference_maps
from sgflux.sampling.given import given_graph
from sgflux.sampling.noised import expect_reader, noised
from sgflux.sampling.pipeline import SceneGraphFluxPipeline
from sgflux.settings.sampling import SaliencyConfig

_COLORS = "inferno"
_HEAT = 0.6  # how much of a pixel is heat, the rest is the picture


def saliency(config: SaliencyConfig) -> list[Path]:
    """Draw a heat map for each part of each triple, and a sheet of all of them.

    Returns:
        The heat maps' paths, then the sheet's.

    Raises:
        SgfluxError: on a bad picture, graph, model or adapter.
    """
    graph = given_graph(config).graph
    prompt = prompts_for_graph(graph, "neutral") if config.prompt is None else config.prompt
    source = load_image(config.image)
    pipeline = SceneGraphFluxPipeline.from_settings(
        config.model, config.trained, config.compute, config.memory
    )
    pixels = fit_image(source, *pipeline.picture_size(config.size.height, config.size.width))
    triples = [(t.subject, t.predicate, t.object) for t in graph.triples()]
    settings: dict[str, Any] = {
        "use_graph": config.trained.adapter is not None,
        "sigma": config.sigma,
        "seed": config.seed,
        "guidance": config.size.guidance,
    }
    of_method: dict[str, Any] = {}
    if config.method == "attention":
        blocks = config.blocks or default_concept_blocks(pipeline.network.num_layers)
        of_method = {"blocks": list(blocks), "raw": config.raw}
        maps = attention_maps(pipeline, pixels, graph, prompt=prompt, **of_method, **settings)
    else:
        maps = difference_maps(pipeline, pixels, graph, prompt=config.prompt, **settings)
    picture = ((pixels + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    pictures, captions, paths = [], [], []
    for number, (names, own) in enumerate(zip(triples, maps, strict=True)):
        pictures.append(picture)
        captions.append(", ".join(names))
        for part, name, heat in zip(("subject", "predicate", "object"), names, own, strict=True):
            drawn = heat_map(picture, heat.numpy())
            path = config.output_dir / f"{number:03d}-{part}.png"
            about: dict[str, Any] = {
                "name": name,
                "triple": list(names),
                "image": str(config.image),
                "prompt": prompt,
                "sigma": config.sigma,
                "seed": config.seed,
                "method": config.method,
                **of_method,
                "lowest": float(heat.min()),
                "highest": float(heat.max()),
                "model": pipeline.model_id,
                "adapter": pipeline.adapter_fingerprint,
                **pipeline.base_record(use_adapter=config.trained.adapter is not None),
            }
            save_picture(path, drawn, about)
            pictures.append(drawn)
            captions.append(f"{part}: {name}\n{heat.min():.2f} to {heat.max():.2f}")
            paths.append(path)
    sheet = config.output_dir / "contact_sheet.png"
    save_picture(sheet, contact_sheet(pictures, captions, columns=4), {"graph": config.graph})
    return [*paths, sheet]


def picture_saliency(
    pipeline: SceneGraphFluxPipeline,
    picture: Image.Image,
    graph: SceneGraph,
    prompt: str | None = None,
    *,
    use_graph: bool | None = None,
    use_adapter: bool = True,
    sigma: float = 0.5,
    seed: int = 0,
    guidance: float | None = None,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return which parts of a picture depend on the parts of each statement: difference maps.

    Args:
        pipeline: Pipeline of a base, with an adapter or without.
        picture: Picture of a size that the model takes.
        graph: Graph whose statements are looked for.
        prompt: Text that the model is given; None: the neutral text of the graph.
        use_graph: Whether the adapter is given the graph; None: if there is an adapter that acts.
        use_adapter: Whether the pipeline's adapter acts on the base, if there is one.
        sigma: Noise level in [0, 1] at which the model sees the picture.
        seed: Seed of the noise.
        guidance: Guidance scale, for a guidance-distilled model only; None: 3.5.

    Returns:
        The heat maps of subject, predicate and object of each statement: the picture under a map's
        colors, (H, W, 3) uint8.

    Raises:
        SgfluxError: if the graph states nothing, or the model takes no such picture.
    """
    if graph.is_null:
        raise SgfluxError("the graph states no relation, so there is nothing to look for")
    picture = picture.convert("RGB")
    pixels = fit_image(picture, *pipeline.picture_size(picture.height, picture.width))
    maps = difference_maps(
        pipeline,
        pixels,
        graph,
        prompt=prompt,
        use_graph=use_adapter and pipeline.model is not None if use_graph is None else use_graph,
        use_adapter=use_adapter,
        sigma=sigma,
        seed=seed,
        guidance=guidance,
    )
    shown = np.asarray(picture)
    return [tuple(heat_map(shown, heat.numpy()) for heat in own) for own in maps]  # type: ignore


def attention_maps(
    pipeline: SceneGraphFluxPipeline,
    pixels: Tensor,
    graph: SceneGraph,
    *,
    prompt: str,
    use_graph: bool,
    **settings: Any,
) -> Tensor:
    """Assign each part of a picture to subject, predicate or object, once for each statement.

    Args:
        pipeline: Pipeline of a base, with an adapter or without.
        pixels: Picture (3, H, W) in [-1, 1].
        graph: Graph of T statements.
        prompt: Text that the model is given.
        use_graph: Whether the adapter is given the graph.
        settings: Further settings of :func:`concept_maps`.

    Returns:
        (T, 3, h/2, w/2) float32 on the CPU.
    """
    triples = [(t.subject, t.predicate, t.object) for t in graph.triples()]
    count = len(triples)
    return concept_maps(
        pipeline,
        pixels.expand(count, -1, -1, -1),
        concepts=triples,
        prompts=[prompt] * count,
        graphs=[graph] * count if use_graph else None,
        **settings,
    )


@torch.no_grad()
def concept_maps(
    pipeline: SceneGraphFluxPipeline,
    images: Tensor,
    *,
    concepts: Sequence[Sequence[str]],
    prompts: Sequence[str],
    graphs: Sequence[SceneGraph] | None,
    sigma: float,
    seed: int,
    blocks: Sequence[int],
    guidance: float | None = None,
    raw: bool = False,
) -> Tensor:
    """Assign each part of a picture to the concepts, by the model's attention.

    Args:
        pipeline: Pipeline of a base, with an adapter or without.
        images: (B, 3, H, W) in [-1, 1], of a size that the model takes.
        concepts: C names for each of the B pictures.
        prompts: B texts.
        graphs: B graphs that the adapter is given; None: no graph.
        sigma: Noise level in [0, 1].
        seed: Seed of the noise, which is the same for every picture.
        blocks: Indices of the double blocks that are averaged over.
        guidance: Guidance scale, for a guidance-distilled model only.
        raw: Take the softmax of the scores as they are, see
            :func:`sgflux.models.saliency.softened`.

    Returns:
        (B, C, h/2, w/2) float32 on the CPU; sums to 1 over the concepts.

    Raises:
        SgfluxError: if ``blocks`` does not fit the model, or graphs are given without an adapter.
    """
    check_concept_blocks(blocks, num_layers=pipeline.network.num_layers)
    if graphs is not None:
        expect_reader(pipeline)
    noisy, levels = noised(pipeline, images, sigma=sigma, seed=seed)
    network = pipeline.network
    inputs = network.inputs(
        noisy,
        pipeline.encode_text(prompts),
        levels,
        guidance=pipeline.guidance_scale(guidance),
    )
    names = pipeline.text_encoders.encode_names([name for own in concepts for name in own])
    states = names.unflatten(0, (len(images), -1)).to(pipeline.device)
    # All names of a picture in one text, as the paper's authors do it.
    text = pipeline.encode_text([" ".join(own) for own in concepts])
    with pipeline.mixed_precision():
        if pipeline.model is None:
            scores = concept_scores(
                network, inputs, concepts=states, concept_text=text, blocks=blocks
            )
        else:
            features = None if graphs is None else pipeline.model.encoder(graphs)
            flux = pipeline.model.flux
            prefix = flux.prefix(inputs, concepts=states, concept_text=text)
            _, scores = flux.suffix_with_concepts(prefix, features, blocks=blocks)
    scores = scores if raw else softened(scores)
    return concept_probabilities(scores).unflatten(2, network.grid(noisy)).cpu()


def heat_map(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A picture under a map's colors, from its lowest value (dark) to its highest.

    Args:
        picture: (H, W, 3) uint8.
        heat: Map of any smaller size, float.

    Returns:
        (H, W, 3) uint8.
    """
    from matplotlib import colormaps  # takes a second that other commands need not wait for

    low, high = float(heat.min()), float(heat.max())
    unit = (heat - low) / (high - low) if high > low else np.zeros_like(heat)
    size = (picture.shape[1], picture.shape[0])
    smooth = Image.fromarray(unit.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    colors = colormaps[_COLORS](np.asarray(smooth).clip(0, 1))[..., :3] * 255
    return (_HEAT * colors + (1 - _HEAT) * picture).round().astype(np.uint8)
