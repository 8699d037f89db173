"""Which rows a data set of annotated pictures gets, and in which form."""

from __future__ import annotations

from sgflux.settings.checks import NotNegative, Whole, settings


@settings
class RowSettings:
    """Which rows a data set of annotated pictures gets, and in which form."""

    tag: str = "vg_quickwin"
    """Beginning of the names of the files that are written."""
    seed: Whole = 42
    """Random seed of the data set; the same seed gives the same files."""
    prompt_template: str = "a photo of {subject} {predicate} {object}"
    """Form of the rows' own, relational prompt."""
    hold_out_combinations: Whole = 0
    """Number of combinations (subject, predicate, object) that occur in the test split alone, in up
    to half of its examples of each predicate."""
    graphs: bool = False
    """Write one row for each picture, with the whole graph of the picture."""
    mirror: bool = False
    """Add the mirror image of every training example, with left and right exchanged in words and
    boxes."""
    min_box_area: NotNegative = 1024.0
    """Smallest area of a box inside the picture, in square pixels; 1024 are 32 by 32, the smallest
    side that sg2im's preprocessing keeps."""
    allow_imbalance: bool = False
    """Go on if a predicate has fewer examples than asked for. Without this flag that is an
    error."""
