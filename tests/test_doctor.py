"""``sgflux doctor``: a screen that can be pasted into an issue as it is.

If one of these failed, an issue report would lack what it needs, or contain a name or a token.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sgflux
from sgflux.cli import main
from sgflux.doctor import doctor_lines


def test_it_says_what_an_issue_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= 24
    for text in (sgflux.__version__, f"torch {torch.__version__}", "GiB free", "torch threads"):
        assert text in said
    names = [line.partition(":")[0] for line in said.splitlines()]
    for name in (
        "python",
        "system",
        "optional",
        "memory",
        "hub cache",
        "digest cache",
        "output",
        "variables",
    ):
        assert name in names


def test_it_tells_no_token_and_no_users_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "jane.doe"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    said = "\n".join(doctor_lines())
    assert "secret" not in said
    assert "jane" not in said
    assert str(Path("~") / "work") in said
