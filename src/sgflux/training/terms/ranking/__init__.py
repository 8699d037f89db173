"""L_rel_rank, the ranking loss: the true graph is preferred to negatives.

:mod:`~sgflux.training.terms.ranking.ranking` is the term; one file a ranker, which says how badly a
graph goes with a picture.
"""
