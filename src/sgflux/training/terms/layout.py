"""L_layout: the flow-matching error of a predictor of the objects' boxes.

Its weights are the predictor's own, and nothing that is trained otherwise has a gradient of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.models.layout import LAYOUT_DRAWS
from sgflux.settings.losses import LayoutSettings
from sgflux.training.randomness import generator_for
from sgflux.training.terms.term import Needs, Parts, Schedule, Sources, Step, TermLoss


class BoxPrediction:
    """Mean flow-matching error of the boxes of the true graphs; see ``LayoutPredictor.errors``."""

    name = "layout"
    figures: Mapping[str, str | None] = {"layout_iou": "layout_boxes", "layout_boxes": None}

    def __init__(self, settings: LayoutSettings, sources: Sources) -> None:
        """Read the settings.

        Raises:
            SgfluxError: if no example has boxes.
        """
        self._further = settings.layout_graphs
        self.schedule = Schedule(
            settings.lambda_layout, settings.layout_start, settings.layout_warm_in
        )
        if all(example.boxes is None for example in sources.examples):
            raise SgfluxError(
                "lambda_layout needs boxes, and no row of the training data has any; give rows "
                "with 'boxes', or drop lambda_layout"
            )

    def needs(self) -> Needs:
        """Features of names, and a figure in the printed log."""
        return Needs(names=True, shown={"layout_iou": "box IoU"})

    def ready(self, parts: Parts) -> TermLoss:
        """Find the boxes in the pictures as they are shown."""
        layouts = parts.layouts()
        with_boxes = [row for row, layout in enumerate(layouts) if any(layout)]

        def loss(step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
            generator = generator_for(parts.seed, "layout", *step.draws)
            drawn = torch.randint(len(with_boxes), (self._further,), generator=generator)
            rows = [*step.rows, *(with_boxes[place] for place in drawn.tolist())]
            errors, overlaps = step.objective.layout_errors(
                [parts.examples[row].graph for row in rows],
                [layouts[row] for row in rows],
                generator,
            )
            count = errors.new_tensor(len(errors))
            # A sum: a batch without boxes has no mean.
            return errors.sum() / count.clamp(min=1), {
                "layout_iou": overlaps.sum() / LAYOUT_DRAWS,
                "layout_boxes": count / LAYOUT_DRAWS,
            }

        return loss
