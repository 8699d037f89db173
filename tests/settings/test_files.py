"""Files of settings: what is read, under which name, and one line for whatever cannot be read.

If one of these failed, a setting in a file would be ignored, or a file with an error would end in
a traceback.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgflux.commands.train import parse_train_config
from sgflux.errors import SgfluxError
from sgflux.settings.checks import ConfigError
from sgflux.settings.files import find_config, shipped_configs
from sgflux.settings.training import read_settings

ROOT = Path(__file__).parents[2]
FILES = ["--train-jsonl", "train.jsonl", "--val-jsonl", "val.jsonl", "--output-dir", "run"]


def write(folder: Path, content: str | bytes, name: str = "run.toml") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"lr = 1.0 # \xff\xfe", "is not UTF-8: invalid start byte at byte 11; save it as UTF-8"),
        ("losses = 3", "losses must be a table of settings, got 3"),
        ("prompt_mix = [1]", "prompt_mix must be a table of settings, got [1]"),
        ("[lr]\nvalue = 1", "lr must be a finite number, got {'value': 1}"),
        ("[losses]\nnegatives = 1", "losses.negatives must be a table of settings, got 1"),
        ("[losses]\nlambda_words = 'x'", "losses.lambda_words must be a finite number, got 'x'"),
        ("batch_size = [2]", "batch_size must be a whole number, got [2]"),
        ("compile = 'yes'", "compile must be true or false, got 'yes'"),
        ("dtype = 'fp16'", "dtype must be one of 'fp32', 'bf16', got 'fp16'"),
        ("train_jsonl = 2026-01-01", "train_jsonl must be a path, got datetime.date(2026, 1, 1)"),
        ("lr = 1\nlr = 2", "Cannot overwrite a value (at "),
        ("lambda_words = 1", "unknown setting 'lambda_words'; here it is 'losses.lambda_words'"),
        ("[losses]\nrank = 1", "unknown setting 'losses.rank'; did you mean 'losses.ranker'?"),
        ("learning_rate = 1", "unknown setting 'learning_rate'; here it is 'lr'"),
        ("report_to = 'wandb'", "unknown setting 'report_to'; every run writes metrics.jsonl"),
        ("x = " + "[" * 5000, "is nested too deeply to be settings"),
        ("seed = " + "9" * 5000, "Exceeds the limit"),
    ],
)
def test_a_bad_file_is_one_line_that_names_file_and_setting(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as error:
        read_settings(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_json_that_says_a_thing_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.json: 'lr' is given twice"):
        read_settings(write(tmp_path, '{"lr": 1, "lr": 2}', "run.json"))


def test_a_byte_order_mark_is_no_setting(tmp_path: Path) -> None:
    """Some editors write one, and neither TOML nor JSON has it."""
    assert read_settings(write(tmp_path, "\N{BOM}lr = 0.5")) == {"lr": 0.5}
    assert read_settings(write(tmp_path, '\N{BOM}{"lr": 1}', "run.json")) == {"lr": 1.0}


def test_later_files_and_flags_override_setting_by_setting(tmp_path: Path) -> None:
    one = write(tmp_path, "lr = 1\n[losses]\nlambda_words = 3\nwords_start = 2\n", "one.toml")
    two = write(tmp_path, "batch_size = 7\n[losses]\nlambda_words = 4\n", "two.toml")
    config = parse_train_config(
        [*FILES, "--config", str(one), "--config", str(two), "--words-start", "5"]
    )
    assert (config.optimizer.lr, config.optimizer.batch_size) == (1.0, 7)
    assert (config.losses.words.lambda_words, config.losses.words.words_start) == (4.0, 5)


def test_a_setting_of_a_file_counts_as_given(tmp_path: Path) -> None:
    """Its required flags need not be typed again, and --help shows what the file says."""
    path = write(tmp_path, "train_jsonl = 'a'\noutput_dir = 'b'\n")
    assert parse_train_config(["--config", str(path)]).data.train_jsonl == Path("a")


def test_help_shows_the_values_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    path = write(tmp_path, "lora_rank = 5\n")
    with pytest.raises(SystemExit):
        parse_train_config(["--config", str(path), "--help"])
    assert "Rank of the LoRA matrices. (default: 5)" in capsys.readouterr().out


# --- configurations that come with sgflux -------------------------------------------------------


def test_shipped_configurations_are_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # anywhere, not beside the checkout's folder
    for spelt in ("flux_schnell", "flux_schnell.toml", "configs/flux_schnell.toml"):
        assert read_settings(find_config(spelt))["model_id"].endswith("FLUX.1-schnell")
    assert parse_train_config(["--config", "tiny_world", *FILES]).model.model_id == "tiny"
    own = write(tmp_path, "model_id = 'mine'", "flux_schnell.toml")
    assert find_config("flux_schnell.toml") == own.relative_to(tmp_path)  # a file comes first
    with pytest.raises(ConfigError, match="did you mean 'tiny_world'"):
        find_config("tiny_word")
    with pytest.raises(ConfigError, match=r"mine\.toml: cannot be read: there is no such file"):
        find_config("mine.toml")


def test_the_wheel_has_every_configuration() -> None:
    """They lie beside src/, so that only a line of pyproject.toml takes them along."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"configs": "sgflux/configs"}
    assert {path.name for path in shipped_configs().values()} == {
        path.name for path in (ROOT / "configs").iterdir()
    }


# --- whatever a file holds ----------------------------------------------------------------------

NAMES = st.sampled_from(
    ["lr", "seed", "losses", "prompt_mix", "train_jsonl", "compile", "dtype", "resume", "epochs"]
)
NUMBERS = st.integers() | st.integers(10**18, 10**400) | st.floats()
LEAVES = st.none() | st.booleans() | NUMBERS | st.text(max_size=6)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
SETTINGS = st.dictionaries(NAMES | st.text(max_size=6), VALUES, max_size=4)


def is_read_or_refused_in_one_line(path: Path) -> None:
    said = [error_of(lambda: read_settings(path))]
    assert said[0] is None or said[0].startswith(f"{path}: ")
    said.append(error_of(lambda: parse_train_config(["--config", str(path), *FILES])))
    assert all(text is None or len(text.splitlines()) == 1 for text in said)


def error_of(read: Callable[[], object]) -> str | None:
    try:
        read()
    except SgfluxError as error:
        return str(error)
    return None


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=SETTINGS)
def test_any_json_is_settings_or_one_line(tmp_path: Path, content: dict[str, Any]) -> None:
    path = write(tmp_path, json.dumps(content), "run.json")
    is_read_or_refused_in_one_line(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_an_altered_configuration_is_settings_or_one_line(
    tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray((ROOT / "configs" / "tiny_ranking.toml").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = min(len(content), start + data.draw(st.integers(0, 3)))
        content[start:end] = data.draw(st.binary(max_size=3))
    is_read_or_refused_in_one_line(write(tmp_path, bytes(content)))
