"""Settings that stand in several groups with the same meaning: each is described here once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from sgflux.settings.checks import Count
from sgflux.settings.flat import Flag

Crop = Literal["auto", "none", "center", "union"]

OutputDir = Annotated[Path, Flag(former=("out_dir",))]
_WRITTEN = Flag(former=("out",), is_output=True)
OutputFile = Annotated[Path, _WRITTEN]
OptionalOutputFile = Annotated[Path | None, _WRITTEN]
MaxSteps = Annotated[Count, Flag(former=("steps",))]

ImagesDir = Annotated[
    Path | None,
    Flag(
        help="Root folder of the image paths in the data files. By default it is the folder of "
        "each data file.",
        is_input=True,
    ),
]
LatentCacheDir = Annotated[
    Path | None,
    Flag(
        help="Folder that keeps encoded pictures and texts from one run to the next. By default "
        "they are encoded anew and kept in memory."
    ),
]
TextFormat = Literal["bf16", "int8", "low_rank"]
TextCache = Annotated[
    TextFormat,
    Flag(
        help="Form in which --latent-cache-dir holds the features of texts: 'bf16' changes "
        "nothing, 'int8' takes half of the space, and 'low_rank' takes a quarter and refuses texts "
        "that fill their prompt (docs/performance.md)."
    ),
]
VocabularyFile = Annotated[
    Path | None,
    Flag(
        help="JSON file with predicates and aliases of your own, which are added to the 24 that "
        "are built in (docs/graphs.md).",
        is_input=True,
    ),
]
AspectBuckets = Annotated[
    bool,
    Flag(
        help="Give every picture the size of the nearest of several aspect ratios, up to 2:1, "
        "whose area is about --height times --width, so that less of it is cut off. Each batch "
        "has one size."
    ),
]
MaxSequenceLength = Annotated[
    Count | None,
    Flag(
        help="Number of text tokens of a prompt. By default it is as many as the tokenizer "
        "allows, at most 256."
    ),
]
