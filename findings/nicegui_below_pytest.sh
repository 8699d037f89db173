#!/usr/bin/env bash
# NiceGUI 3.18.0: a server that a pytest test starts in a process of its own does not begin.
#
# pytest sets PYTEST_CURRENT_TEST in its environment, and a process that a test starts inherits it.
# NiceGUI takes any process with this variable for a test by its own pytest plugin: ui.run ignores
# the port that it is given and asks for NICEGUI_SCREEN_TEST_PORT, which only that plugin sets. So a
# test of a command that serves a NiceGUI page must take the variable out of the environment, or
# the command itself must. sgflux page does.
#
# Output seen with nicegui 3.18.0 and Python 3.11:
#   without the variable: served
#   with the variable: KeyError: 'NICEGUI_SCREEN_TEST_PORT'
#
# Exits with 1 if that changes. It needs Python 3.11 or newer, pip and a package index.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "nicegui==3.18.0"
cat > "$work/page.py" <<'PY'
import socket

from nicegui import app, ui

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
app.on_startup(app.shutdown)
ui.run(
    lambda: ui.label("hello"),
    host="127.0.0.1",
    port=port,
    show=False,
    reload=False,
    show_welcome_message=False,
)
print("served")
PY
cd "$work"
unset PYTEST_CURRENT_TEST
without=$(venv/bin/python page.py 2>&1 | tail -n 1)
with=$(PYTEST_CURRENT_TEST="test_page.py::test (call)" venv/bin/python page.py 2>&1 | tail -n 1) || true
echo "without the variable: $without"
echo "with the variable: $with"
[ "$without" = served ] && [ "$with" = "KeyError: 'NICEGUI_SCREEN_TEST_PORT'" ]
