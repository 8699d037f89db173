"""Relation classifiers, which rank graphs in a loss: their training and their figures."""
