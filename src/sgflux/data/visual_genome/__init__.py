"""Readers of Visual Genome: of the raw release and of the HDF5 files that others made of it."""
