"""Compare time and memory of JSON libraries that read relationships.json into the same columns.

    python benchmarks/synthetic_visual_genome.py --out-dir synthetic_vg
    python -m pip install orjson pysimdjson polars duckdb       # those to compare; none is needed
    python benchmarks/json_machinery.py --file synthetic_vg/relationships.json --results json.json

Every library runs in a process of its own and yields the columns that sgflux needs:
image, id, wording, and id, name and box of both ends. The columns' sums are compared, which shows
that every library has read all of them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

Columns = dict[str, np.ndarray]
SIDES = ("x", "y", "w", "h")
ENDS = ("subject", "object")


def with_json(path: Path) -> Columns:
    """Read with the standard library: the whole file becomes Python objects."""
    return _from_objects(json.loads(path.read_bytes()))


def with_orjson(path: Path) -> Columns:
    """Read with orjson: the whole file becomes Python objects."""
    import orjson

    return _from_objects(orjson.loads(path.read_bytes()))


def with_simdjson(path: Path) -> Columns:
    """Read with pysimdjson: the file is parsed as a whole, and images become objects one by one."""
    import simdjson

    parsed = simdjson.Parser().parse(path.read_bytes())
    return _from_objects(entry.as_dict() for entry in parsed)


def with_msgspec(path: Path) -> Columns:
    """Read with msgspec: the whole file becomes typed records of the needed fields."""
    import msgspec

    from sgflux.data.visual_genome.raw_files import RelationshipsEntry

    entries = msgspec.json.Decoder(list[RelationshipsEntry]).decode(path.read_bytes())
    return _from_records(entries)


def with_msgspec_mapped(path: Path) -> Columns:
    """Read as sgflux does: the file is mapped and cut into images, which msgspec decodes singly."""
    from sgflux.data.visual_genome.raw_files import RELATIONSHIPS_ENTRY, entries_of, mapped

    with mapped(path) as data:
        return _from_records(map(RELATIONSHIPS_ENTRY.decode, entries_of(path, data)))


def with_polars(path: Path) -> Columns:
    """Read with polars and a given schema, exploded into columns."""
    import polars as pl

    end = pl.Struct({"object_id": pl.Int64, "name": pl.String} | dict.fromkeys(SIDES, pl.Float64))
    fields = {"relationship_id": pl.Int64, "predicate": pl.String} | dict.fromkeys(ENDS, end)
    schema = {"image_id": pl.Int64, "relationships": pl.List(pl.Struct(fields))}
    frame = pl.read_json(path, schema=schema).explode("relationships").unnest("relationships")
    frame = frame.drop_nulls("relationship_id")
    columns: Columns = {
        "image": frame["image_id"].to_numpy(),
        "id": frame["relationship_id"].to_numpy(),
        "predicate": frame["predicate"].cast(pl.Categorical).to_physical().to_numpy(),
    }
    for name in ENDS:
        part = frame[name].struct
        columns[f"{name}_id"] = part.field("object_id").to_numpy()
        columns[f"{name}_name"] = part.field("name").cast(pl.Categorical).to_physical().to_numpy()
        columns[f"{name}_box"] = np.stack([part.field(side).to_numpy() for side in SIDES], axis=1)
    return columns


def with_duckdb(path: Path) -> Columns:
    """Read with duckdb and given columns, unnested by SQL."""
    import duckdb

    end = f"STRUCT(object_id BIGINT, name VARCHAR, {', '.join(f'{s} DOUBLE' for s in SIDES)})"
    fields = f"relationship_id BIGINT, predicate VARCHAR, subject {end}, object {end}"
    parts = [
        f"r.{name}.{field} AS {name}_{field}"
        for name in ENDS
        for field in ("object_id", "name", *SIDES)
    ]
    found = duckdb.sql(
        f"SELECT image_id, r.relationship_id AS id, r.predicate AS predicate, {', '.join(parts)} "
        "FROM (SELECT image_id, unnest(relationships) AS r FROM read_json("
        f"'{path}', format='array', maximum_object_size=100000000, "
        f"columns={{image_id: 'BIGINT', relationships: 'STRUCT({fields})[]'}}))"
    ).fetchnumpy()
    columns = {"image": found["image_id"], "id": found["id"]}
    columns["predicate"] = np.unique(found["predicate"].astype(str), return_inverse=True)[1]
    for name in ENDS:
        columns[f"{name}_id"] = found[f"{name}_object_id"]
        words = found[f"{name}_name"].astype(str)
        columns[f"{name}_name"] = np.unique(words, return_inverse=True)[1]
        columns[f"{name}_box"] = np.stack([found[f"{name}_{side}"] for side in SIDES], axis=1)
    return columns


READERS: dict[str, tuple[str, Callable[[Path], Columns]]] = {
    "json": ("json", with_json),
    "orjson": ("orjson", with_orjson),
    "pysimdjson": ("simdjson", with_simdjson),
    "polars": ("polars", with_polars),
    "duckdb": ("duckdb", with_duckdb),
    "msgspec": ("msgspec", with_msgspec),
    "msgspec, mapped (sgflux)": ("msgspec", with_msgspec_mapped),
}


class _Collector:
    """Columns that grow while a file is read."""

    def __init__(self) -> None:
        names = ["image", "id", "predicate", *(f"{e}_{c}" for e in ENDS for c in ("id", "name"))]
        self.numbers: dict[str, list[int]] = {name: [] for name in names}
        self.boxes: dict[str, list[tuple[float, ...]]] = {f"{end}_box": [] for end in ENDS}
        self._words: dict[str, int] = {}

    def word(self, word: str) -> int:
        return self._words.setdefault(word, len(self._words))

    def columns(self) -> Columns:
        numbers = {name: np.array(values, np.int64) for name, values in self.numbers.items()}
        return numbers | {name: np.array(rows, np.float32) for name, rows in self.boxes.items()}


def _from_objects(entries: Iterable[dict[str, Any]]) -> Columns:
    found = _Collector()
    for entry in entries:
        for one in entry["relationships"]:
            found.numbers["image"].append(entry["image_id"])
            found.numbers["id"].append(one["relationship_id"])
            found.numbers["predicate"].append(found.word(one["predicate"]))
            for end in ENDS:
                thing = one[end]
                found.numbers[f"{end}_id"].append(thing["object_id"])
                found.numbers[f"{end}_name"].append(found.word(thing["name"]))
                found.boxes[f"{end}_box"].append((thing["x"], thing["y"], thing["w"], thing["h"]))
    return found.columns()


def _from_records(entries: Iterable[Any]) -> Columns:
    found = _Collector()
    for entry in entries:
        for one in entry.relationships:
            found.numbers["image"].append(entry.image_id)
            found.numbers["id"].append(one.relationship_id)
            found.numbers["predicate"].append(found.word(one.predicate))
            for end, thing in zip(ENDS, (one.subject, one.object), strict=True):
                found.numbers[f"{end}_id"].append(thing.object_id)
                found.numbers[f"{end}_name"].append(found.word(thing.name))
                found.boxes[f"{end}_box"].append((thing.x, thing.y, thing.w, thing.h))
    return found.columns()


def measure(name: str, path: Path) -> dict[str, Any]:
    """Measure one reader in this process."""
    package, reader = READERS[name]
    start = time.perf_counter()
    columns = reader(path)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    numbers = ("image", "id", "subject_id", "object_id", "subject_box", "object_box")
    return {
        "reader": name,
        "version": "-" if package == "json" else importlib.metadata.version(_distribution(package)),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gib": round(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30, 2),
        "relationships": len(columns["id"]),
        "sums": {name: float(np.sum(columns[name], dtype=np.float64)) for name in numbers}
        | {"wordings": len(np.unique(columns["predicate"]))},
    }


def _distribution(package: str) -> str:
    return {"simdjson": "pysimdjson"}.get(package, package)


def main() -> None:
    """Parse the flags, run every reader that is installed, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=None)
    parser.add_argument(
        "--reader", choices=READERS, default=None, help="Measure this reader only, in this process."
    )
    flags = parser.parse_args()
    if flags.reader is not None:
        print(json.dumps(measure(flags.reader, flags.file)))
        return
    runs: list[dict[str, Any]] = []
    for name, (package, _) in READERS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name}: not installed, not measured", flush=True)
            continue
        command = [sys.executable, __file__, "--file", str(flags.file), "--reader", name]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["killed"])[-1]
            runs.append({"reader": name, "failed": f"status {done.returncode}: {reason}"})
        else:
            runs.append(json.loads(done.stdout))
        print(json.dumps(runs[-1]), flush=True)
    sums = [run["sums"] for run in runs if "sums" in run]
    if any(other != sums[0] for other in sums):
        raise SystemExit("the readers disagree about what is in the file")
    record = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "load_average_at_the_end": os.getloadavg()[0],
        "file_mib": round(flags.file.stat().st_size / 2**20),
        "runs": runs,
    }
    if flags.results is not None:
        flags.results.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
