"""Which prompts the model read only in part: counted in every arm, so that no one is cut unseen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

from sgflux.evaluation.arms import Arm, PictureRequest
from sgflux.sampling import SceneGraphFluxPipeline


def prompts_cut(
    pipeline: SceneGraphFluxPipeline | None, plan: Mapping[Arm, Sequence[PictureRequest]]
) -> dict[str, Any] | None:
    """Count the pictures of each arm whose prompt is longer than what T5 reads.

    Args:
        pipeline: that draws; None: a generator without text encoders does.
        plan: the pictures of each arm.

    Returns:
        ``limit`` in tokens, and for each arm ``cut``, of so many ``pictures``, with the first cut
        prompt as ``example`` if there is one; None without a pipeline.
    """
    if pipeline is None:
        return None
    arms: dict[str, dict[str, Any]] = {}
    for arm, requests in plan.items():
        prompts = [request.prompt for request in requests]
        cut = list(compress(prompts, pipeline.text_encoders.cuts(prompts)))
        arms[str(arm)] = {"pictures": len(prompts), "cut": len(cut)}
        if cut:
            arms[str(arm)]["example"] = cut[0]
    return {"limit": pipeline.text_encoders.max_sequence_length, "arms": arms}
