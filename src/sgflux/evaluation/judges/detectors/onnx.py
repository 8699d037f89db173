"""Any detector as an ONNX file, with a ``detector.json`` beside it that says how to read it.

Shapes: A candidate boxes, C classes, S x T pixels of the network's input (height, width).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from PIL import Image
from scipy.special import expit, softmax

from sgflux.data.boxes import Box
from sgflux.errors import SgfluxError, first_line
from sgflux.evaluation.judges.detectors.detector import Detection, best_of_overlapping
from sgflux.files.json_files import read_json
from sgflux.files.reading import naming_unreadable

DESCRIPTION = "detector.json"
"""Name of the file that describes a detector."""

_WAY_OUT = "docs/judges.md lists what a detector.json holds"


class Input(Struct):
    """How a picture becomes the network's input.

    Attributes:
        name: Name of the input in the ONNX file.
        size: Height and width in pixels.
        fit: "letterbox" keeps the picture's shape and fills the rest; "stretch" does not.
        anchor: Place of the picture in the filled input.
        fill: Value of the filled pixels, 0 to 255, before the mean is subtracted.
        resample: Filter by which the picture is scaled.
        channels: Order of the channels.
        mean: Values that are subtracted from the channels, which have 0 to 255, in that order.
        std: Values that the channels are then divided by.
        layout: Order of the axes.
    """

    name: str
    size: tuple[int, int]
    fit: Literal["letterbox", "stretch"] = "letterbox"
    anchor: Literal["center", "top_left"] = "center"
    fill: int = 0
    resample: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    channels: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    layout: Literal["NCHW", "NHWC"] = "NCHW"


Activation = Literal["none", "sigmoid", "softmax"]
_ACTIVATIONS = {"none": np.asarray, "sigmoid": expit, "softmax": lambda x: softmax(x, axis=-1)}


class NanoDetOutput(Struct):
    """Scores and sides of the cells of several grids, one pair of tensors a stride.

    A side is a distribution over bins: the expected bin times the stride is the distance in pixels
    from the cell's center to the left, top, right and bottom edge (Li et al. 2020,
    arXiv:2006.04388, Eq. 4).

    Attributes:
        strides: Pixels of a cell of each grid.
        scores: Name of the (1, cells, C) scores, with "{stride}".
        boxes: Name of the (1, cells, 4 x bins) logits, with "{stride}".
        bins: Number of bins a side.
        boxes_form: Form of the boxes; there is one.
        scores_activation: Function that turns the tensor into scores.
        cell_center: Place of a cell's center in the cell.
    """

    strides: tuple[int, ...]
    scores: str
    boxes: str
    bins: int
    boxes_form: Literal["distances_ltrb_distribution"] = "distances_ltrb_distribution"
    scores_activation: Activation = "none"
    cell_center: float = 0.5

    def names(self) -> list[str]:
        """Return the names of the tensors that are read, scores then boxes of each stride."""
        return [form.format(stride=s) for s in self.strides for form in (self.scores, self.boxes)]

    def decode(self, tensors: Sequence[np.ndarray], size: tuple[int, int]) -> _Decoded:
        """Return corners (A, 4) in pixels of the input, and scores (A, C)."""
        corners, scores = [], []
        for stride, score, logits in zip(self.strides, tensors[::2], tensors[1::2], strict=True):
            rows, columns = (-(-side // stride) for side in size)
            y, x = np.divmod(np.arange(rows * columns), columns)
            centers = (np.stack([x, y], axis=1) + self.cell_center) * stride
            parts = softmax(logits[0].reshape(-1, 4, self.bins), axis=-1)
            distances = parts @ np.arange(self.bins) * stride
            sides = [centers - distances[:, :2], centers + distances[:, 2:]]
            corners.append(np.concatenate(sides, axis=1))
            scores.append(_ACTIVATIONS[self.scores_activation](score[0]))
        return np.concatenate(corners), np.concatenate(scores)


class TensorsOutput(Struct):
    """One tensor of boxes and one of scores, as most exports have them.

    Attributes:
        boxes: Name of the boxes, (1, A, 4), or (1, 4, A) if ``layout`` is "CN".
        scores: Name of the scores, (1, A, C), or (1, C, A) if ``layout`` is "CN".
        boxes_form: Corners, or left, top and size, or center and size.
        boxes_unit: Pixels of the input, or parts of its width and height.
        scores_activation: Function that turns the tensor into scores.
        layout: Order of the last two axes: "NC" has a row for each box.
    """

    boxes: str
    scores: str
    boxes_form: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    boxes_unit: Literal["pixels", "relative"] = "pixels"
    scores_activation: Activation = "none"
    layout: Literal["NC", "CN"] = "NC"

    def names(self) -> list[str]:
        """Return the names of the tensors that are read."""
        return [self.boxes, self.scores]

    def decode(self, tensors: Sequence[np.ndarray], size: tuple[int, int]) -> _Decoded:
        """Return corners (A, 4) in pixels of the input, and scores (A, C)."""
        boxes, scores = (part[0] if self.layout == "NC" else part[0].T for part in tensors)
        if self.boxes_unit == "relative":
            boxes = boxes * np.tile(size[::-1], 2)
        start, extent = boxes[:, :2], boxes[:, 2:]
        if self.boxes_form == "cxcywh":
            start = start - extent / 2
        end = extent if self.boxes_form == "xyxy" else start + extent
        return np.concatenate([start, end], axis=1), _ACTIVATIONS[self.scores_activation](scores)


_Decoded = tuple[np.ndarray, np.ndarray]


class Description(Struct, kw_only=True, tag_field="kind"):
    """What both kinds of ``detector.json`` hold; keys beside these are ignored.

    Attributes:
        name: Name of the detector, in results.
        file: Name of the ONNX file in the same folder.
        classes: Name of the file with one class a line, in order; or the names themselves.
        input: Form of the network's input.
        sha256: SHA-256 of the ONNX file, in hex; None: it is not checked.
        aliases: Other names of classes, such as {"man": "person"}.
        score_threshold: Smallest score of a detection.
        nms_iou: Overlap (intersection over union) above which the weaker box of a class is dropped;
            1: none is dropped, since the network has done it.
    """

    name: str
    file: str
    classes: str | list[str]
    input: Input
    sha256: str | None = None
    aliases: dict[str, str] = {}
    score_threshold: float = 0.3
    nms_iou: float = 0.6


class NanoDetDescription(Description, kw_only=True, tag="nanodet"):
    """A detector of NanoDet's kind."""

    output: NanoDetOutput


class TensorsDescription(Description, kw_only=True, tag="tensors"):
    """A detector with one box and one score tensor."""

    output: TensorsOutput


_Kinds = NanoDetDescription | TensorsDescription
_KINDS: Any = _Kinds


class OnnxDetector:
    """Runs the ONNX file of a folder, on a GPU if the installed onnxruntime has one."""

    def __init__(self, source: str, device: str = "cpu") -> None:
        """Read the folder.

        Args:
            source: Folder with ``detector.json`` and the files that it names.
            device: Device on which the network runs: "cpu" or one that begins with "cuda".

        Raises:
            SgfluxError: naming the file or key that is wrong, or the library that is missing.
        """
        folder = Path(source)
        path = folder / DESCRIPTION
        about: _Kinds = read_json(path, _KINDS, way_out=_WAY_OUT)
        with naming_unreadable(folder / about.file):
            content = (folder / about.file).read_bytes()
        self.name = about.name
        weights = hashlib.sha256(content).hexdigest()
        if about.sha256 not in (None, weights):
            raise SgfluxError(
                f"{folder / about.file}: has the SHA-256 {weights}, but {path} says "
                f"{about.sha256}; get the file again, or correct 'sha256'"
            )
        self._about = about
        self._classes = _classes(about, folder)
        self.sha256: str | None = _digest(about, weights=weights, classes=self._classes)
        unknown = sorted({*about.aliases.values()} - {*self._classes})
        if unknown:
            raise SgfluxError(f"{path}: 'aliases' name {unknown}, which are no classes")
        self._session = _session(content, about, path=path, device=device)

    def find(
        self, images: Sequence[np.ndarray], names: Sequence[Sequence[str]]
    ) -> list[list[Detection]]:
        """See :meth:`Detector.find`; a picture is run once, whatever is looked for in it."""
        seen: dict[int, list[Detection]] = {}
        results = []
        for image, wanted in zip(images, names, strict=True):
            if id(image) not in seen:
                seen[id(image)] = self._everything(image)
            as_class = {name: self._about.aliases.get(name, name) for name in wanted}
            results.append(
                [
                    Detection(name, one.box, one.score)
                    for name, of_class in as_class.items()
                    for one in seen[id(image)]
                    if one.name == of_class
                ]
            )
        return results

    def _everything(self, image: np.ndarray) -> list[Detection]:
        """Find all objects of all classes."""
        about = self._about
        tensor, scale, offset = _prepared(image, about.input)
        tensors = self._session.run(about.output.names(), {about.input.name: tensor})
        corners, scores = about.output.decode(tensors, about.input.size)
        if scores.shape[1] != len(self._classes):
            raise SgfluxError(
                f"detector {self.name!r} gives scores of {scores.shape[1]} classes, but 'classes' "
                f"of its {DESCRIPTION} has {len(self._classes)}"
            )
        corners = (corners - np.tile(offset, 2)) / np.tile(scale, 2)
        height, width = image.shape[:2]
        found = []
        for candidate, class_id in zip(*np.nonzero(scores > about.score_threshold), strict=True):
            left, top, right, bottom = map(float, corners[candidate])
            box = Box.from_corners((left, top, right, bottom)).clipped(width, height)
            if box.area >= 1:
                score = float(scores[candidate, class_id])
                found.append(Detection(self._classes[class_id], box, score))
        return best_of_overlapping(found, iou=about.nms_iou)


def _digest(about: _Kinds, *, weights: str, classes: Sequence[str]) -> str:
    """Return the SHA-256, in hex, of the network and of all that says how it is read.

    Names of the detector and its files, and the form in which all of it is written, do not count.
    """
    told = msgspec.to_builtins(about)
    how = {key: own for key, own in told.items() if key not in ("name", "file", "sha256")}
    parts = [weights, {**how, "classes": list(classes)}]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _classes(about: Description, folder: Path) -> list[str]:
    names = about.classes
    if isinstance(names, str):
        with naming_unreadable(folder / names, UnicodeError):
            names = (folder / names).read_text(encoding="utf-8").splitlines()
    return [name.strip().casefold() for name in names if name.strip()]


def _session(content: bytes, about: _Kinds, *, path: Path, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise SgfluxError(
            "an ONNX detector needs onnxruntime: install sgflux with its extra 'detect' (in a "
            "checkout: python -m pip install '.[detect]')"
        ) from error
    providers = ["CPUExecutionProvider"]
    if (
        device.startswith("cuda")
        and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    ):
        providers.insert(0, "CUDAExecutionProvider")
    try:
        session = onnxruntime.InferenceSession(content, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common class
        raise SgfluxError(
            f"{path.parent / about.file}: onnxruntime cannot load it: {first_line(error)}"
        ) from error
    there = {one.name for one in (*session.get_inputs(), *session.get_outputs())}
    missing = sorted({about.input.name, *about.output.names()} - there)
    if missing:
        raise SgfluxError(f"{path}: the ONNX file has no tensors {missing}; it has {sorted(there)}")
    return session


def _prepared(
    image: np.ndarray, how: Input
) -> tuple[np.ndarray, tuple[float, float], tuple[float, float]]:
    """Return the input, (1, 3, S, T) or (1, S, T, 3) float32, with its (x, y) scale and offset."""
    (height, width), (rows, columns) = image.shape[:2], how.size
    if how.fit == "letterbox":
        ratio = min(rows / height, columns / width)
        inner = (round(width * ratio), round(height * ratio))
    else:
        inner = (columns, rows)
    filters = Image.Resampling
    scaled = Image.fromarray(image).resize(inner, filters[how.resample.upper()])
    left, top = 0, 0
    if how.anchor == "center":
        left, top = (columns - inner[0]) // 2, (rows - inner[1]) // 2
    canvas = np.full((rows, columns, 3), how.fill, np.float32)
    canvas[top : top + inner[1], left : left + inner[0]] = np.asarray(scaled)
    if how.channels == "BGR":
        canvas = canvas[..., ::-1]
    tensor = (canvas - np.array(how.mean)) / np.array(how.std)
    tensor = tensor.transpose(2, 0, 1) if how.layout == "NCHW" else tensor
    scale = inner[0] / width, inner[1] / height
    return np.ascontiguousarray(tensor[None], np.float32), scale, (left, top)
