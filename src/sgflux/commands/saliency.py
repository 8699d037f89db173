"""``sgflux saliency``."""

from __future__ import annotations

from collections.abc import Sequence

from sgflux import sampling
from sgflux.commands.command import Command
from sgflux.commands.inputs import check_given
from sgflux.sampling.given import given_graph
from sgflux.settings.sampling import SaliencyConfig
from sgflux.terminal.printable import counted
from sgflux.terminal.quiet import hide_loading_bars


def run(command: Command, arguments: Sequence[str]) -> int:
    """Draw heat maps of a graph's parts over a picture."""
    config = command.parse(SaliencyConfig, arguments)
    given_graph(config)
    check_given(config.model, config.trained)
    with command.hold(config.output_dir):
        hide_loading_bars()
        *maps, sheet = sampling.saliency(config)
    print(f"{counted(len(maps), 'heat map')} in {config.output_dir}, side by side in {sheet}")
    return 0


COMMAND = Command(
    words=("saliency",),
    purpose="Show which parts of a picture depend on subject, predicate and object",
    example='sgflux saliency --adapter tiny --image drawn.png --graph "man, riding, horse"',
    run=run,
)
