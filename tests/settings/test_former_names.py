"""Former names of flags and settings, which command lines and files of earlier versions use.

If one of these failed, a command line or a file that an earlier version took would be refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sgflux.commands import COMMANDS
from sgflux.commands.calibrate import CalibrateFlags
from sgflux.commands.data_vg import DataVgFlags
from sgflux.commands.data_world import DataWorldFlags
from sgflux.commands.demo import DemoFlags
from sgflux.commands.evaluate_aggregate import AggregateFlags
from sgflux.commands.evaluate_compare import CompareFlags
from sgflux.settings.checks import ConfigError, from_flat
from sgflux.settings.classifier import ClassifierConfig
from sgflux.settings.evaluation import EvalConfig
from sgflux.settings.exporting import ExportConfig, ImportConfig
from sgflux.settings.files import read_settings_file
from sgflux.settings.flags import parse_flags
from sgflux.settings.flat import flat_values, former_names
from sgflux.settings.sampling import SaliencyConfig, SampleConfig
from sgflux.settings.training import TrainConfig
from sgflux.settings.world_models import MeasureBaseConfig, TrainBaseConfig, TrainJudgeConfig

DATA = ("--train-jsonl", "a", "--val-jsonl", "b")
H5 = ("--h5", "a.h5", "--images-dir", "b")
IMPORT = ("--legacy", "a", "--cgip-ckpt", "b", "--vocab-path", "c")

FORMER: list[tuple[Any, Sequence[str], str, str, str]] = [
    (DataWorldFlags, (), "out_dir", "output_dir", "x"),
    (DataVgFlags, ("--raw", "a"), "out_dir", "output_dir", "x"),
    (DataVgFlags, (*H5, "--output-dir", "c"), "vocab", "vocab_path", "x"),
    (DataVgFlags, ("--raw", "a", "--output-dir", "c"), "encoder", "graph_encoder", "cgip"),
    (DemoFlags, (), "out_dir", "output_dir", "x"),
    (TrainConfig, DATA, "out_dir", "output_dir", "x"),
    (ClassifierConfig, DATA, "out_dir", "output_dir", "x"),
    (ClassifierConfig, (*DATA, "--output-dir", "c"), "steps", "max_steps", "7"),
    (SampleConfig, ("--prompt", "a dog"), "out_dir", "output_dir", "x"),
    (SaliencyConfig, ("--image", "a", "--graph", "b"), "out_dir", "output_dir", "x"),
    (EvalConfig, ("--data", "a"), "out_dir", "output_dir", "x"),
    (CompareFlags, ("a", "b"), "out", "output", "x"),
    (AggregateFlags, ("a",), "out", "output", "x"),
    (CalibrateFlags, ("--judge", "world", "--data", "a"), "out", "output", "x"),
    (ExportConfig, ("--adapter", "a", "--format", "kohya"), "out", "output", "x"),
    (ExportConfig, ("--adapter", "a"), "folder", "output_dir", "x"),
    (ImportConfig, IMPORT, "out_dir", "output_dir", "x"),
    (TrainBaseConfig, (), "out_dir", "output_dir", "x"),
    (TrainBaseConfig, (), "steps", "max_steps", "7"),
    (MeasureBaseConfig, (), "out", "output", "x"),
    (TrainJudgeConfig, (), "out", "output", "x"),
    (TrainJudgeConfig, ("--output", "a"), "steps", "max_steps", "7"),
]
"""Flags, what they need beside the former one, its name, today's name, and a value."""


@pytest.mark.parametrize(("cls", "more", "former", "today", "value"), FORMER)
def test_a_former_name_means_the_one_of_today(
    cls: Any, more: Sequence[str], former: str, today: str, value: str
) -> None:
    expected = parse_flags(cls, [*more, "--" + today.replace("_", "-"), value])
    assert str(flat_values(expected)[today]) == value
    for spelt in (former, former.replace("_", "-")):
        assert parse_flags(cls, [*more, f"--{spelt}", value]) == expected
        assert parse_flags(cls, [*more, f"--{spelt}={value}"]) == expected
    settings = flat_values(expected)
    settings[former] = settings.pop(today)
    assert from_flat(cls, settings) == expected


def test_every_former_name_is_listed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not could be dropped without a test that fails."""
    found = set()

    def note(cls: type, arguments: Sequence[str], **more: Any) -> None:
        found.update((cls, old, name) for old, name in former_names(cls).items())
        raise SystemExit

    for module in ("sgflux.commands.command", "sgflux.commands.train"):
        monkeypatch.setattr(f"{module}.parse_flags", note)
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            command.run(command, [])
    assert found == {(cls, former, today) for cls, _, former, today, _ in FORMER}


def test_a_file_may_use_a_former_name_but_not_both(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("out_dir = 'x'\n", encoding="utf-8")
    assert read_settings_file(path, TrainConfig) == {"output_dir": Path("x")}
    path.write_text("out_dir = 'x'\noutput_dir = 'y'\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"run\.toml: output_dir is given twice, also by a former"
    ):
        read_settings_file(path, TrainConfig)


def test_a_value_is_no_flag() -> None:
    """A text that is spelt like a former flag stays what it is."""
    flags = ["--prompt", "out_dir", "--graph", "out"]
    assert parse_flags(SampleConfig, [*flags, "--adapter", "a"]).prompt == "out_dir"
