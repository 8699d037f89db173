"""The graphs that a command line gives, which are read without torch."""

from __future__ import annotations

from typing import Any

from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import vocabulary_of
from sgflux.graphs.reading import GivenGraph, read_graph, read_graph_file
from sgflux.settings.sampling import SaliencyConfig, SampleConfig
from sgflux.settings.vocabulary import VocabularySettings


def given_graphs(config: SampleConfig) -> list[GivenGraph]:
    """All graphs of the command line and of the file, in this order.

    Raises:
        SgfluxError: naming the graph that cannot be read or states nothing.
    """
    known = _known(config.vocabulary)
    given = [read_graph(text, **known) for text in config.graph]
    if config.graph_file is not None:
        given += read_graph_file(config.graph_file, **known)
    return [stating(one) for one in given]


def given_graph(config: SaliencyConfig) -> GivenGraph:
    """The graph that is looked for in a picture.

    Raises:
        SgfluxError: if it cannot be read or states nothing.
    """
    return stating(read_graph(config.graph, **_known(config.vocabulary)))


def _known(vocabulary: VocabularySettings) -> dict[str, Any]:
    return {
        "vocabulary": vocabulary_of(vocabulary.vocabulary),
        "open_vocabulary": vocabulary.open_vocabulary,
    }


def stating(given: GivenGraph) -> GivenGraph:
    """The graph, if it states anything.

    Raises:
        SgfluxError: naming the graph, if it states nothing.
    """
    if given.graph.is_null:
        raise SgfluxError(f'{given.where} states no relation; write one like "man, riding, horse"')
    return given
