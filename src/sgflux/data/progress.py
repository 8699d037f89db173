"""One way to show progress, a bar on stderr or nothing, and work in threads that shows it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


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


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, *, show: bool = False
) -> Iterator[tuple[Item, Result]]:
    """Do some work for each item in one thread a core, and yield (item, result) in their order.

    Args:
        work: Function of an item.
        items: Items.
        what: Label of the bar.
        show: False shows no bar.
    """
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress_bar(len(items), what, show=show) as advance,
    ):
        for pair in zip(items, pool.map(work, items), strict=True):
            yield pair
            advance(1)
