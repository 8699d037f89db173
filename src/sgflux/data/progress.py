"""One way to show progress: a bar on stderr, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress_bar(total: int | None, what: str, *, show: bool) -> Iterator[Callable[[int], object]]:
    """Show a bar, or nothing; yield a function that takes the number of items just done.

    Args:
        total: number of items, if known.
        what: label of the bar.
        show: False shows nothing.
    """
    with tqdm(total=total, desc=what, file=sys.stderr, disable=not show) as bar:
        yield bar.update
