"""A detector as an ONNX file and a detector.json, as they are and as most exports are.

If one of these failed, boxes would lie elsewhere than the network said, or a wrong file would be
used without a word.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgflux.data.boxes import Box
from sgflux.data.images import load_image
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.detectors import make_detector
from sgflux.evaluation.judges.detectors.detector import Detection, best_of_overlapping
from sgflux.evaluation.judges.detectors.onnx import NanoDetOutput, OnnxDetector
from sgflux.evaluation.judges.geometry import GeometryJudge
from sgflux.evaluation.known.figures import calibration_of
from sgflux.evaluation.known.file import read_calibration, write_calibration
from tests.helpers.detectors import SIZE, write_onnx_detector
from tests.helpers.rows import SHARED_DATA

NANODET = SHARED_DATA / "nanodet"
BRIGHT = np.full((64, 256, 3), (255, 0, 0), np.uint8)  # twice as high, four times as wide
CAT, DOG = (8.0, 4.0, 16.0, 24.0), (40.0, 4.0, 60.0, 40.0)


def found(folder: Path, image: np.ndarray = BRIGHT, *names: str) -> dict[str, Box]:
    (own,) = OnnxDetector(str(folder)).find([image], [names or ("cat", "dog")])
    return {one.name: Box(*(round(side, 3) for side in one.box)) for one in own}


def test_boxes_are_those_of_the_picture_and_lie_inside_of_it(tmp_path: Path) -> None:
    folder = write_onnx_detector(tmp_path / "d", {"cat": CAT, "dog": DOG})
    assert found(folder) == {
        "cat": Box.from_corners((32, 8, 64, 48)),
        "dog": Box.from_corners((160, 8, 240, 64)),  # cut off at the lower edge
    }


@pytest.mark.parametrize(
    ("boxes", "output"),
    [
        ((8, 4, 8, 20), {"boxes_form": "xywh"}),
        ((12, 14, 8, 20), {"boxes_form": "cxcywh"}),
        ((8 / 64, 4 / 32, 16 / 64, 24 / 32), {"boxes_unit": "relative"}),
        ((12 / 64, 14 / 32, 8 / 64, 20 / 32), {"boxes_form": "cxcywh", "boxes_unit": "relative"}),
    ],
)
def test_every_form_of_a_box_is_read(tmp_path: Path, boxes: tuple, output: dict) -> None:
    folder = write_onnx_detector(tmp_path / "d", {"cat": boxes}, output=output)
    assert found(folder) == {"cat": Box.from_corners((32, 8, 64, 48))}


def test_boxes_may_stand_in_columns(tmp_path: Path) -> None:
    """As in the exports that put the candidates last."""
    one = (8.0, 4.0, 16.0, 24.0)
    two = (40.0, 4.0, 60.0, 20.0)
    three, four = (1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 9.0, 9.0)
    rows = np.array([one, two, three, four]).T
    names = ("cat", "dog", "ant", "bee")
    columns = {name: tuple(row) for name, row in zip(names, rows, strict=True)}
    folder = write_onnx_detector(tmp_path / "d", columns, output={"layout": "CN"})
    assert found(folder)["cat"] == Box.from_corners((32, 8, 64, 48))
    assert found(folder)["dog"] == Box.from_corners((160, 8, 240, 40))


def test_a_letterboxed_picture_is_put_back(tmp_path: Path) -> None:
    """A square of 128 fits as 32 by 32, 16 from the left or in the corner."""
    square = np.full((128, 128, 3), (255, 0, 0), np.uint8)
    for anchor, left in (("center", 16), ("top_left", 0)):
        box = (left + 8.0, 4.0, left + 16.0, 24.0)
        form = {"name": "image", "size": SIZE, "anchor": anchor}
        folder = write_onnx_detector(tmp_path / anchor, {"cat": box}, description={"input": form})
        assert found(folder, square) == {"cat": Box.from_corners((32, 16, 64, 96))}


def test_the_channels_come_in_the_order_that_the_file_says(tmp_path: Path) -> None:
    """The network looks at its first channel; the picture is red alone."""
    for channels, sees in (("RGB", True), ("BGR", False)):
        form = {"name": "image", "size": SIZE, "channels": channels}
        folder = write_onnx_detector(tmp_path / channels, {"cat": CAT}, description={"input": form})
        assert bool(found(folder)) is sees


def test_mean_and_deviation_are_those_of_the_file(tmp_path: Path) -> None:
    """A brightness of 127.5 is 0.5 with the usual numbers, and 0.25 with these."""
    gray = np.full((64, 128, 3), 127, np.uint8)
    form = {"name": "image", "size": SIZE, "mean": [63.5] * 3, "std": [254.0] * 3}
    scores = []
    for name, description in (("usual", {}), ("these", {"input": form})):
        folder = write_onnx_detector(
            tmp_path / name, {"cat": CAT}, description={"score_threshold": 0.1, **description}
        )
        ((own,),) = OnnxDetector(str(folder)).find([gray], [["cat"]])
        scores.append(own.score)
    assert scores == pytest.approx([127 / 255, 0.25], abs=1e-3)


def test_other_names_of_a_class_are_found_by_it(tmp_path: Path) -> None:
    folder = write_onnx_detector(
        tmp_path / "d", {"Person": CAT}, description={"aliases": {"man": "person"}}
    )
    assert list(found(folder, BRIGHT, "man", "person", "tree")) == ["man", "person"]


def test_of_overlapping_boxes_of_one_name_the_best_is_kept() -> None:
    boxes = [Box(0, 0, 10, 10), Box(1, 0, 10, 10), Box(30, 0, 10, 10)]
    cats = [Detection("cat", box, score) for box, score in zip(boxes, (0.5, 0.9, 0.4), strict=True)]
    dog = Detection("dog", boxes[1], 0.3)
    kept = best_of_overlapping([*cats, dog], iou=0.6)
    assert kept == [cats[1], cats[2], dog]


def test_a_distance_is_the_expected_bin_times_the_stride() -> None:
    output = NanoDetOutput(strides=(8,), scores="s_{stride}", boxes="b_{stride}", bins=3)
    logits = np.full((1, 4, 4, 3), -1e9)
    logits[0, :, :, 1] = 0  # one bin away, of 8 pixels
    logits[0, 3, 0, 2] = 0  # the last cell's left side: between one bin and two
    corners, scores = output.decode([np.full((1, 4, 2), 0.5), logits.reshape(1, 4, 12)], (16, 16))
    assert output.names() == ["s_8", "b_8"]
    assert corners[0].tolist() == [-4, -4, 12, 12]
    assert corners[3].tolist() == [0, 4, 20, 20]
    assert scores.shape == (4, 2)


SETTINGS: dict[str, dict[str, Any]] = {
    "score_threshold": {"score_threshold": 0.6},
    "nms_iou": {"nms_iou": 0.9},
    "aliases": {"aliases": {"man": "cat"}},
    "classes": {"classes": ["dog", "cat"]},
    "mean": {"input": {"name": "image", "size": SIZE, "fit": "stretch", "mean": [1, 2, 3]}},
    "fit": {"input": {"name": "image", "size": SIZE, "fit": "letterbox"}},
    "boxes_form": {"output": {"boxes": "boxes", "scores": "scores", "boxes_form": "cxcywh"}},
}


@pytest.mark.parametrize("change", SETTINGS.values(), ids=SETTINGS)
def test_a_setting_that_changes_what_is_found_is_another_detector(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    """The ONNX file is the same one: its calibration would be another detector's."""
    one, two = (
        OnnxDetector(
            str(write_onnx_detector(tmp_path / name, {"cat": CAT, "dog": DOG}, description=about))
        )
        for name, about in (("one", {}), ("two", change))
    )
    assert one.sha256 != two.sha256
    judges = GeometryJudge(one), GeometryJudge(two)
    calibration = tmp_path / "c.json"
    write_calibration(calibration, calibration_of(judges[0], [], []), data=[])
    assert read_calibration(calibration, judges[0].identity)
    with pytest.raises(SgfluxError, match="calibrate this judge"):
        read_calibration(calibration, judges[1].identity)


def test_the_same_detector_in_other_words_is_the_same(tmp_path: Path) -> None:
    """Its digest of before was that of the ONNX file, which 'sha256' is still checked against."""
    plain = write_onnx_detector(tmp_path / "plain", {"cat": CAT, "dog": DOG})
    weights = hashlib.sha256((plain / "squares.onnx").read_bytes()).hexdigest()
    (tmp_path / "names.txt").write_text(" Cat\n\ndog\n")
    told = {"name": "mine", "classes": "../names.txt", "sha256": weights, "score_threshold": 0.3}
    other = write_onnx_detector(
        tmp_path / "other", {"cat": CAT, "dog": DOG}, description={**told, "licence": "none"}
    )
    about = json.loads((other / "detector.json").read_text())
    (other / "detector.json").write_text(json.dumps(dict(reversed(about.items())), indent=3))
    detectors = [OnnxDetector(str(folder)) for folder in (plain, other)]
    assert len({one.sha256 for one in detectors}) == 1
    assert weights not in [one.sha256 for one in detectors]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "unheard of"}, r"detector.json: is damaged: .*docs/judges.md"),
        ({"sha256": "0" * 64}, "has the SHA-256"),
        ({"classes": ["cat"]}, r"scores of 2 classes, but 'classes'.* has 1"),
        ({"classes": "classes.txt"}, "classes.txt: cannot be read"),
        ({"aliases": {"man": "person"}}, r"'aliases' name \['person'\]"),
        ({"file": "other.onnx"}, "other.onnx: cannot be read"),
        ({"output": {"boxes": "boxes", "scores": "logits"}}, r"no tensors \['logits'\]; it has"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path, change: dict, message: str) -> None:
    folder = write_onnx_detector(tmp_path / "d", {"cat": CAT, "dog": DOG}, description=change)
    with pytest.raises(SgfluxError, match=message):
        found(folder)


def test_a_file_that_is_no_network_is_said(tmp_path: Path) -> None:
    folder = write_onnx_detector(tmp_path / "d", {"cat": CAT})
    (folder / "squares.onnx").write_bytes(b"nothing")
    with pytest.raises(SgfluxError, match=r"squares\.onnx: onnxruntime cannot load it"):
        found(folder)


def test_without_onnxruntime_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_onnx_detector(tmp_path / "d", {"cat": CAT})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SgfluxError, match=r"pip install '\.\[detect\]'"):
        found(folder)


def test_a_folder_that_holds_no_detector_is_said(tmp_path: Path) -> None:
    with pytest.raises(SgfluxError, match=r"neither a detector.json .* nor a config.json"):
        make_detector(str(tmp_path), device="cpu")
    for wrong in (str(tmp_path / "absent"), "nanodet", "a/b/c"):
        with pytest.raises(SgfluxError, match="neither a folder nor a hub id"):
            make_detector(wrong, device="cpu")


@pytest.mark.skipif(not NANODET.exists(), reason=f"the real detector is not at {NANODET}")
def test_the_real_detector_finds_what_its_authors_say() -> None:
    """Scores within 0.02 and boxes within 2 pixels: image libraries resize differently."""
    expected = json.loads((NANODET / "expected.json").read_text())["detections"]
    detector = make_detector(str(NANODET), device="cpu")
    for file, wanted in expected.items():
        image = np.asarray(load_image(SHARED_DATA / file))
        (own,) = detector.find([image], [sorted({one["name"] for one in wanted})])
        assert len(own) == len(wanted)
        for one, other in zip(
            sorted(own, key=lambda d: (d.name, -d.score)),
            sorted(wanted, key=lambda d: (d["name"], -d["score"])),
            strict=True,
        ):
            assert one.name == other["name"]
            assert one.score == pytest.approx(other["score"], abs=0.02)
            assert one.box.corners == pytest.approx(other["box_xyxy"], abs=2)
