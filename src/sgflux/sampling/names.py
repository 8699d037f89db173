"""Check, before the first picture is drawn, that the text encoder can read a graph's names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sgflux.graphs.names import graph_names
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.preflight.data import check_names
from sgflux.sampling.pipeline import SceneGraphFluxPipeline


def check_graph_names(
    pipeline: SceneGraphFluxPipeline, graphs: Iterable[SceneGraph], *, files: Sequence[Path] = ()
) -> None:
    """Check that the text encoder can read every name of graphs that an adapter will read.

    The cgip encoder has a vocabulary of its own, and nothing is checked for it.

    Args:
        pipeline: Pipeline of a base, with an adapter or without.
        graphs: Graphs that the encoder will be given.
        files: Data sets that have the graphs, for the message.

    Raises:
        SgfluxError: which says the name, and the line of the file that has it.
    """
    if pipeline.model is None or pipeline.model.config.encoder.get("kind") != "native":
        return
    names = graph_names(graphs)
    check_names(names, unreadable=pipeline.text_encoders.unreadable(names), files=files)
