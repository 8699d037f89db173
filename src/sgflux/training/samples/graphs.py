"""The graphs that are drawn during a training, read and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sgflux.data.examples import SceneExample
from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.graphs.names import graph_names
from sgflux.graphs.predicates import PredicateVocabulary, UnknownPredicateError
from sgflux.graphs.reading import GivenGraph, read_graph_file
from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError
from sgflux.sampling.given import stating
from sgflux.settings.graph_encoder import GraphEncoderSettings
from sgflux.training.encoding.graph_encoder import cgip_vocabulary


@dataclass(frozen=True)
class SampleGraph:
    """A graph that is drawn during a training.

    Attributes:
        where: Place of the graph in its file.
        graph: The graph.
        caption: Text form of the graph.
        prompt: Text of the picture, which names the objects only.
    """

    where: str
    graph: SceneGraph
    caption: str
    prompt: str

    @classmethod
    def of(cls, given: GivenGraph) -> SampleGraph:
        """What is drawn of a graph that a user gave."""
        graph = given.graph
        try:
            caption = graph.to_text()
        except SceneGraphError:
            caption = "; ".join(map(str, graph.labelled_triples()))
        return cls(given.where, graph, caption, prompts_for_graph(graph, "neutral"))


def read_sample_graphs(
    path: Path,
    *,
    examples: Iterable[SceneExample],
    known: PredicateVocabulary,
    encoder: GraphEncoderSettings,
    say: Callable[[str], None],
) -> list[SampleGraph]:
    """Read the graphs of a file that the run can draw.

    Args:
        path: File of the graphs, see :func:`sgflux.graphs.reading.read_graph_file`.
        examples: Training examples, whose predicates may be used as well.
        known: Known predicates.
        encoder: Settings of the graph encoder, which has to read the graphs.
        say: Function that shows a line to the user.

    Raises:
        SgfluxError: naming the line of the first graph that is none, has an unknown predicate, or
            cannot be read by the encoder.
    """
    trained = {word for one in examples for _, word, _ in one.graph.relationships}
    vocabulary = None if encoder.kind == "native" else cgip_vocabulary(encoder)
    samples = []
    for given in map(stating, read_graph_file(path, vocabulary=known, open_vocabulary=True)):
        graph = given.graph
        if (remark := given.remark()) is not None:
            say(remark)
        try:
            for _, word, _ in graph.relationships:
                if word not in trained:
                    known.canonical(word)
                if vocabulary is not None:
                    vocabulary.predicate_id(word)
            if vocabulary is not None:
                for name in graph.objects:
                    vocabulary.object_id(name)
        except UnknownPredicateError as error:
            raise SgfluxError(
                f"{given.where}: {error}, and no training example has it (--vocabulary FILE adds "
                "your own)"
            ) from error
        except SgfluxError as error:
            raise SgfluxError(f"{given.where}: {error}") from error
        samples.append(SampleGraph.of(given))
    return samples


def names_of(samples: Iterable[SampleGraph], encoder: GraphEncoderSettings) -> list[str]:
    """Names and statements whose features the graph encoder looks up for these graphs."""
    return graph_names(one.graph for one in samples) if encoder.kind == "native" else []
