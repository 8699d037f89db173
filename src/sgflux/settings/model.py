"""Which base model is meant when nothing is said."""

from __future__ import annotations

FLUX_SCHNELL = "black-forest-labs/FLUX.1-schnell"
"""The base that adapters are for unless another one is named, as its id on the hub."""
