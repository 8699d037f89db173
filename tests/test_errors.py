"""What the errors for users carry besides their message.

If one of these failed, the page would tell its users to give flags of the command line, or an error
would lose its end on the way through a file reader or a worker process.
"""

from __future__ import annotations

import pickle

import pytest

from sgflux.errors import SgfluxError, located
from sgflux.graphs.reading import read_graph


def test_the_reason_is_the_message_without_the_advice() -> None:
    error = SgfluxError("too many objects", advice="; use judge 'none'")
    assert str(error) == "too many objects; use judge 'none'"
    assert error.reason == "too many objects"
    plain = SgfluxError("no such file; give another")
    assert plain.reason == str(plain) == "no such file; give another"


def test_advice_survives_a_place_and_a_worker_process() -> None:
    with pytest.raises(SgfluxError) as caught, located("a.json, line 3"):
        raise SgfluxError("too many objects", advice="; use judge 'none'")
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert str(error) == "a.json, line 3: too many objects; use judge 'none'"
        assert error.reason == "a.json, line 3: too many objects"


def test_a_place_before_an_error_of_another_library() -> None:
    with (
        pytest.raises(SgfluxError, match=r"^a\.json: bad key$") as caught,
        located("a.json", OSError),
    ):
        raise OSError("bad key")
    assert caught.value.reason == "a.json: bad key"


def test_an_unknown_predicate_has_flags_only_in_its_advice() -> None:
    with pytest.raises(SgfluxError) as caught:
        read_graph("dog, abov, box", where="")
    assert "--open-vocabulary" in str(caught.value)
    assert caught.value.reason.startswith("unknown predicate 'abov'; nearest known: 'above'")
    assert "--" not in caught.value.reason
