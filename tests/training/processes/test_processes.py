"""How processes divide the forward passes of a step, and who shares a base with whom.

If one of these failed, a pass would be left out or count twice, or the cards of different machines
would send each other the base's weights.
"""

from __future__ import annotations

import math

import pytest
import torch

from sgflux.errors import SgfluxError
from sgflux.training.processes.processes import Processes
from tests.helpers.training import TwoInOne

CPU = torch.device("cpu")


@pytest.mark.parametrize(("total", "count"), [(1, 1), (4, 1), (4, 2), (3, 2), (8, 3), (2, 5)])
def test_every_pass_counts_once_and_processes_do_equally_many(total: int, count: int) -> None:
    shares = [Processes(index=i, count=count, device=CPU).passes(total) for i in range(count)]
    assert len({len(share) for share in shares}) == 1
    counted = [place for share in shares for place, divisor in share if divisor < math.inf]
    assert sorted(counted) == list(range(total))
    weights = [1 / divisor for share in shares for _, divisor in share]
    assert sum(weights) / count == pytest.approx(1), "the mean over processes is that over passes"


@pytest.mark.parametrize(("here", "expected"), [("8", 8), ("1", 16), (None, 16)])
def test_a_base_is_shared_within_a_machine_that_has_several_processes(
    here: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if here is None:
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    else:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    assert TwoInOne(index=0, count=16, device=CPU).sharers() == expected


def test_one_process_has_nobody_to_share_a_base_with() -> None:
    with pytest.raises(SgfluxError, match="shard_base has no effect with one process"):
        Processes(index=0, count=1, device=CPU).sharers()
