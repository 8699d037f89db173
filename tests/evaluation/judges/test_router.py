"""Several judges as one: who they are together, and that nobody takes them for others.

If one of these failed, figures of one judge would be corrected by the errors of another one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from sgflux.errors import SgfluxError
from sgflux.evaluation.correction import correction_of
from sgflux.evaluation.judges.judge import JudgeIdentity, refuse_equal_names
from sgflux.evaluation.judges.router import Router
from sgflux.evaluation.known.figures import calibration_of
from sgflux.evaluation.known.file import calibration_for, is_of, write_calibration
from sgflux.graphs.scene_graph import SceneGraph
from tests.helpers.judges import Says


def asks(name: str, predicate: str, *, model: str, sha256: str | None) -> Says:
    judge = Says(name, [predicate])
    judge.identity = JudgeIdentity(name, sha256, model=model)
    return judge


class OnlyNames(Says):
    """Refuses what a judge refuses that knows names alone."""

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        super().check(graphs)
        refuse_equal_names(self.checked, self.identity.name)


GEOMETRY = asks("geometry", "on", model="detector A", sha256="a" * 64)
VQA = asks("vqa", "riding", model="network A", sha256="b" * 64)
ROUTER = Router([GEOMETRY, VQA])

OTHERS: dict[str, Router] = {
    "another detector": Router([asks("geometry", "on", model="B", sha256="c" * 64), VQA]),
    "another network": Router([GEOMETRY, asks("vqa", "riding", model="B", sha256="c" * 64)]),
    "networks without digests": Router(
        [asks("geometry", "on", model="B", sha256=None), asks("vqa", "on", model="C", sha256=None)]
    ),
}


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "c.json"
    figures = calibration_of(ROUTER, [], []) | {"standing": {"on": {}, "riding": {}}}
    write_calibration(path, figures, data=[])
    return path


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_calibration_of_several_judges_is_refused_for_other_models(
    calibration: Path, other: Router
) -> None:
    with pytest.raises(SgfluxError, match=r"of 'geometry,vqa' \(detector A, network A, SHA-256 "):
        calibration_for(other, calibration)
    content = json.loads(calibration.read_text())
    assert not any(is_of(content, other, name) for name in ("on", "riding"))
    assert is_of(content, ROUTER, "on") is is_of(content, ROUTER, "riding") is True
    assert not correction_of(content, ["on", "riding"], other)["rates"]


def test_the_same_judges_elsewhere_read_their_calibration(calibration: Path) -> None:
    """A model is known by its weights, wherever its folder is, like that of one judge alone."""
    moved = asks("geometry", "on", model="./elsewhere", sha256="a" * 64)
    content = calibration_for(Router([moved, VQA]), calibration)
    assert set(content["standing"]) == {"on", "riding"}
    assert content["judge"]["judges"] == [
        {"name": "geometry", "model": "detector A", "sha256": "a" * 64},
        {"name": "vqa", "model": "network A", "sha256": "b" * 64},
    ]
    with pytest.raises(SgfluxError, match="but the judge is 'vqa,geometry'"):
        calibration_for(Router([VQA, GEOMETRY]), calibration)


@pytest.mark.parametrize("lacks", [{"sha256", "judges"}, {"sha256", "model", "judges"}])
def test_a_calibration_that_does_not_say_who_was_asked_is_refused(
    calibration: Path, lacks: set[str]
) -> None:
    content = json.loads(calibration.read_text())
    content["judge"] = {"name": "geometry,vqa", "model": None, "sha256": None}
    content["judge"] = {key: v for key, v in content["judge"].items() if key not in lacks}
    calibration.write_text(json.dumps(content))
    with pytest.raises(SgfluxError, match=r"does not say which models were asked; calibrate this"):
        calibration_for(ROUTER, calibration)
    assert is_of(content, ROUTER, "on") is False


def test_judges_without_weights_are_told_apart_by_their_models(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    own = asks("own", "on", model="A", sha256=None)
    write_calibration(path, calibration_of(own, [], []), data=[])
    assert calibration_for(own, path)["judge"]["model"] == "A"
    with pytest.raises(SgfluxError, match=re.escape("of 'own' (A), but the judge is 'own' (B)")):
        calibration_for(asks("own", "on", model="B", sha256=None), path)


def test_a_judge_does_not_refuse_statements_that_go_to_another_one() -> None:
    """As 'vqa' beside 'geometry', which tells two dogs apart."""
    first, second = Says("geometry", ["left of"]), OnlyNames("vqa", ["left of", "riding", "on"])
    router = Router([first, second])
    router.check([SceneGraph.parse("dog, left of, dog#2; man, riding, horse")])
    assert [one.to_text() for one in first.checked] == ["dog, left of, dog#2; (man); (horse)"]
    assert [one.to_text() for one in second.checked] == ["(dog); (dog#2); man, riding, horse"]
    router.check([SceneGraph.parse("dog, left of, dog#2; dog#2, on, sofa")])
    (seen,) = second.checked
    assert [str(one) for one in seen.labelled_triples()] == ["dog#2, on, sofa"]
    with pytest.raises(SgfluxError, match=r"judge 'vqa' cannot tell .* 'dog, on, dog' apart"):
        router.check([SceneGraph.parse("dog, left of, dog#2; dog, on, dog#2")])
