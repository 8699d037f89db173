"""Grounding DINO (Liu et al. 2023, arXiv:2303.05499), MM Grounding DINO and LLMDet.

The network scores every box against every token of one caption, "cat. traffic light.". Its
processor decodes the tokens above a threshold into phrases such as "traffic" or "cat traffic",
which need not be names. Here a name's score is the mean over its own tokens, as in MM Grounding
DINO's evaluation (Zhao et al. 2024, arXiv:2401.02361), and a box has the name with the best score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import transformers

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.detectors.prompted import Prompting


def _score(
    network: Any, tokenizer: Any, pixels: Any, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    caption, spans = caption_of(names)
    text = tokenizer(caption, return_offsets_mapping=True, return_tensors="pt")
    offsets = text.pop("offset_mapping")[0].tolist()
    longest = network.config.max_text_len
    if len(offsets) > longest:
        raise SgfluxError(
            f"detector {network.name_or_path!r} reads {longest} tokens, but the {len(names)} names "
            f"of one picture have {len(offsets)}",
            advice="; use graphs with fewer objects, or another detector",
        )
    out = network(**pixels, **text.to(network.device))
    by_token = out.logits[0, :, : len(offsets)].sigmoid().cpu().numpy()  # (A, tokens)
    scores = np.stack(
        [by_token[:, tokens_in(offsets, span)].mean(axis=1) for span in spans], axis=1
    )
    is_best = np.arange(len(names)) == scores.argmax(axis=1)[:, None]
    return out.pred_boxes[0].cpu().numpy(), np.where(is_best, scores, -1.0)


GROUNDING_DINO = Prompting(
    processor=transformers.GroundingDinoImageProcessorPil,
    network=transformers.AutoModelForZeroShotObjectDetection,
    threshold=0.3,
    score=_score,
    size=lambda image: (float(image.shape[1]), float(image.shape[0])),
)
"""Such as "IDEA-Research/grounding-dino-tiny"."""


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
