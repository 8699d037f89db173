"""V-COCO (Gupta and Malik 2015, arXiv:1505.04474): verbs of people, with COCO's boxes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from sgflux.data.files import resolve_path
from sgflux.errors import SgfluxError, located
from sgflux.evaluation.known.coco import Coco
from sgflux.evaluation.known.pictures import KnownPicture, KnownSet, KnownStatement, Source
from sgflux.files.json_files import read_json
from sgflux.graphs.scene_graph import Triple

_WORDINGS = {
    ("cut", "instr"): "cutting with",
    ("drink", "instr"): "drinking from",
    ("eat", "instr"): "eating with",
    ("hit", "instr"): "hitting with",
    ("jump", "instr"): "jumping on",
    ("lay", "instr"): "lying on",
    ("look", "obj"): "looking at",
    ("point", "instr"): "pointing at",
    ("sit", "instr"): "sitting on",
    ("ski", "instr"): "skiing on",
    ("skateboard", "instr"): "skateboarding on",
    ("snowboard", "instr"): "snowboarding on",
    ("surf", "instr"): "surfing on",
    ("talk_on_phone", "instr"): "talking on",
    ("work_on_computer", "instr"): "working on",
}


def wording(action: str, role: str) -> str:
    """Return the predicate that V-COCO's action has towards the object in a role."""
    return _WORDINGS.get((action, role), action)


class _Action(Struct):
    action_name: str
    role_name: list[str]
    image_id: list[int]
    label: list[int]
    role_object_id: list[int]

    def pairs(self) -> Iterator[tuple[int, str, int, int]]:
        """Yield (picture, role, person, object) of everybody who does it to an annotated object.

        ``role_object_id`` has all agents, then everybody's object in the first other role, ...
        """
        count = len(self.label)
        for number, role in enumerate(self.role_name[1:], start=1):
            targets = self.role_object_id[number * count : (number + 1) * count]
            people = self.role_object_id[:count]
            for image, label, person, target in zip(
                self.image_id, self.label, people, targets, strict=True
            ):
                if label and target:
                    yield image, role, person, target


def read_vcoco(path: Path, coco: Coco, images_dir: Path) -> KnownSet:
    """Read V-COCO's file, with the COCO objects that its numbers are of.

    Raises:
        SgfluxError: naming the file and what it lacks.
    """
    actions = read_json(path, list[_Action], way_out="get the file of V-COCO again")
    known: dict[int, list[KnownStatement]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for action in actions:
        for image, role, person, target in action.pairs():
            if person not in coco.names or target not in coco.names:
                left_out["relations of objects that the instances lack"] += 1
                continue
            words = wording(action.action_name, role)
            with located(f"{path}: the action {action.action_name!r} in image {image}"):
                triple = Triple(coco.names[person], words, coco.names[target])
            known[image].append(KnownStatement(triple, True, Source.STATED))
    if not known:
        raise SgfluxError(
            f"{path}: none of its relations is about objects of COCO's instances; name those of "
            "the same pictures (V-COCO is of COCO's train2014 and val2014)"
        )
    return KnownSet(
        [
            KnownPicture(
                path=resolve_path(coco.files[image], images_dir),
                statements=tuple(dict.fromkeys(statements)),
            )
            for image, statements in known.items()
        ],
        dict(left_out),
    )
