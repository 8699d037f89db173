"""Pictures of fixed graphs that are drawn during a training."""

from __future__ import annotations

from pathlib import Path

from sgflux.settings.checks import expect_defaults, settings
from sgflux.settings.flat import Input


@settings
class SampleGraphSettings:
    """Pictures of fixed graphs that are drawn during a training."""

    sample_graphs: Input[Path | None] = None
    """File of graphs that are drawn with every validation, always from the same noise and in
    --sample-steps steps: one graph a line, like "man, riding, horse", or in JSON
    (docs/watching.md)."""
    judge: str | None = None
    """Judge that reads the pictures of --sample-graphs, as in 'sgflux eval --help'; 'none' leaves
    them unread. By default it is 'world' with --model-id tiny, and else 'none'."""

    def __post_init__(self) -> None:
        """Check that every value given has an effect."""
        if self.sample_graphs is None:
            expect_defaults(self, "without sample_graphs", "judge")
