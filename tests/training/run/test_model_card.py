"""What a model card says of the errors behind its ranking accuracy.

If one of these failed, a model card would state a ranking accuracy without the errors that it
hides.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import sgflux
from sgflux.files.templates import render

TEMPLATE = Path(sgflux.__file__).parent / "assets" / "cards" / "validation.md.jinja"

METRICS = {
    "loss": 0.9675,
    "loss_null": 0.8383,
    "loss_negative": 1.1795,
    "ranking_accuracy": 0.932,
    "ranking_n": 192,
    "ranking_by_kind": {"role_swap": 0.964},
}


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (0.9675, "0.1292 larger than without a graph: the graph moves the velocity away from"),
        (0.7383, "0.1000 smaller than without a graph."),
    ],
)
def test_the_gap_stands_beside_the_ranking_accuracy(loss: float, said: str) -> None:
    text = render(TEMPLATE, metrics={**METRICS, "loss": loss}, notes=[], selection="last")
    assert "ranking accuracy (chance 0.5): 0.932 over 192 pairs" in text
    assert said in text
    assert ("guided teacher" in text) == (loss > 0.8383)
