"""Prompt lists of published benchmarks, read from the user's own copy into graphs."""
