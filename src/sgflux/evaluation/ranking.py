"""Ranking accuracy on the data set's own pictures: how often e(g+) < e(g-).

No sampling and no judge: the model itself says which graph explains a picture better, on the same
latents, noise and sigma. Chance is one half, and a model that ignores the graph gets exactly that.

Shapes: N items, K sigmas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgflux.data.images import Crop, crop_box, fit_image
from sgflux.data.progress import progress_bar
from sgflux.data.prompts import prompt_for
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import EvaluationItem, derived_seed
from sgflux.evaluation.metrics import Row, Rows, level_estimate, macro_estimate, mean_estimate
from sgflux.evaluation.real_pictures import RealPictures
from sgflux.flow_matching import sigma_grid
from sgflux.graphs.negatives import NegativeKind
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.errors import ranking_errors_of_each
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.companions import Companions
from sgflux.settings.drawing import SizeSettings

ALTERNATIVES = ("graph", "null_graph", str(NegativeKind.ROLE_SWAP), str(NegativeKind.PREDICATE))
"""Under which graphs each picture is explained."""

NOT_MEASURED: dict[str, Any] = {"value": None, "ci95": None, "n": 0, "clusters": 0}


def measure_errors(
    pipeline: SceneGraphFluxPipeline,
    items: Sequence[EvaluationItem],
    *,
    pictures: RealPictures,
    height: int,
    width: int,
    crop: Crop,
    sigmas: Sequence[float],
    guidance: float | None,
    seed: int,
    batch_size: int,
    advance: Callable[[int], object],
) -> Tensor:
    """Measure e of every item under every alternative, with the neutral prompt.

    Args:
        pipeline: Pipeline with an adapter.
        items: the test items.
        pictures: Pictures of the items.
        height: Height in pixels to which pictures are scaled.
        width: Width in pixels to which pictures are scaled.
        crop: Name of the crop in :data:`sgflux.data.images.CROPS`, as in training.
        sigmas: K noise levels.
        guidance: Guidance scale, for a guidance-distilled model only.
        seed: Seed of the noise, which depends on the row and the sigma alone.
        batch_size: items at once.
        advance: called with the number of items just done.

    Returns:
        (4, N, K) float32 in the order of :data:`ALTERNATIVES`; NaN where an item has no such
        negative.
    """
    if pipeline.model is None:
        raise SgfluxError("ranking accuracy needs an adapter")
    errors = torch.full((len(ALTERNATIVES), len(items), len(sigmas)), torch.nan)
    for start in range(0, len(items), batch_size):
        batch = items[start : start + batch_size]
        fitted = []
        for item in batch:
            name = f"{item.example.named(item.row, kind='row')} of the test set"
            box = crop_box(item.example.boxes, crop, name=name)
            picture = pictures.load(item.example)
            fitted.append(fit_image(picture, height, width, crop=crop, box=box))
        # The posterior's mean is taken, so that the measurement adds no noise of its own.
        mean, _ = pipeline.autoencoder.posterior(torch.stack(fitted))
        latents = pipeline.autoencoder.scale(mean.float()).to(pipeline.device)
        text = pipeline.encode_text([prompt_for(item.example, "neutral") for item in batch])
        # A true graph stands in where there is no negative; its error is then discarded.
        alternatives = [
            [item.graph for item in batch],
            [SceneGraph.null()] * len(batch),
            [(item.swapped or item.example).graph for item in batch],
            [(item.replaced or item.example).graph for item in batch],
        ]
        for k, sigma in enumerate(sigmas):
            with pipeline.mixed_precision():
                rows = ranking_errors_of_each(
                    pipeline.model,
                    latents=latents,
                    noise=_noise(batch, k, latents, seed=seed),
                    sigma=torch.full((len(batch),), sigma, device=pipeline.device),
                    text=text,
                    alternatives=alternatives,
                    guidance=pipeline.guidance_scale(guidance),
                )
            errors[:, start : start + len(batch), k] = torch.stack(rows).float().cpu()
        advance(len(batch))
    for row, item in enumerate(items):
        if item.swapped is None:
            errors[2, row] = torch.nan
        if item.replaced is None:
            errors[3, row] = torch.nan
    return errors


def _noise(items: Sequence[EvaluationItem], k: int, latents: Tensor, *, seed: int) -> Tensor:
    seeds = [derived_seed(seed, "ranking", item.row, k) for item in items]
    generators = [torch.Generator("cpu").manual_seed(one) for one in seeds]
    rows = [torch.randn(latents.shape[1:], generator=one) for one in generators]
    return torch.stack(rows).to(latents.device)


def _expect_finite(items: Sequence[EvaluationItem], errors: Tensor) -> None:
    """Refuse an error that is missing where the item has such a negative."""
    for row, item in enumerate(items):
        there = (True, True, item.swapped is not None, item.replaced is not None)
        for index, name in enumerate(ALTERNATIVES):
            if there[index] and not bool(errors[index, row].isfinite().all()):
                raise SgfluxError(
                    f"{item.example.named(item.row, kind='row')} of the test set: its error "
                    f"under {name!r} is not finite, so it cannot be ranked"
                )


def ranking_summary(
    items: Sequence[EvaluationItem], errors: Tensor, *, sigmas: Sequence[float]
) -> dict[str, Any]:
    """Return ranking accuracy over all negatives, by kind and by sigma, and the errors.

    The errors stand beside the accuracy: it only compares two graphs, and does not tell whether
    the true one is explained better than without a graph. An adapter whose teacher is a guided
    base has the larger error with its graph, since the teacher's velocity is not the data's.

    Args:
        items: N test items.
        errors: Errors of :func:`measure_errors`, (4, N, K).
        sigmas: K noise levels.
    """
    if errors.shape != (len(ALTERNATIVES), len(items), len(sigmas)):
        raise SgfluxError(
            f"errors of shape {tuple(errors.shape)} for {len(items)} items and {len(sigmas)} sigmas"
        )
    values = errors.double()
    _expect_finite(items, values)
    everything: list[Row] = []
    by_kind: dict[str, list[Row]] = {}
    by_sigma: dict[str, list[Row]] = {}
    gaps: dict[str, list[Row]] = {}
    negatives: list[Row] = []
    for index, kind in enumerate(ALTERNATIVES):
        if kind in ("graph", "null_graph"):
            continue
        gap = values[index] - values[0]
        for row, item in enumerate(items):
            cluster = item.example.image_rel_path
            for k, sigma in enumerate(sigmas):
                if gap[row, k].isnan():
                    continue  # the item has no such negative
                win = 0.5 + 0.5 * float(torch.sign(gap[row, k]))
                observation = (win, item.example.triple.predicate, cluster)
                everything.append(observation)
                by_kind.setdefault(kind, []).append(observation)
                by_sigma.setdefault(f"{sigma:g}", []).append(observation)
                gaps.setdefault(kind, []).append((float(gap[row, k]), "all", cluster))
                negatives.append((float(values[index, row, k]), "all", cluster))

    def of_each(table: Tensor) -> Rows:
        return [
            (float(value), "all", item.example.image_rel_path)
            for item, row in zip(items, table.tolist(), strict=True)
            for value in row
        ]

    return {
        **mean_estimate(everything).to_json(),
        "by_kind": {kind: mean_estimate(rows).to_json() for kind, rows in by_kind.items()},
        "by_sigma": {sigma: mean_estimate(rows).to_json() for sigma, rows in by_sigma.items()},
        "per_predicate": macro_estimate(everything).to_json()["per_predicate"],
        "error_graph": float(values[0].mean()),
        "error_null_graph": float(values[1].mean()),
        "errors": {
            "graph": level_estimate(of_each(values[0])).to_json(),
            "negative_graph": level_estimate(negatives).to_json(),
            "null_graph": level_estimate(of_each(values[1])).to_json(),
        },
        "gap": {
            "null_graph": level_estimate(of_each(values[1] - values[0])).to_json(),
            **{kind: level_estimate(rows).to_json() for kind, rows in gaps.items()},
        },
    }


def rank(
    pipeline: SceneGraphFluxPipeline | None,
    items: Sequence[EvaluationItem],
    pictures: RealPictures | None,
    *,
    levels: int,
    size: SizeSettings,
    crop: Crop,
    seed: int,
    batch_size: int,
    companions: Companions,
    show_progress: bool,
) -> dict[str, Any]:
    """Measure the ranking accuracy, shared between processes.

    Args:
        pipeline: Pipeline that drew the pictures; None if another generator did.
        items: Test items.
        pictures: Pictures of the items; None if there are none.
        levels: Number of noise levels; 0 measures nothing.
        size: Size to which pictures are scaled, and the guidance.
        crop: Name of the crop, as in training.
        seed: Seed of the noise.
        batch_size: Number of items at once.
        companions: Processes that share the work.
        show_progress: Whether to show a bar on stderr.

    Returns:
        Figures of :func:`ranking_summary`, or :data:`NOT_MEASURED`.
    """
    if pipeline is None or pipeline.model is None or pictures is None or not levels:
        return dict(NOT_MEASURED)
    sigmas = sigma_grid(levels)
    own = items[companions.index :: companions.count]
    with progress_bar(len(own), "ranking", show=show_progress) as advance:
        errors = measure_errors(
            pipeline,
            own,
            pictures=pictures,
            height=size.height or pipeline.default_size,
            width=size.width or pipeline.default_size,
            crop=crop,
            sigmas=sigmas,
            guidance=size.guidance,
            seed=seed,
            batch_size=batch_size,
            advance=advance,
        )
    shares = companions.gather([errors])
    everywhere = errors.new_empty(len(errors), len(items), len(sigmas))
    for index, share in enumerate(shares):
        everywhere[:, index :: len(shares)] = share
    return ranking_summary(items, everywhere, sigmas=sigmas)
