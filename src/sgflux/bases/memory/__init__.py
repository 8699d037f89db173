"""Time and memory of a base: quantisation, offloading, recomputation, compilation, kernels."""
