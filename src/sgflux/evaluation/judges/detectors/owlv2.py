"""OWLv2 (Minderer et al. 2023, arXiv:2306.09683), any size, through transformers.

Each name has scores of its own, which do not depend on what else is looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import transformers

from sgflux.evaluation.judges.detectors.prompted import Prompting

_QUERY = "a photo of a {}"  # one of the prompts that the model was trained and evaluated with


def _score(
    network: Any, tokenizer: Any, pixels: Any, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    text = tokenizer(
        [_QUERY.format(name) for name in names],
        padding="max_length",
        # OWLv2 reads queries of exactly so many tokens; a longer name loses its end.
        max_length=network.config.text_config.max_position_embeddings,
        truncation=True,
        return_tensors="pt",
    ).to(network.device)
    out = network(**pixels, input_ids=text.input_ids, attention_mask=text.attention_mask)
    return out.pred_boxes[0].cpu().numpy(), out.logits[0].sigmoid().cpu().numpy()


def _side(image: np.ndarray) -> tuple[float, float]:
    """Return the square to which the picture was padded below or to the right."""
    side = float(max(image.shape[:2]))
    return side, side


OWLV2 = Prompting(
    processor=transformers.Owlv2ImageProcessorPil,
    network=transformers.Owlv2ForObjectDetection,
    threshold=0.2,
    score=_score,
    size=_side,
)
"""Such as "google/owlv2-base-patch16-ensemble"."""
