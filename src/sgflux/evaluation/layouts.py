"""An evaluation's pictures in the folders that the scripts of benchmarks read.

{arm}/{list}/layout.json               which picture is which: row, seed, text, graph, adapter
GenEval:        {index:05d}/metadata.jsonl, {index:05d}/samples/{repeat:04d}.png
GenEval 2:      images/{index:05d}-{repeat}.png, image_paths.json (and image_paths_1.json for the
                second noise, ...), {list}.jsonl with the lines that have pictures
T2I-CompBench:  samples/{prompt}_{number:06d}.png, prompts.txt with the prompts that have pictures

``index`` is the place of the prompt in its list, from 0; ``number`` counts the pictures of the
whole list, prompt by prompt. Sources: the README and scripts of the three benchmarks (see
:mod:`sgflux.data.benchmarks`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from sgflux.data.benchmarks.reading import GENEVAL, GENEVAL2, T2I_COMPBENCH
from sgflux.data.examples import read_examples
from sgflux.data.pictures import read_picture
from sgflux.errors import SgfluxError
from sgflux.evaluation.drawing import CHANGED_SINCE, pixels_digest
from sgflux.evaluation.report.data import Picture, read_evaluation
from sgflux.files.writing import unfinished_folder
from sgflux.graphs.predicates import vocabulary_of

LAYOUT = "layout.json"
"""The file in each folder that says which picture is which."""
_LONGEST_NAME = 255
"""Bytes of a file's name that file systems take."""


@dataclass(frozen=True)
class _Placed:
    """One picture, and the line of the list that it was drawn for.

    Attributes:
        picture: The picture.
        benchmark: ``meta.benchmark`` of its row.
    """

    picture: Picture
    benchmark: Mapping[str, Any]

    @property
    def index(self) -> int:
        """Place of the prompt in its list, from 0."""
        index: int = self.benchmark["index"]
        return index


_Files = dict[str, "_Placed | str"]
"""Path in the folder of a list -> the picture that lies there, or the text of the file."""


def write_layouts(
    folder: Path, target: Path, *, data: Path | None = None
) -> dict[str, tuple[str, int]]:
    """Write the pictures of an evaluation for the scripts of the benchmarks they are of.

    Args:
        folder: Folder of the evaluation.
        target: Folder to write, which must not be there yet.
        data: File of the rows, if it is no longer where the evaluation found it.

    Returns:
        Folder of each arm and list, below ``target`` -> its benchmark and number of pictures.

    Raises:
        SgfluxError: if a file is missing, damaged or changed, a row is of no benchmark, or a prompt
            makes no file name.
    """
    if target.exists():
        raise SgfluxError(f"{target} is there already; give another --output-dir or delete it")
    evaluation = read_evaluation(folder)
    results = evaluation.results
    rows = _benchmark_rows(results, data)
    lists: dict[tuple[str, str], list[_Placed]] = {}
    for picture in evaluation.pictures:
        benchmark = rows[picture.image_rel_path]
        key = (str(picture.arm), Path(benchmark["file"]).stem)
        lists.setdefault(key, []).append(_Placed(picture, benchmark))
    written = {}
    with unfinished_folder(target) as partial:
        for (arm, name), placed in lists.items():
            benchmark = placed[0].benchmark["name"]
            files = _LAYOUTS[benchmark](placed, target.resolve() / arm / name)
            for path, content in files.items():
                place = partial / arm / name / path
                place.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, str):
                    place.write_text(content, encoding="utf-8")
                else:
                    _copy(content.picture, place)
            about = _about(arm, placed, files, folder, results)
            (partial / arm / name / LAYOUT).write_text(about, encoding="utf-8")
            written[f"{arm}/{name}"] = (benchmark, len(placed))
        partial.replace(target)
    return written


def _benchmark_rows(results: Mapping[str, Any], data: Path | None) -> dict[str, Mapping[str, Any]]:
    """Return the name of each row's picture -> ``meta.benchmark`` of the row."""
    path, digest = data or Path(results["data"]["path"]), hashlib.sha256()
    if not path.is_file():
        raise SgfluxError(f"{path}: is not there; name the rows of the evaluation with --data")
    vocabulary = vocabulary_of(results["settings"].get("vocabulary"))
    examples = read_examples(path, vocabulary=vocabulary, open_vocabulary=True, digest=digest)
    if digest.hexdigest() != results["data"]["sha256"]:
        raise SgfluxError(
            f"{path}: has other content than the rows of the evaluation; give the file that was "
            "evaluated with --data"
        )
    rows: dict[str, Mapping[str, Any]] = {}
    for row, example in enumerate(examples):
        benchmark = example.meta.get("benchmark")
        if not _is_of_benchmark(benchmark):
            raise SgfluxError(
                f"{path}: {example.named(row)} is of no benchmark; only rows of 'sgflux data "
                "from-prompts' have a layout"
            )
        if rows.setdefault(example.image_rel_path, benchmark) is not benchmark:
            raise SgfluxError(
                f"{path}: {example.named(row)} is named like an earlier row; write the rows of all "
                "lists with one 'sgflux data from-prompts'"
            )
    return rows


def _is_of_benchmark(benchmark: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether ``meta.benchmark`` is as 'sgflux data from-prompts' writes it.

    The name of the list becomes the name of a folder, so it must be a plain one.
    """
    kinds = {"name": str, "file": str, "sha256": str, "index": int, "prompt": str}
    if not isinstance(benchmark, Mapping) or "entry" not in benchmark:
        return False
    if not all(isinstance(benchmark.get(key), kind) for key, kind in kinds.items()):
        return False
    file = benchmark["file"]
    plain = file == Path(file).name and Path(file).stem.strip(".") and "\\" not in file
    return bool(benchmark["name"] in _LAYOUTS and benchmark["index"] >= 0 and plain)


def _geneval(placed: Sequence[_Placed], _folder: Path) -> _Files:
    files: _Files = {}
    for one in placed:
        place = f"{one.index:05d}"
        files[f"{place}/metadata.jsonl"] = _line(one)
        files[f"{place}/samples/{one.picture.repeat:04d}.png"] = one
    return files


def _geneval2(placed: Sequence[_Placed], folder: Path) -> _Files:
    files: _Files = {}
    paths: dict[int, dict[str, str]] = {}
    for one in placed:
        name, prompt = f"images/{one.index:05d}-{one.picture.repeat}.png", one.benchmark["prompt"]
        files[name] = one
        of_repeat = paths.setdefault(one.picture.repeat, {})
        if prompt in of_repeat:
            raise SgfluxError(
                f"two lines of {one.benchmark['file']} have the prompt {prompt!r}, under which "
                "GenEval 2's script looks for one picture"
            )
        of_repeat[prompt] = str(folder / name)
    for repeat, by_prompt in paths.items():
        name = f"image_paths_{repeat}.json" if repeat else "image_paths.json"
        files[name] = json.dumps(by_prompt, indent=1, ensure_ascii=False) + "\n"
    own = [one for one in placed if one.picture.repeat == 0]
    files[f"{Path(placed[0].benchmark['file']).stem}.jsonl"] = "".join(map(_line, own))
    return files


def _t2i_compbench(placed: Sequence[_Placed], _folder: Path) -> _Files:
    files: _Files = {}
    repeats = 1 + max(one.picture.repeat for one in placed)
    for one in placed:
        prompt = one.benchmark["prompt"]
        name = f"{prompt}_{one.index * repeats + one.picture.repeat:06d}.png"
        if any(mark in prompt for mark in "_/\0") or len(name.encode()) > _LONGEST_NAME:
            raise SgfluxError(
                f"line {one.index + 1} of {one.benchmark['file']}: the prompt {prompt!r} makes no "
                "file name that T2I-CompBench's scripts can read ('_' and '/' are not allowed, and "
                f"a name has at most {_LONGEST_NAME} bytes)"
            )
        files[f"samples/{name}"] = one
    own = [one.benchmark["prompt"] for one in placed if one.picture.repeat == 0]
    files["prompts.txt"] = "".join(f"{prompt}\n" for prompt in own)
    return files


_LAYOUTS: dict[str, Callable[[Sequence[_Placed], Path], _Files]] = {
    GENEVAL: _geneval,
    GENEVAL2: _geneval2,
    T2I_COMPBENCH: _t2i_compbench,
}


def _line(one: _Placed) -> str:
    """Return the line of the list as it was read."""
    return json.dumps(one.benchmark["entry"], ensure_ascii=False) + "\n"


def _copy(picture: Picture, place: Path) -> None:
    pixels, _ = read_picture(picture.path)
    if picture.pixels not in (None, pixels_digest(pixels)):
        raise SgfluxError(f"{picture.path} {CHANGED_SINCE}")
    shutil.copyfile(picture.path, place)


def _about(
    arm: str, placed: Sequence[_Placed], files: _Files, folder: Path, results: Mapping[str, Any]
) -> str:
    """Return what :data:`LAYOUT` says."""
    first = placed[0].benchmark
    content = {
        "benchmark": first["name"],
        "list": first["file"],
        "list_sha256": first["sha256"],
        "arm": arm,
        "evaluation": str(folder.resolve()),
        "adapter": results["adapter"],
        "model": results["model"],
        "base_prompts": results.get("base_prompts"),
        "pictures": [
            {
                "file": path,
                "source": str(one.picture.path.relative_to(folder)),
                "index": one.index,
                "repeat": one.picture.repeat,
                "seed": one.picture.seed,
                "prompt": one.picture.prompt,
                "graph": None if one.picture.graph is None else one.picture.graph.to_json(),
            }
            for path, one in files.items()
            if isinstance(one, _Placed)
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
