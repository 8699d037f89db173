"""The numbers of triples that a world is asked for.

If one of these failed, a world would have scenes of other sizes than the user asked for.
"""

from __future__ import annotations

import pytest

from sgflux.errors import SgfluxError
from sgflux.world.rows import parse_triples


@pytest.mark.parametrize("bad", ["", "0", "5", "1,1", "one", "1,", 0, -1])
def test_bad_numbers_of_triples(bad: int | str):
    with pytest.raises(SgfluxError, match="triples must be numbers from 1 to 4"):
        parse_triples(bad)


def test_good_numbers_of_triples():
    assert parse_triples(2) == (2,)
    assert parse_triples("1, 3") == (1, 3)
