"""The predicate tables as documented, exact lookup, and extension by the user.

If one of these failed, a predicate's class id, kind, inverse or symmetry would change under
trained adapters, or an extension would be misread.
"""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest

from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import (
    CANONICAL_PREDICATES,
    CGIP_PREDICATES,
    DEFAULT_VOCABULARY,
    PredicateKind,
    PredicateVocabulary,
    UnknownPredicateError,
)

VOCABULARY = DEFAULT_VOCABULARY

# Written out again, and not imported: the documented tables are a contract.
DOCUMENTED_NAMES = (
    "above, around/near, behind, below, carrying, drinking, eating, hanging from, holding, in, "
    "in front of, left of, looking at, on, playing with, pulling, pushing, riding, right of, "
    "sitting on, standing on, touching, using, wearing"
)
DOCUMENTED_ALIASES = """
left of: to the left of, left; right of: to the right of, right; above: over, higher than;
below: under, underneath, beneath, lower than; behind: in back of, at the back of;
in front of: before, ahead of; in: inside, within; on: on top of, upon;
around/near: around, near, beside, next to, by, close to; holding: hold, grasping;
carrying: carry; wearing: wears, has on; riding: ride; looking at: look at, watching, watch;
touching: touch; using: use; pushing: push; pulling: pull; sitting on: sit on, sat on;
standing on: stand on; hanging from: hang from, hanging on; eating: eat; drinking: drink;
playing with: play with
"""


def test_class_ids_are_the_alphabetical_order() -> None:
    assert ", ".join(CANONICAL_PREDICATES) == DOCUMENTED_NAMES
    assert list(CANONICAL_PREDICATES) == sorted(CANONICAL_PREDICATES)
    assert len(VOCABULARY) == 24
    assert VOCABULARY.class_id("above") == 0
    assert VOCABULARY.class_id("riding") == 17
    assert VOCABULARY.class_id("wearing") == 23


def test_cgip_supports_all_but_eight() -> None:
    left_out = "drinking, left of, playing with, pulling, pushing, right of, touching, using"
    assert sorted(set(CANONICAL_PREDICATES) - set(CGIP_PREDICATES)) == left_out.split(", ")
    assert len(CGIP_PREDICATES) == 16


def test_aliases_are_the_documented_ones() -> None:
    documented = {}
    for entry in DOCUMENTED_ALIASES.replace("\n", " ").split(";"):
        name, aliases = entry.split(":")
        documented.update({alias.strip(): name.strip() for alias in aliases.split(",")})
    assert dict(VOCABULARY.aliases) == documented


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Riding", "riding"),
        ("  in   Front of ", "in front of"),
        ("IN\tFRONT\nOF", "in front of"),
        ("nextto", "around/near"),
        ("around / near", "around/near"),
        ("UNDER", "below"),
    ],
)
def test_lookup_ignores_case_and_white_space(text: str, name: str) -> None:
    assert VOCABULARY.canonical(text) == name
    assert VOCABULARY.normalize(text) == name
    assert text in VOCABULARY


def test_unknown_word_is_named_with_its_nearest() -> None:
    with pytest.raises(UnknownPredicateError, match=r"'rideing'.*'riding'") as caught:
        VOCABULARY.canonical("rideing")
    assert caught.value.value == "rideing"
    assert caught.value.nearest[0] == "riding"
    assert isinstance(caught.value, ValueError)
    with pytest.raises(UnknownPredicateError, match=r"'beneth'.*'beneath'"):
        VOCABULARY.class_id("beneth")
    with pytest.raises(UnknownPredicateError, match="'zzz'; no known name is near it"):
        VOCABULARY.kind("zzz")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_part_of_a_name_is_no_alias() -> None:
    for text in ("riding on", "front", "of the left", "on the back of", "in the front of", ""):
        assert text not in VOCABULARY


def test_open_lookup_takes_any_word_but_not_none() -> None:
    assert VOCABULARY.normalize("  Kicking  AT ") == "kicking at"
    with pytest.raises(SgfluxError, match="must not be empty"):
        VOCABULARY.normalize("  ")
    with pytest.raises(SgfluxError, match="must be a string, got 3"):
        VOCABULARY.normalize(3)  # type: ignore[arg-type]


def test_inverses_and_symmetry() -> None:
    pairs = [("above", "below"), ("left of", "right of"), ("in front of", "behind")]
    for a, b in pairs:
        assert VOCABULARY.inverse(a) == b
        assert VOCABULARY.inverse(b) == a
    assert VOCABULARY.inverse("over") == "below"
    assert {n for n in VOCABULARY if VOCABULARY.inverse(n)} == {n for p in pairs for n in p}
    assert {n for n in VOCABULARY if VOCABULARY.is_symmetric(n)} == {"around/near", "touching"}
    for name in VOCABULARY:
        assert VOCABULARY.is_symmetric(name) != VOCABULARY.is_asymmetric(name)


def test_of_an_unknown_word_nothing_is_claimed() -> None:
    assert VOCABULARY.inverse("kicking") is None
    assert not VOCABULARY.is_symmetric("kicking")
    assert not VOCABULARY.is_asymmetric("kicking")


def test_every_predicate_has_a_kind() -> None:
    assert VOCABULARY.kind("left") is PredicateKind.SPATIAL
    assert VOCABULARY.kind("sat on") == "contact"
    assert VOCABULARY.kind("pull") == "action"
    assert set(VOCABULARY.kinds) == set(CANONICAL_PREDICATES)


def test_extension_keeps_the_class_ids_and_the_original() -> None:
    extended = VOCABULARY.with_aliases({"Atop": "on top of"}).with_predicate(
        "Attending", kind="action"
    )
    assert extended.canonical("atop") == "on"
    assert extended.class_id("attending") == 24
    assert extended.names[:24] == CANONICAL_PREDICATES
    assert extended.is_asymmetric("attending")
    assert "atop" not in VOCABULARY
    assert len(VOCABULARY) == 24
    assert extended != VOCABULARY


def test_extension_refuses_contradictions() -> None:
    with pytest.raises(SgfluxError, match="'over' of 'below' already means 'above'"):
        VOCABULARY.with_aliases({"over": "below"})
    with pytest.raises(SgfluxError, match="'riding' of 'on' already means 'riding'"):
        VOCABULARY.with_aliases({"riding": "on"})
    with pytest.raises(UnknownPredicateError, match="'rding'"):
        VOCABULARY.with_aliases({"mounted on": "rding"})
    with pytest.raises(SgfluxError, match="'ride' is already known as 'riding'"):
        VOCABULARY.with_predicate("ride", kind="action")
    with pytest.raises(SgfluxError, match=r"must be one of 'spatial', 'contact', 'action'.*'odd'"):
        VOCABULARY.with_predicate("kicking", kind="odd")
    with pytest.raises(SgfluxError, match="'below' cannot be the inverse of 'atop'"):
        VOCABULARY.with_predicate("atop", kind="spatial", inverse="below")
    with pytest.raises(SgfluxError, match="cannot be symmetric and have an inverse"):
        VOCABULARY.with_predicate("covering", kind="contact", inverse="wearing", symmetric=True)
    assert VOCABULARY.with_aliases({"over": "above"}) == VOCABULARY


def test_extension_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "predicates.json"
    path.write_text(
        json.dumps(
            {
                "predicates": [
                    {"name": "part of", "kind": "contact"},
                    {"name": "made of", "kind": "contact", "inverse": "part of"},
                    {"name": "parallel to", "kind": "spatial", "symmetric": True},
                ],
                "aliases": {"built from": "made of", "atop": "on"},
            }
        )
    )
    extended = PredicateVocabulary.from_json(path)
    assert extended.class_id("built from") == 25
    assert extended.inverse("part of") == "made of"
    assert extended.is_symmetric("parallel to")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "predicates.json: not JSON"),
        ("[]", "must hold one JSON object, has list"),
        ('{"alias": {}}', r"unknown fields \['alias'\]"),
        ('{"predicates": {}}', "'predicates' must be a list"),
        ('{"aliases": []}', "'aliases' must be an object"),
        ('{"aliases": {"atop": 3}}', "must be a string, got 3"),
        ('{"predicates": ["kicking"]}', r"predicates\[0\] must be an object"),
        ('{"predicates": [{"name": "kicking"}]}', r"predicates\[0\]: needs 'name' and 'kind'"),
        (
            '{"predicates": [{"name": "kicking", "kind": "action", "symmetric": 1}]}',
            r"predicates\[0\]: 'symmetric' must be true or false",
        ),
        (
            '{"predicates": [{"name": "made of", "kind": "contact", "inverse": "part of"}]}',
            r"predicates.json: predicates\[0\]: unknown predicate 'part of'",
        ),
    ],
)
def test_a_bad_file_is_named_with_the_entry(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "predicates.json"
    path.write_text(content)
    with pytest.raises(SgfluxError, match=message):
        PredicateVocabulary.from_json(path)


def test_vocabulary_is_frozen_and_travels_to_worker_processes() -> None:
    extended = VOCABULARY.with_predicate("kicking", kind="action")
    for twin in (pickle.loads(pickle.dumps(extended)), copy.deepcopy(extended)):
        assert twin == extended
        assert hash(twin) == hash(extended)
    with pytest.raises(TypeError):
        VOCABULARY.aliases["x"] = "on"  # type: ignore[index]
    with pytest.raises(AttributeError):
        VOCABULARY.names = ()  # type: ignore[misc]
