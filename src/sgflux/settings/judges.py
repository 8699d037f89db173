"""What the judges of pictures ask."""

from __future__ import annotations

from sgflux.settings.checks import Count, settings


@settings
class JudgeSettings:
    """What the judges of pictures ask."""

    detector: str | None = None
    """Detector of judge 'geometry', and of judge 'vqa' to mark the objects in the picture: a folder
    with a detector.json (ONNX) or with a model of transformers (OWLv2, Grounding DINO), or a hub
    id, which is downloaded (docs/judges.md)."""
    judge_model: str | None = None
    """Model of judge 'vqa' (an image-text-to-text model of transformers with a chat template) or of
    judge 'clip': a folder, or a hub id, which is downloaded."""
    judge_batch_size: Count = 8
    """Number of questions that judge 'vqa' answers at once, or of pictures that 'clip' reads."""
