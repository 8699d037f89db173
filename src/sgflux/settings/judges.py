"""What the judges of pictures ask."""

from __future__ import annotations

from dataclasses import dataclass

from sgflux.settings.checks import typed_fields


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """What the judges of pictures ask."""

    detector: str | None = None
    """Detector of judge 'geometry': a folder with a detector.json (ONNX) or with a model of
    transformers (OWLv2, Grounding DINO), or a hub id, which is downloaded (docs/judges.md)."""

    def __post_init__(self) -> None:
        """Check every value."""
        typed_fields(self)
