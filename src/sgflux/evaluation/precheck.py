"""What an evaluation needs is looked at before the first picture is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sgflux.evaluation.arms import EvaluationItem, PictureRequest
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.preflight.data import check_pictures
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.names import check_graph_names
from sgflux.settings.drawing import SizeSettings
from sgflux.settings.shared import Crop

_ANY_SIZE = 1024  # a box is outside a picture or not, whatever the size of the result


def check_real_pictures(
    data: Path,
    items: Sequence[EvaluationItem],
    *,
    images_dir: Path,
    crop: Crop,
    size: SizeSettings,
    progress: bool,
) -> str | None:
    """Look at the pictures and boxes that the ranking accuracy reads when all arms are drawn.

    Args:
        data: File of the test examples, for messages.
        items: Items that will be ranked.
        images_dir: Root folder of the image paths.
        crop: Way in which a picture is brought to the size.
        size: Size of the pictures.
        progress: Whether a bar is shown on stderr.

    Returns:
        What was looked at; None if no picture was.

    Raises:
        SgfluxError: naming the test set's line, what is wrong and the way out.
    """
    return check_pictures(
        data,
        [item.example for item in items],
        images_dir=images_dir,
        crop=crop,
        height=size.height or _ANY_SIZE,
        width=size.width or _ANY_SIZE,
        progress=progress,
    )


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
