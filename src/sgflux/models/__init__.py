"""FLUX, the graph encoders, and how a graph enters FLUX."""
