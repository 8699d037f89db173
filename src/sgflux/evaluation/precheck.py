"""The words of an evaluation's graphs are looked at before the first picture is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sgflux.evaluation.arms import EvaluationItem, PictureRequest
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.names import check_graph_names


def check_graphs(
    pipeline: SceneGraphFluxPipeline,
    items: Sequence[EvaluationItem],
    requests: Iterable[PictureRequest],
    *,
    data: Path,
) -> None:
    """Tokenise every name of every graph that will be drawn or ranked.

    Raises:
        SgfluxError: naming the test set's line and the word.
    """
    graphs: list[SceneGraph] = [request.graph for request in requests if request.graph is not None]
    for item in items:
        graphs.append(item.graph)
        changed = (item.negative, item.swapped, item.replaced)
        graphs += [negative.graph for negative in changed if negative is not None]
    check_graph_names(pipeline, graphs, files=[data])
