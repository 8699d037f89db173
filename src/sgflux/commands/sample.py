"""``sgflux sample``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sgflux import sampling
from sgflux.commands.command import Command
from sgflux.commands.inputs import check_given
from sgflux.commands.together import together
from sgflux.data.given_boxes import layout_by_name, read_boxes
from sgflux.sampling.given import given_graphs
from sgflux.settings.sampling import SampleConfig
from sgflux.terminal.printable import counted
from sgflux.terminal.quiet import hide_loading_bars


def run(command: Command, arguments: Sequence[str]) -> int:
    """Draw pictures of scene graphs."""
    config = command.parse(SampleConfig, arguments)
    graphs = given_graphs(config)
    if config.boxes is not None and not isinstance(boxes := read_boxes(config.boxes), str):
        for one in graphs:
            layout_by_name(one.graph, boxes)
    check_given(config.model, config.trained)
    with together(command, config) as (config, (companions, _, say)):
        hide_loading_bars()
        *pictures, sheet = sampling.sample(config, companions=companions, say=say)
    say(
        f"{counted(len(pictures), 'picture')} of {_pixels(pictures[0])} pixels in "
        f"{config.output_dir}, side by side in {sheet}"
    )
    return 0


def _pixels(picture: Path) -> str:
    from PIL import Image

    with Image.open(picture) as image:
        return f"{image.height} x {image.width}"


COMMAND = Command(
    words=("sample",),
    purpose="Draw what a scene graph states",
    example='sgflux sample --adapter tiny --graph "man, riding, horse"',
    run=run,
)
