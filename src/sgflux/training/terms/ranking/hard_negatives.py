"""Which predicates the model itself confuses, measured on the validation split.

Every validation example is explained under its own graph, and under those in which its predicate is
replaced by each other one that is false of the picture, on the same latents, noise and sigma. Where
a false one explains it better, the two are confused.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.training.processes.processes import Processes
from sgflux.training.terms.errors import preference
from sgflux.training.terms.ranking.negatives import replaced_predicates
from sgflux.training.validation import ErrorOf, Validator


@torch.no_grad()
def measured_mistakes(
    validator: Validator,
    error_of: ErrorOf,
    *,
    predicates: Sequence[str],
    processes: Processes,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
) -> list[tuple[str, str, float]]:
    """Observations for :meth:`sgflux.training.terms.ranking.negatives.ConfusionTable.counted`.

    Args:
        validator: Has the items that are explained, at the middle one of its noise levels.
        error_of: Computes e(g).
        predicates: Replacements to try.
        processes: Processes that share the items, each on the device of its ``error_of``.
        vocabulary: Known predicates, and which statements are the same.

    Returns:
        (true predicate, other predicate, 1 where the other one explained the picture better, 1/2
        for a tie, else 0), one for each item of this process and false replacement.
    """
    examples = [validator.example(item) for item in validator.items]
    middle = len(validator.sigmas) // 2
    found = []
    chunks = validator.chunks(range(processes.index, len(validator.items), processes.count))
    idle = [[0]] * validator.idle_batches(processes)
    for number, chosen in enumerate((*chunks, *idle)):
        batch = validator.batch([validator.items[place] for place in chosen], middle)
        batch = batch.to(processes.device)
        options = [
            replaced_predicates(
                examples[place],
                predicates=predicates,
                known=validator.items[place].known,
                vocabulary=vocabulary,
            )
            for place in chosen
        ]
        tried = sorted({predicate for option in options for predicate in option})
        if processes.count > 1:
            tried = sorted(predicates)  # equally many in every process
        # The true graph stands in where a replacement is not false, and its error is not used.
        alternatives = [
            [option.get(name, graph) for option, graph in zip(options, batch.graphs, strict=True)]
            for name in tried
        ]
        true, *others = error_of(batch, [batch.graphs, *alternatives])
        if number >= len(chunks):
            continue
        for name, errors in zip(tried, others, strict=True):
            preferred = (1 - preference(true, errors)).tolist()
            found += [
                (examples[place].triple.predicate, name, value)
                for place, option, value in zip(chosen, options, preferred, strict=True)
                if name in option
            ]
    return found
