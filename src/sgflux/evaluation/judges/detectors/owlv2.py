"""OWLv2 (Minderer et al. 2023, arXiv:2306.09683), any size, through transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import transformers

from sgflux.bases.digests import state_digest
from sgflux.evaluation.judges.detectors.detector import (
    NMS_IOU,
    Detection,
    best_of_overlapping,
    relative_box,
)
from sgflux.evaluation.judges.pretrained import load, load_network, load_tokenizer

_QUERY = "a photo of a {}"  # one of the prompts that the model was trained and evaluated with


class Owlv2Detector:
    """Each name has scores of its own, which do not depend on what else is looked for."""

    def __init__(self, source: str, device: str = "cpu", *, score_threshold: float = 0.2) -> None:
        """Load the network.

        Args:
            source: Folder, or hub id such as "google/owlv2-base-patch16-ensemble".
            device: Device on which the network runs.
            score_threshold: Smallest score of a detection.
        """
        self._processor = load(transformers.Owlv2ImageProcessorPil, source)
        self._tokenizer = load_tokenizer(source)
        self._network = load_network(transformers.Owlv2ForObjectDetection, source, device)
        self.name = source
        self.sha256: str | None = state_digest(self._network.state_dict())
        self._threshold = score_threshold

    def find(
        self, images: Sequence[np.ndarray], names: Sequence[Sequence[str]]
    ) -> list[list[Detection]]:
        """See :meth:`Detector.find`."""
        return [self._in_one(image, own) for image, own in zip(images, names, strict=True)]

    @torch.inference_mode()
    def _in_one(self, image: np.ndarray, names: Sequence[str]) -> list[Detection]:
        device = self._network.device
        pixels = self._processor(images=image, return_tensors="pt").to(device)
        # OWLv2 reads queries of exactly so many tokens; a longer name loses its end.
        length = self._network.config.text_config.max_position_embeddings
        text = self._tokenizer(
            [_QUERY.format(name) for name in names],
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        ).to(device)
        out = self._network(**pixels, input_ids=text.input_ids, attention_mask=text.attention_mask)
        scores = out.logits[0].sigmoid().cpu().numpy()  # (A, names)
        # The picture was padded to a square below or to the right: boxes are parts of its side.
        side = float(max(image.shape[:2]))
        found = []
        for candidate, place in zip(*np.nonzero(scores > self._threshold), strict=True):
            values = out.pred_boxes[0, candidate].cpu().numpy()
            box = relative_box(values, size=(side, side), image=image)
            if box.area >= 1:
                found.append(Detection(names[place], box, float(scores[candidate, place])))
        return best_of_overlapping(found, iou=NMS_IOU)
