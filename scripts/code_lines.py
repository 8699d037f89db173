"""Count lines of code: without blank lines, comments and docstrings.

python scripts/code_lines.py [FOLDER] [--json]
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SILENT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(text: str) -> int:
    """Number of lines of a module that hold code.

    A string that stands alone as a statement is documentation and does not count, wherever it is.

    Args:
        text: The module.

    Raises:
        SyntaxError: if it is no Python.
    """
    documentation = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in SILENT
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(lines - documentation)


def count(folder: Path) -> dict[str, int]:
    """Lines of code of every room: the folders directly within, and the modules as ".".

    Args:
        folder: Folder of the rooms.
    """
    found: dict[str, int] = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        room = parts[0] if len(parts) > 1 else "."
        found[room] = found.get(room, 0) + code_lines(path.read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", default=ROOT / "src" / "sgflux", help="Folder to count."
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    given = parser.parse_args()
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is no folder")
    found = count(given.folder)
    total = {"total": sum(found.values())}
    if given.json:
        print(json.dumps(found | total, indent=1))
        return
    for room, lines in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{lines:7}  {room}")
    print(f"{total['total']:7}  total")


if __name__ == "__main__":
    main()
