"""Detectors and pictures of coloured squares, whose places a test knows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sgflux.data.boxes import Box
from sgflux.evaluation.judges.detectors.detector import Detection

SIZE = (32, 64)
"""Height and width of the ONNX detector's input."""


class Drawn:
    """Finds what it is told, in every picture; remembers what it was asked."""

    name = "drawn"
    sha256: str | None = "d" * 64

    def __init__(self, *found: tuple[str, tuple[float, float, float, float], float]) -> None:
        self._found = [Detection(name, Box(*box), score) for name, box, score in found]
        self.asked: list[list[str]] = []

    def find(
        self, images: Sequence[np.ndarray], names: Sequence[Sequence[str]]
    ) -> list[list[Detection]]:
        self.asked += map(list, names)
        return [[one for one in self._found if one.name in own] for own in names]


def write_onnx_detector(
    folder: Path,
    boxes: Mapping[str, tuple[float, float, float, float]],
    *,
    description: Mapping[str, Any] | None = None,
    output: Mapping[str, Any] | None = None,
) -> Path:
    """A folder with an ONNX file that sees every class wherever its first channel is bright.

    Each class has one box, as the caller writes it. The score of all of them is the mean of the
    input's first channel.

    Args:
        folder: Folder to make.
        boxes: Class -> its box.
        description: Entries of detector.json in place of the usual ones.
        output: Entries of its 'output' in place of the usual ones.
    """
    folder.mkdir(parents=True)
    values = np.array([list(boxes.values())], np.float32)  # (1, C, 4): a candidate a class
    each = np.eye(len(boxes), dtype=np.float32)[None]  # (1, C, C)
    pick = np.array([0, 0, 0, 0], np.int64), np.array([1, 1, *SIZE], np.int64)
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["image", "from", "to"], ["first"]),
            helper.make_node("ReduceMean", ["first"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["each", "mean"], ["scores"]),
            helper.make_node("Identity", ["constant"], ["boxes"]),
        ],
        "squares",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *SIZE])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, list(values.shape)),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, list(each.shape)),
        ],
        [
            numpy_helper.from_array(values, "constant"),
            numpy_helper.from_array(each, "each"),
            numpy_helper.from_array(pick[0], "from"),
            numpy_helper.from_array(pick[1], "to"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "squares.onnx")
    about = {
        "kind": "tensors",
        "name": "squares",
        "file": "squares.onnx",
        "classes": list(boxes),
        "input": {"name": "image", "size": SIZE, "fit": "stretch"},
        "output": {"boxes": "boxes", "scores": "scores", **(output or {})},
        **(description or {}),
    }
    (folder / "detector.json").write_text(json.dumps(about))
    return folder
