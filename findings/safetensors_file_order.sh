#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors and the same header, saved twice, are different files.
#
# The entries of `metadata` stand in the file in an order that changes from one process to the
# next, whatever their order in the dictionary. One entry, such as the usual {"format": "pt"}, hides
# it. A LoRA file with its rank and alpha in the header has another SHA-256 each time that it is
# saved, though its content is the same. So the digest of a file does not say whether
# two trainings, or two exports of one adapter, are equal. sgflux compares digests of the tensors.
#
# Output seen with safetensors 0.8.0, numpy 2.4.6 and Python 3.11, for 8 processes:
#   1 entry: every file is the same: True
#   8 entries: every file is the same: False; every file has the same size: True
#   what is read back is the same: True
#
# Exits with 1 if that changes. It needs Python 3.11 or newer, pip and a package index.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "safetensors==0.8.0" "numpy==2.4.6"
cat > "$work/save.py" <<'PY'
import sys

import numpy as np
from safetensors.numpy import save_file

names = ["format", "rank", "alpha", "base", "steps", "seed", "title", "licence"]
down = np.ones((4, 8), np.float32)
for count, path in ((1, sys.argv[1]), (8, sys.argv[2])):
    save_file({"down": down, "up": down.T.copy()}, path, metadata=dict.fromkeys(names[:count], "1"))
PY
cat > "$work/look.py" <<'PY'
import subprocess
import sys
from pathlib import Path

from safetensors import safe_open

work = Path(sys.argv[1])
files = [(work / f"one{number}", work / f"eight{number}") for number in range(8)]
for pair in files:
    subprocess.run([sys.executable, work / "save.py", *pair], check=True)
one = {path.read_bytes() for path, _ in files}
eight = {path.read_bytes() for _, path in files}
sizes = {len(content) for content in eight}
read = set()
for _, path in files:
    with safe_open(path, framework="np") as file:
        tensors = tuple((name, file.get_tensor(name).tobytes()) for name in sorted(file.keys()))
        read.add((tensors, tuple(sorted(file.metadata().items()))))
print("1 entry: every file is the same:", len(one) == 1)
print("8 entries: every file is the same: ", len(eight) == 1, end="; ", sep="")
print("every file has the same size:", len(sizes) == 1)
print("what is read back is the same:", len(read) == 1)
sys.exit(0 if (len(one), len(sizes), len(read)) == (1, 1, 1) and len(eight) > 1 else 1)
PY
"$work/venv/bin/python" "$work/look.py" "$work" 2>/dev/null
