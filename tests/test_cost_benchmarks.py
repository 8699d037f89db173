"""The benchmarks of start-up, cached texts and growth, rehearsed.

If one of these failed, a command would be missing from the table of start-up times, or the other
benchmarks would stop in the middle or measure something else than they say.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import growth
import pytest
import startup
import text_cache
import torch

from sgflux.commands import COMMANDS
from tests.helpers.flux import make_transformer


def test_every_command_has_its_help_and_an_error_measured() -> None:
    rows = startup.calls()
    for command in COMMANDS:
        words = list(command.words)
        name = " ".join(words)
        assert rows[f"{name} --help"] == (["-m", "sgflux", *words, "--help"], 0)
        assert rows[f"{name}, an unknown flag"][1] == 2


def test_a_process_that_ends_as_expected_is_timed(tmp_path: Path) -> None:
    assert startup.cpu_seconds(["-c", "pass"], status=0, folder=tmp_path) > 0


def test_parts_of_another_commit_are_not_relabelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, own = tmp_path / "growth.json", growth.machine()
    path.write_text(json.dumps({"data": [], "machine": {**own, "commit": "another"}}))
    before = path.read_bytes()
    monkeypatch.setattr("sys.argv", ["growth.py", "--out", str(path), "--parts", "statements"])
    with pytest.raises(SystemExit):
        growth.main()
    assert "has data of another processor, commit or libraries" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_operations_grow_with_statements_and_with_pixels() -> None:
    one, two = (growth.operations(growth.TASK, statements=number) for number in (1, 2))
    wide = growth.operations(replace(growth.TASK, height=128, width=128), statements=1)
    assert one < two < 1.1 * one
    # Four times the image tokens, the same text, and attention that grows with their square.
    assert 3 * one < wide < 16 * one


def test_a_start_from_a_cache_and_an_epoch_are_measured(tmp_path: Path) -> None:
    growth.write_data(tmp_path / "data", 130)
    row = growth.start_and_draw(tmp_path / "data")
    assert row["size"] == 130
    assert row["entries"] > 2 * 130  # a picture and a relational text each, and neutral ones
    assert row["start_cpu_seconds"] >= sum(row["start_parts"].values()) * 0.99
    assert row["epoch_cpu_seconds"] > 0


def test_forms_of_cached_texts_are_compared_on_the_velocity() -> None:
    transformer = make_transformer()
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 16, transformer.config.joint_attention_dim, generator=generator)
    hidden[:, 4:] = hidden[0, 4]
    case = text_cache.Case(
        transformer=transformer,
        text={
            "hidden": hidden.bfloat16(),
            "pooled": torch.zeros(2, transformer.config.pooled_projection_dim).bfloat16(),
        },
        lengths=[4, 4],
        latents=torch.randn(2, 16, 8, 8, generator=generator),
        noise=torch.randn(2, 16, 8, 8, generator=generator),
        sigmas=(0.5,),
    )
    rows = text_cache.measure(case)
    assert rows["bf16"]["velocity_change"] == 0
    changes = [rows[name]["velocity_change"] for name in ("int8", "low_rank", "4 bits")]
    assert 0 < max(changes[:2]) < changes[2]
    assert rows["padding as zeros"]["velocity_change"] > changes[0]
