"""What an adapter costs in quality: distances between sets of pictures, and between two pictures.

A distance has the name FID or KID only on the Inception network of those papers. On any other
features it is a Fréchet distance or a kernel distance (squared maximum mean discrepancy with the
cubic kernel, unbiased), and the features are named beside it.

Shapes: N pictures, (H, W, 3) uint8 each; D features.

Sources: Heusel et al. 2017, arXiv:1706.08500 (FID); Bińkowski et al. 2018, arXiv:1801.01401 (KID);
Zhang et al. 2018, arXiv:1801.03924 (LPIPS); torchmetrics computes all three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.linalg
import torch
import transformers

from sgflux.bases.devices import resolve_device
from sgflux.bases.digests import state_digest
from sgflux.errors import SgfluxError, first_line
from sgflux.evaluation.arms import Arm, batches
from sgflux.evaluation.drawing import JudgedPicture, PairDistance, as_judged
from sgflux.evaluation.judges.pretrained import expect_source, load, load_network
from sgflux.evaluation.judges.world import WorldJudgeAdapter
from sgflux.evaluation.scoring import Judged
from sgflux.intervals import student_t95

_ROLE = "feature network"
_INSTALL = "install sgflux with its extra {0!r} (in a checkout: python -m pip install '.[{0}]')"
_EXTRA = f"needs torchmetrics: {_INSTALL.format('quality')}"
_SUBSET, _SUBSETS = 1_000, 100  # of KID's paper
_BATCH = 32
_GROUPS = 20  # of items, each of which is left out once for the intervals


@dataclass(frozen=True)
class Features:
    """A network that turns pictures into vectors, whose sets are compared.

    Attributes:
        name: Name of the network in results.
        sha256: SHA-256 of its weights, in hex; None if they have none.
        of: Features, (N, D), of N pictures, (N, H, W, 3) uint8.
        is_inception: Whether the distances are FID and KID.
    """

    name: str
    sha256: str | None
    of: Callable[[np.ndarray], np.ndarray]
    is_inception: bool = False

    @property
    def distances(self) -> tuple[str, str]:
        """Names of the Fréchet and the kernel distance on these features."""
        if self.is_inception:
            return "FID", "KID"
        return f"Fréchet distance on {self.name}", f"kernel distance on {self.name}"


class _Known(torch.nn.Module):
    """Stands for the network where the features are known already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def load_features(source: str, device: str) -> Features:
    """Load what ``--quality-features`` names.

    Args:
        source: "inception", "world", or the folder or hub id of a vision model of transformers.
        device: Device on which it runs, as settings name it.

    Raises:
        SgfluxError: if the model or a library is missing.
    """
    expect_torchmetrics("quality_features")
    if source == "world":
        judge = WorldJudgeAdapter.load()
        return Features("the world judge's features", judge.identity.sha256, judge.features)
    where = resolve_device(device)
    if source == "inception":
        return _inception(where)
    expect_source(source, role=_ROLE, example="facebook/dinov2-base")
    processor = load(transformers.AutoImageProcessor, source, role=_ROLE)
    network = load_network(transformers.AutoModel, source, str(where), role=_ROLE)

    @torch.inference_mode()
    def features(images: np.ndarray) -> np.ndarray:
        pixels = processor(images=list(images), return_tensors="pt").to(network.device)
        # A model of pictures and text, such as CLIP, has a method for the pictures alone.
        out = getattr(network, "get_image_features", network)(pixel_values=pixels.pixel_values)
        found = out if isinstance(out, torch.Tensor) else out.pooler_output
        return found.float().cpu().numpy()

    return Features(f"features of {source}", state_digest(network.state_dict()), features)


def _inception(device: torch.device) -> Features:
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        network = NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"])
    except (ImportError, OSError) as error:
        raise SgfluxError(
            "quality_features 'inception' needs torch-fidelity and its weights, which it fetches: "
            f"{_INSTALL.format('perceptual')} ({first_line(error)})"
        ) from error
    network = network.to(device).eval()

    @torch.inference_mode()
    def features(images: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
        return network(pixels).cpu().numpy()

    name = "Inception v3, 2048 features (torch-fidelity)"
    return Features(name, state_digest(network.state_dict()), features, is_inception=True)


def expect_torchmetrics(setting: str) -> None:
    """Check that torchmetrics is installed, for a setting that needs it.

    Raises:
        SgfluxError: if it is not.
    """
    try:
        import torchmetrics.image  # noqa: F401
    except ImportError as error:
        raise SgfluxError(f"{setting} {_EXTRA}") from error


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Return the Fréchet distance of the Gaussians fitted to two sets of features.

    Args:
        features: features of the first set, (N, D), N > 1.
        reference: features of the second set, (M, D), M > 1.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Known(features.shape[1]))
    for values, is_reference in ((features, False), (reference, True)):
        metric.update(torch.from_numpy(_checked(values)), real=is_reference)
    return float(metric.compute())


def kernel_distance(features: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """Return the kernel distance of two sets of features, and its spread over subsets.

    Sets of one size of at most 1,000 are compared whole, and a hundred random subsets of others,
    always the same ones.

    Args:
        features: features of the first set, (N, D), N > 1.
        reference: features of the second set, (M, D), M > 1.

    Returns:
        ``value``; ``std`` over subsets, None of a single one; ``subsets`` and ``subset_size``.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    sizes = (len(features), len(reference))
    size = min(*sizes, _SUBSET)
    subsets = 1 if max(sizes) == size else _SUBSETS
    metric = KernelInceptionDistance(
        feature=_Known(features.shape[1]), subsets=subsets, subset_size=size
    )
    for values, is_reference in ((features, False), (reference, True)):
        metric.update(torch.from_numpy(_checked(values)), real=is_reference)
    with torch.random.fork_rng(devices=[]):  # the metric draws subsets from the global generator
        torch.manual_seed(0)
        value, spread = (float(figure) for figure in metric.compute())
    return {
        "value": value,
        "std": spread if subsets > 1 else None,
        "subsets": subsets,
        "subset_size": size,
    }


def _checked(features: np.ndarray) -> np.ndarray:
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features must be (N > 1, D), got {features.shape}")
    return features.astype(np.float64)


def distances_without(
    features: np.ndarray, reference: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return both distances of two sets, with each group of pictures left out of both once.

    Args:
        features: Features of the first set, (N, D) float.
        reference: Features of the second set, (N, D) float, of the same items in the same order.
        groups: Number of the group of each item, (N,) int from 0 to G - 1.

    Returns:
        Fréchet distances and kernel distances, (G,) each; the latter of whole sets.
    """
    sets = [values.astype(np.float64) for values in (features, reference)]
    member = np.eye(int(groups.max()) + 1)[groups]  # (N, G)

    def kernel_of(products: np.ndarray) -> np.ndarray:
        return (products / sets[0].shape[1] + 1) ** 3

    def sums(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Sum the kernel over pairs of pictures, by their groups, (G, G)."""
        found = np.zeros((member.shape[1], len(one)))
        for start in range(0, len(one), _SUBSET):
            rows = slice(start, start + _SUBSET)
            found += member[rows].T @ kernel_of(one[rows] @ other.T)
        return found @ member

    between = sums(*sets)
    within = [sums(own, own) for own in sets]
    themselves = [member.T @ kernel_of((own**2).sum(axis=1)) for own in sets]
    frechet, kernel = [], []
    for left_out in range(member.shape[1]):
        kept = np.delete(np.arange(member.shape[1]), left_out)
        count = int(member[:, kept].sum())
        block = np.ix_(kept, kept)
        pairs = sum(
            float(own[block].sum() - same[kept].sum())
            for own, same in zip(within, themselves, strict=True)
        )
        kernel.append(pairs / (count * (count - 1)) - 2 * between[block].sum() / count**2)
        frechet.append(_frechet(*(own[groups != left_out] for own in sets)))
    return np.array(frechet), np.array(kernel)


def _frechet(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Fréchet distance of two sets of equal size, (N, D) float64 each.

    The trace of the root of the product of two covariances is the sum of the singular values of
    the product of the centred features, of which the smaller one is formed.
    """
    centred = [own - own.mean(axis=0) for own in (one, other)]
    spread = sum(float((own**2).sum()) for own in centred)
    # Only the triangular factors matter where there are more pictures than features.
    first, second = (
        scipy.linalg.qr(own, mode="r")[0][: own.shape[1]] if len(own) > own.shape[1] else own
        for own in centred
    )
    common = float(scipy.linalg.svdvals(first @ second.T).sum())
    moved = float(((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum())
    return moved + (spread - 2 * common) / (len(one) - 1)


def jackknife_interval(value: float, without: np.ndarray) -> list[float]:
    """Return the 95 % interval of a figure by what it is without each of G groups.

        variance = (G - 1) / G sum_g (without_g - mean)^2,   Student's t of G - 1

    A bootstrap would draw pictures twice. Both distances take the copies for a likeness within
    each set, and come out too large.

    Args:
        value: The figure.
        without: The figure with one group left out, (G,) float, G > 1.

    Source:
        Wolter 2007, Introduction to Variance Estimation, section 4.2, the grouped jackknife.
    """
    count = len(without)
    deviation = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    half = student_t95(count - 1) * deviation
    return [value - half, value + half]


def quality_figures(judged: Judged, features: Features, *, out_dir: Path) -> dict[str, Any]:
    """Compare every arm's pictures with those of the base told a neutral text.

    Args:
        judged: Pictures of each arm, of :attr:`Arm.BASE_NEUTRAL` among them.
        features: Network that sees them.
        out_dir: Folder of the evaluation, in which the pictures lie.

    Returns:
        Name of the distance -> arm -> its ``value``, number ``n`` of pictures and ``clusters`` of
        items, and ``ci95`` over items; and ``graph_minus_this``, the value of the arm with the true
        graph less this one's, with an interval over the same items.

    Raises:
        SgfluxError: if an arm has a single picture, or a picture is not the one that was judged.
    """
    sets = {arm: _features_of(pictures, features, out_dir) for arm, pictures in judged.items()}
    reference = sets.pop(Arm.BASE_NEUTRAL)
    if len(reference) < 2:
        raise SgfluxError("quality_features needs at least two pictures of each arm, got one")
    images = [one.request.item.example.image_rel_path for one in judged[Arm.BASE_NEUTRAL]]
    places = {image: place for place, image in enumerate(dict.fromkeys(images))}
    groups = np.array([places[image] for image in images]) % _GROUPS
    by_metric: dict[str, dict[str, Any]] = {name: {} for name in features.distances}
    without: dict[str, dict[str, np.ndarray]] = {name: {} for name in features.distances}
    for arm, own in sets.items():
        frechet = {"value": frechet_distance(own, reference)}
        kernel = kernel_distance(own, reference)
        left_out = distances_without(own, reference, groups) if len(places) > 2 else (None, None)
        for name, figure, rest in zip(features.distances, (frechet, kernel), left_out, strict=True):
            by_metric[name][str(arm)] = {
                **figure,
                "ci95": None if rest is None else jackknife_interval(figure["value"], rest),
                "n": len(own),
                "clusters": len(places),
            }
            if rest is not None:
                without[name][str(arm)] = rest
    graph = str(Arm.GRAPH)
    for name, by_arm in by_metric.items():
        rests = without[name]
        for other in rests.keys() - {graph} if graph in rests else ():
            value = by_arm[graph]["value"] - by_arm[other]["value"]
            ci95 = jackknife_interval(value, rests[graph] - rests[other])
            by_arm[other]["graph_minus_this"] = {"value": value, "ci95": ci95}
    return by_metric


def _features_of(
    pictures: Sequence[JudgedPicture], features: Features, out_dir: Path
) -> np.ndarray:
    return np.concatenate(
        [
            features.of(np.stack([as_judged(picture, out_dir) for picture in batch]))
            for batch in batches(pictures, _BATCH)
        ]
    )


def quality_lines(figures: dict[str, Any]) -> Iterable[str]:
    """Yield one line a distance: how far the pictures of every arm are from the base's."""
    for name, by_arm in figures.items():
        listed = ", ".join(
            f"{arm} {own['value']:.4g}{_within(own['ci95'])} (n = {own['n']})"
            for arm, own in by_arm.items()
        )
        yield f"quality: {name}, to the pictures of {Arm.BASE_NEUTRAL}: {listed}"


def _within(ci95: Sequence[float] | None) -> str:
    return "" if ci95 is None else f" [{ci95[0]:.4g}, {ci95[1]:.4g}]"


def load_lpips(net: Literal["alex", "vgg", "squeeze"], device: str) -> PairDistance:
    """Load LPIPS on the backbone ``net``.

    Raises:
        SgfluxError: if a library or the backbone's weights are missing.
    """
    expect_torchmetrics("lpips")
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    where = resolve_device(device)
    try:
        metric = LearnedPerceptualImagePatchSimilarity(net_type=net, normalize=True).to(where)
    except (ImportError, OSError) as error:
        raise SgfluxError(
            "lpips needs torchvision and its weights, which it fetches: "
            f"{_INSTALL.format('perceptual')} ({first_line(error)})"
        ) from error

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        pair = [
            torch.from_numpy(image).permute(2, 0, 1)[None].to(where) / 255 for image in (one, other)
        ]
        return float(metric(*pair))

    return distance
