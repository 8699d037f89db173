"""Where boxes say that a relation is, on grids that can be drawn on paper.

If one of these failed, the loss would weigh other parts of a picture than those of the relation.
"""

from __future__ import annotations

import torch

from sgflux.training.terms.regions import box_coverage


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
