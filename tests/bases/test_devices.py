"""Names of devices.

If this failed, a wrong name would be answered with the names of devices that nobody has.
"""

from __future__ import annotations

import pytest

from sgflux.bases.devices import usable_device
from sgflux.errors import SgfluxError


def test_what_is_no_device_is_refused_with_those_that_are_usual() -> None:
    with pytest.raises(SgfluxError, match="'cpu', 'cuda', 'cuda:1' or 'mps', got 'banana'"):
        usable_device("banana")
