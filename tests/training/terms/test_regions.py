"""Where boxes say that a relation is, on grids that can be drawn on paper.

If one of these failed, the loss would weigh other parts of a picture than those of the relation.
"""

from __future__ import annotations

import pytest
import torch

from sgflux.data.boxes import Box
from sgflux.training.terms.regions import box_coverage, object_weights


def test_how_much_of_each_cell_a_box_covers() -> None:
    # A picture of 8 x 8 pixels on 2 x 2 tokens of 4 pixels each.
    window = (0.0, 0.0, 8.0, 8.0)
    covered = box_coverage([(0, 0, 4, 2)], window=window, rows=2, columns=2)
    torch.testing.assert_close(covered, torch.tensor([0.5, 0.0, 0.0, 0.0]))
    covered = box_coverage([(2, 2, 4, 4)], window=window, rows=2, columns=2)
    torch.testing.assert_close(covered, torch.tensor([0.25] * 4))


def test_the_fuller_box_counts_and_the_window_crops() -> None:
    boxes = [(0.0, 0.0, 4.0, 4.0), (0.0, 0.0, 2.0, 2.0)]
    covered = box_coverage(boxes, window=(0.0, 0.0, 8.0, 8.0), rows=2, columns=2)
    torch.testing.assert_close(covered, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    # Only the right half of the box is shown, in the left half of the window.
    covered = box_coverage(boxes[:1], window=(2.0, 0.0, 6.0, 4.0), rows=1, columns=2)
    torch.testing.assert_close(covered, torch.tensor([1.0, 0.0]))


def test_every_object_weighs_as_much_however_small_it_is() -> None:
    # Of 2 x 2 tokens the first object has the upper two, the other one a quarter of the last.
    layout = (Box(0.0, 0.0, 1.0, 0.5), None, Box(0.75, 0.75, 0.25, 0.25))
    everything = object_weights(layout, share=1.0, rows=2, columns=2)
    torch.testing.assert_close(everything, torch.tensor([1.0, 1.0, 0.0, 2.0]))
    half = object_weights(layout, share=0.5, rows=2, columns=2)
    torch.testing.assert_close(half, torch.tensor([1.0, 1.0, 0.5, 1.5]))


@pytest.mark.parametrize("layout", [(), (None, None)])
def test_without_known_boxes_all_tokens_weigh_the_same(layout: tuple[None, ...]) -> None:
    weights = object_weights(layout, share=0.5, rows=2, columns=3)
    torch.testing.assert_close(weights, torch.ones(6))
