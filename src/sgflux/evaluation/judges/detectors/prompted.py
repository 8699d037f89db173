"""Detectors of transformers that are told in words what to look for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sgflux.evaluation.judges.detectors.detector import (
    NMS_IOU,
    Detection,
    best_of_overlapping,
    relative_box,
)
from sgflux.evaluation.judges.pretrained import (
    load,
    load_network,
    load_tokenizer,
    model_digest,
    settings_of,
)


@dataclass(frozen=True)
class Prompting:
    """What one kind of such detectors does in its own way.

    Attributes:
        processor: Class of transformers that prepares pictures.
        network: Class of transformers that loads the network.
        threshold: Score above which a box counts as a detection, unless another one is given.
        score: Runs the network for one picture. Its arguments are the network, the tokenizer, the
            prepared picture and N names; it returns A boxes, (A, 4) float, as parts of what
            ``size`` gives, and the score of every name in every box, (A, N), in [0, 1].
        size: Width and height, in pixels, that the boxes of a picture, (H, W, 3), are parts of.
    """

    processor: Any
    network: Any
    threshold: float
    score: Callable[[Any, Any, Any, Sequence[str]], tuple[np.ndarray, np.ndarray]]
    size: Callable[[np.ndarray], tuple[float, float]]


class PromptedDetector:
    """Looks for the names of one picture at a time."""

    def __init__(
        self,
        prompting: Prompting,
        source: str,
        device: str = "cpu",
        *,
        score_threshold: float | None = None,
    ) -> None:
        """Load the network.

        Args:
            prompting: Kind of the detector.
            source: Folder or hub id.
            device: Device on which the network runs.
            score_threshold: Score above which a box counts; None: that of the kind.
        """
        self._prompting = prompting
        self._processor = load(prompting.processor, source)
        self._tokenizer = load_tokenizer(source)
        self._network = load_network(prompting.network, source, device)
        self.name = source
        self._threshold = prompting.threshold if score_threshold is None else score_threshold
        settings = {**settings_of(source), "score_threshold": self._threshold}
        self.sha256: str | None = model_digest(self._network, self._tokenizer, settings)

    def find(
        self, images: Sequence[np.ndarray], names: Sequence[Sequence[str]]
    ) -> list[list[Detection]]:
        """See :meth:`Detector.find`."""
        return [self._in_one(image, own) for image, own in zip(images, names, strict=True)]

    @torch.inference_mode()
    def _in_one(self, image: np.ndarray, names: Sequence[str]) -> list[Detection]:
        pixels = self._processor(images=image, return_tensors="pt").to(self._network.device)
        boxes, scores = self._prompting.score(self._network, self._tokenizer, pixels, names)
        found = []
        for candidate, place in zip(*np.nonzero(scores > self._threshold), strict=True):
            box = relative_box(boxes[candidate], size=self._prompting.size(image), image=image)
            if box.area >= 1:
                found.append(Detection(names[place], box, float(scores[candidate, place])))
        return best_of_overlapping(found, iou=NMS_IOU)
