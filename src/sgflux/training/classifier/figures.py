"""How good a relation classifier is on held-out pictures: pure functions of its answers.

Shapes: n statements, P predicates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgflux.intervals import Layout, share_interval

_BINS = 10


def held_out_figures(
    logits: Tensor, labels: Tensor, *, pictures: Sequence[Hashable], predicates: Sequence[str]
) -> dict[str, Any]:
    """Accuracy with its interval, chance, confusion and calibration, as plain JSON.

    Chance is what the best answer without a look at the picture would get: always the most frequent
    predicate.

    Args:
        logits: Answers of the classifier, (n, P).
        labels: True classes, (n,) int64.
        pictures: Picture of each statement; several statements about one picture are one cluster of
            the interval.
        predicates: The P classes.

    Raises:
        ValueError: if the lengths differ or there is nothing to measure.
    """
    count, classes = logits.shape
    if not count == len(labels) == len(pictures) or classes != len(predicates) or not count:
        raise ValueError(
            f"got {tuple(logits.shape)} logits, {len(labels)} labels, {len(pictures)} pictures "
            f"and {len(predicates)} predicates"
        )
    probabilities = logits.double().softmax(dim=1)
    confidence, answers = probabilities.max(dim=1)
    hits = answers == labels
    accuracy = float(hits.double().mean())
    found = share_interval(hits.double().numpy(), Layout(["all"] * count, pictures))
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    confusion.index_put_((labels, answers), torch.ones_like(labels), accumulate=True)
    return {
        "accuracy": accuracy,
        "ci95": [float(found.low[0]), float(found.high[0])],
        "chance": max(1 / classes, max(Counter(labels.tolist()).values()) / count),
        "n": count,
        "pictures": len(set(pictures)),
        "confusion": {"labels": list(predicates), "counts": confusion.tolist()},
        "calibration": calibration(confidence, hits),
    }


def calibration(confidence: Tensor, hits: Tensor) -> dict[str, Any]:
    """Whether the classifier is right as often as it says.

    Args:
        confidence: Probability of the classifier's own answer, (n,) in [0, 1].
        hits: Whether that answer was right, (n,) bool.

    Returns:
        ``ece``, the expected calibration error over ten equal bins of confidence (Guo et al. 2017,
        arXiv:1706.04599, Eq. 3), and ``bins``: confidence, accuracy and n of those not empty.
    """
    place = (confidence * _BINS).long().clamp(0, _BINS - 1)
    bins = []
    error = 0.0
    for number in range(_BINS):
        inside = place == number
        size = int(inside.sum())
        if size:
            mean = float(confidence[inside].double().mean())
            right = float(hits[inside].double().mean())
            bins.append({"confidence": mean, "accuracy": right, "n": size})
            error += size / len(confidence) * abs(mean - right)
    return {"ece": error, "bins": bins}
