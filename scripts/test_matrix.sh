#!/usr/bin/env bash
# Runs the fast tests with the oldest and with the newest libraries that pyproject.toml allows.
#
#   scripts/test_matrix.sh oldest [pytest arguments]   every library at its lower limit
#   scripts/test_matrix.sh newest [pytest arguments]   whatever pip chooses today
#   scripts/test_matrix.sh resolve 3.14                whether pip finds a set for a Python that is
#                                                      not here; nothing is installed
#
# It is not part of continuous integration: it installs several GB, and what it finds changes with
# every release of a library. sgflux is installed as a wheel, so that the package's own data are
# tested, too.
#
# Variables:
#   PYTHON=...   the interpreter; python3.11 for oldest, the newest supported one for newest
#   FOLDER=...   where the environment is made and kept; else a temporary folder that is removed
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
what=${1:-}
shift || true

folder=${FOLDER:-}
if [ -z "$folder" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
mkdir -p "$folder"

first_python() {
    for name in "$@"; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "error: none of these interpreters is here: $*; name one: PYTHON=..." >&2
    exit 1
}

case $what in
oldest)
    python=${PYTHON:-$(first_python python3.11)}
    # Each library at the version after its >=.
    "$python" - "$root/pyproject.toml" >"$folder/constraints.txt" <<'PYTHON'
import re
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    dependencies = tomllib.load(file)["project"]["dependencies"]
for entry in dependencies:
    name, lowest = re.fullmatch(r"([\w-]+)>=([\d.]+).*", entry).groups()
    print(f"{name}=={lowest}")
PYTHON
    ;;
newest)
    python=${PYTHON:-$(first_python python3.14 python3.13 python3.12 python3.11)}
    : >"$folder/constraints.txt"
    ;;
resolve)
    version=${1:?resolve needs a version of Python, like 3.14}
    "$(first_python python3.14 python3.13 python3.12 python3.11)" - "$root/pyproject.toml" \
        >"$folder/requirements.txt" <<'PYTHON'
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    print("\n".join(tomllib.load(file)["project"]["dependencies"]))
PYTHON
    "${PYTHON:-python3}" -m pip install --dry-run --python-version "$version" \
        --only-binary=:all: --target "$folder/none" --requirement "$folder/requirements.txt"
    exit
    ;;
*)
    sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'
    exit 2
    ;;
esac

venv=$folder/venv
[ -d "$venv" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --constraint "$folder/constraints.txt" "$root[dev]"
# Of sgflux itself, the present state even if FOLDER has an older one of the same version.
"$venv/bin/python" -m pip install --quiet --force-reinstall --no-deps "$root"
echo "$what: $("$venv/bin/python" --version)"
"$venv/bin/python" -m pip freeze |
    grep -iE '^(torch|transformers|diffusers|peft|accelerate|numpy|scipy|msgspec|nicegui|tyro)=='

cd "$root"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PATH="$venv/bin:$PATH"
"$venv/bin/python" -m pytest -n logical --maxprocesses 4 --dist worksteal -m "not slow" "$@"
