"""Where standard output is not UTF-8, commands end as they should and say it in ASCII.

If one of these failed, a command would end with an encoding error on Windows or in a C locale.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.terminal.output import nearest
from sgflux.world.dataset import write_world


def encoded(text: str, encoding: str) -> bytes:
    result = b""
    for character in text:
        try:
            result += character.encode(encoding)
        except UnicodeEncodeError as error:
            replacement, after = nearest(error)
            assert after == 1
            result += replacement if isinstance(replacement, bytes) else replacement.encode()
    return result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g⁺ – g⁻", b"g+ - g-"),
        ("95.4\N{NO-BREAK SPACE}%", b"95.4 %"),
        ("“✓” … ×", b'"yes" ... x'),
        ("café", b"cafe"),
        ("中", b"\\u4e2d"),
        ("😀", b"\\U0001f600"),
        ("name-\udcff", b"name-\xff"),
        ("\ud800", b"\\ud800"),
        ("\u2028", b"\\u2028"),
        ("╭─╮", b"+-+"),
    ],
)
def test_characters_become_their_nearest_text(text: str, expected: bytes) -> None:
    assert encoded(text, "ascii") == expected


def test_what_fits_is_left_alone() -> None:
    assert encoded("café –", "cp1252") == "café –".encode("cp1252")
    assert encoded("中 \udc80", "utf-8") == "中 ".encode() + b"\x80"


def sgflux(*words: str, encoding: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "sgflux", *words],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        check=False,
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_an_evaluation_ends_with_its_report_on_any_console(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "[bold]é中"
    write_world(folder / "data", train_per_class=0, val_per_class=0, test_per_class=1, triples="1")
    out = folder / "[/] :smile:"
    done = sgflux(
        *("eval", "--data", str(folder / "data/test.jsonl"), "--generator", "oracle"),
        *("--items", "4", "--output-dir", str(out)),
        encoding=encoding,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"UnicodeEncodeError" not in done.stderr
    assert (out / "report.html").is_file()
    assert json.loads((out / "evaluation_results.json").read_bytes())["judge"]["accuracy"]
    text = done.stdout.decode(encoding)
    assert "true graph g+" in text
    assert ":smile:" in text
    assert "\\u4e2d" in text


@pytest.mark.parametrize(
    "words", [("--help",), ("demo", "--help"), ("data", "check", "nö中.jsonl")]
)
def test_help_and_errors_degrade(words: tuple[str, ...]) -> None:
    done = sgflux(*words, encoding="ascii")
    assert done.returncode == (2 if "check" in words else 0), done.stderr
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()


def test_results_are_written_before_they_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A console that fails loses no figure and no report."""
    write_world(
        tmp_path / "data", train_per_class=0, val_per_class=0, test_per_class=1, triples="1"
    )

    def fail(results: object) -> None:
        raise SgfluxError("the console is broken")

    monkeypatch.setattr("sgflux.evaluation.report.headline.print_headline", fail)
    out = tmp_path / "out"
    words = (
        f"eval --data {tmp_path}/data/test.jsonl --generator oracle --items 2 --output-dir {out}"
    )
    assert main([*words.split(), "--items", "2", "--arms", "graph"]) == 2
    for name in ("results.jsonl", "evaluation_results.json", "report.html"):
        assert (out / name).is_file()
