"""Scene graphs, their predicates and their typed negatives: standard library only."""
