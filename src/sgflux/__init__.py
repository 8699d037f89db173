"""Scene-graph-conditioned LoRA adapters for FLUX: train, sample, evaluate."""

__version__ = "0.1.0"
