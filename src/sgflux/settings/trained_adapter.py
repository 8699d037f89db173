"""Which trained adapter is put onto the base model."""

from __future__ import annotations

from pathlib import Path

from sgflux.settings.checks import settings


@settings
class TrainedAdapter:
    """Which trained adapter is put onto the base model."""

    adapter: Path | None = None
    """Folder of a trained adapter (final/ of a run), or its id[@revision] on the hub, or
    'tiny', which comes with sgflux. By default the base model is used alone, which reads no
    graph."""
    allow_other_base: bool = False
    """Accept an adapter that was trained on another base (a merge, a fine-tune). Records and the
    report then name both bases (docs/resume.md)."""
