"""Grounding DINO (Liu et al. 2023, arXiv:2303.05499), MM Grounding DINO and LLMDet.

The network scores every box against every token of one caption, "cat. traffic light.". Its
processor decodes the tokens above a threshold into phrases such as "traffic" or "cat traffic",
which need not be names. Here a name's score is the mean over its own tokens, as in MM Grounding
DINO's evaluation (Zhao et al. 2024, arXiv:2401.02361), and a box has the name with the best score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import transformers

from sgflux.bases.digests import state_digest
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.detectors.detector import (
    NMS_IOU,
    Detection,
    best_of_overlapping,
    relative_box,
)
from sgflux.evaluation.judges.pretrained import load, load_network, load_tokenizer


class GroundingDinoDetector:
    """All names of a picture are looked for at once, in one caption."""

    def __init__(self, source: str, device: str = "cpu", *, score_threshold: float = 0.3) -> None:
        """Load the network.

        Args:
            source: Folder, or hub id such as "IDEA-Research/grounding-dino-tiny".
            device: Device on which the network runs.
            score_threshold: Smallest score of a detection.
        """
        self._processor = load(transformers.GroundingDinoImageProcessorPil, source)
        self._tokenizer = load_tokenizer(source)
        loader = transformers.AutoModelForZeroShotObjectDetection
        self._network = load_network(loader, source, device)
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
        caption, spans = caption_of(names)
        text = self._tokenizer(caption, return_offsets_mapping=True, return_tensors="pt")
        offsets = text.pop("offset_mapping")[0].tolist()
        longest = self._network.config.max_text_len
        if len(offsets) > longest:
            raise SgfluxError(
                f"detector {self.name!r} reads {longest} tokens, but the {len(names)} names of one "
                f"picture have {len(offsets)}; use graphs with fewer objects, or another detector"
            )
        out = self._network(**pixels, **text.to(device))
        by_token = out.logits[0, :, : len(offsets)].sigmoid().cpu().numpy()  # (A, tokens)
        scores = np.stack(
            [by_token[:, tokens_in(offsets, span)].mean(axis=1) for span in spans], axis=1
        )
        size = (float(image.shape[1]), float(image.shape[0]))
        found = []
        for candidate, place in enumerate(scores.argmax(axis=1)):
            score = float(scores[candidate, place])
            values = out.pred_boxes[0, candidate].cpu().numpy()
            box = relative_box(values, size=size, image=image)
            if score > self._threshold and box.area >= 1:
                found.append(Detection(names[place], box, score))
        return best_of_overlapping(found, iou=NMS_IOU)


def caption_of(names: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Write one caption of all names, "cat. traffic light.", and say where each name stands."""
    caption, spans = "", []
    for name in names:
        spans.append((len(caption), len(caption) + len(name)))
        caption += f"{name}. "
    return caption.rstrip(), spans


def tokens_in(offsets: Sequence[Sequence[int]], span: tuple[int, int]) -> list[int]:
    """Return the places of the tokens within a span; special tokens, of no width, are in none."""
    return [
        place for place, (start, end) in enumerate(offsets) if span[0] <= start < end <= span[1]
    ]
