"""Names that users of other trainers type: each is answered with ours, in flags and in files.

If one of these failed, somebody who comes from another trainer would be told that a setting is
unknown, and not what it is called here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from sgflux.cli import COMMANDS, main
from sgflux.settings.checks import setting_names
from sgflux.settings.classifier import ClassifierConfig
from sgflux.settings.evaluation import EvalConfig
from sgflux.settings.exporting import ExportConfig, ImportConfig
from sgflux.settings.flags import flag_names, parse_flags
from sgflux.settings.foreign_names import foreign_names, own_name
from sgflux.settings.sampling import SaliencyConfig, SampleConfig
from sgflux.settings.training import TrainConfig
from sgflux.settings.world_models import TrainBaseConfig

Capture = pytest.CaptureFixture[str]

CLASSES: list[Any] = [
    TrainConfig,
    ClassifierConfig,
    SampleConfig,
    SaliencyConfig,
    EvalConfig,
    ExportConfig,
    ImportConfig,
    TrainBaseConfig,
]
FUTURE = {"init_from"}
"""Settings that are answered as soon as a command has them."""


def error_of(call: Callable[[], int], capsys: Capture) -> str:
    assert call() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("--learning_rate 1e-4", "'--learning_rate' (here it is --lr)"),
        ("--learning-rate=1e-4", "'--learning-rate' (here it is --lr)"),
        ("--train_batch_size 4", "(here it is --batch-size)"),
        ("--max_train_steps 4", "(here it is --max-steps)"),
        ("--num_train_epochs 4", "(here it is --epochs)"),
        ("--report_to wandb", "(every run writes metrics.jsonl and TensorBoard files"),
        ("--rank 4", "(here it is --lora-rank)"),
        ("--network_dim 4", "(here it is --lora-rank)"),
        ("--pretrained_model_name_or_path x", "(here it is --model-id)"),
        ("--mixed_precision bf16", "(here it is --dtype (fp32 or bf16))"),
        ("--checkpointing_steps 5", "(here it is --save-every)"),
        ("--resume_from_checkpoint latest", "(here it is --resume ('auto' goes on from"),
        ("--resolution 512", "(here it is --height and --width)"),
        ("--caption_dropout_rate 0.1", "--prompt-mix.empty and --null-graph-probability"),
        ("--lr_scheduler cosine", "(here it is --lr-floor and --warmup-steps"),
        ("--optimizer adamw8bit", "(the optimizer is always AdamW"),
        ("--lambda_wrds 1", "(did you mean --lambda-words?)"),
        ("--zzzzzz 1", "there is no flag '--zzzzzz'; 'sgflux train --help' lists all"),
    ],
)
def test_train_answers_with_its_own_name(typed: str, answer: str, capsys: Capture) -> None:
    """Even before the flags that it requires are there."""
    assert answer in error_of(lambda: main(["train", *typed.split()]), capsys)


def test_all_of_a_command_line_is_answered_at_once(capsys: Capture) -> None:
    error = error_of(lambda: main(["train", "--rank", "4", "--learning_rate=1"]), capsys)
    assert "no flags '--rank' (here it is --lora-rank), '--learning_rate' (here it is" in error


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("sample --num_inference_steps 4", "(here it is --steps)"),
        ("sample --outdir x", "(here it is --output-dir)"),
        ("sample --lora_path x", "(here it is --adapter)"),
        ("sample --negative_prompt x", "(there are no negative prompts"),
        ("eval --test_jsonl x", "(here it is --data)"),
        ("train --steps 4", "(here it is --max-steps)"),
        ("export --save_dir x", "(here it is --output-dir)"),
        ("world train-base --learning_rate 1", "(here it is --lr and --muon-lr)"),
        ("data check --images_folder x", "(did you mean --images-dir?)"),
        ("demo --seed 3", "there is no flag '--seed'; 'sgflux demo --help'"),
    ],
)
def test_other_commands_answer_with_theirs(typed: str, answer: str, capsys: Capture) -> None:
    assert answer in error_of(lambda: main(typed.split()), capsys)


@pytest.mark.parametrize("value", ["latest", "last", "true", "LATEST"])
def test_resume_latest_is_auto(value: str, capsys: Capture) -> None:
    flags = ["--train-jsonl", "a", "--output-dir", "b", "--resume", value]
    error = error_of(lambda: main(["train", *flags]), capsys)
    assert f"resume {value!r}: give 'auto'" in error


def test_a_value_that_looks_like_a_flag_is_none() -> None:
    """Only what begins with two dashes is a flag: a negative number is a value."""
    flags = ["--prompt", "-1 dog", "--seed", "-3"]
    assert parse_flags(SampleConfig, flags).seed == -3


def test_no_answer_names_a_setting_that_there_is_not() -> None:
    """A setting that is renamed must be renamed here, too."""
    full = {name for cls in CLASSES for name in setting_names(cls)}
    existing = full | {name.rpartition(".")[2] for name in full}
    answered = {name for foreign in foreign_names().values() for name in foreign.names}
    assert answered - existing <= FUTURE


def test_no_answer_is_needed_for_a_name_that_every_command_has() -> None:
    """An answer that is never given is a mistake in the table."""
    flags = [set(flag_names(cls)) for cls in CLASSES]
    for name in foreign_names():
        assert not all(name in known for known in flags), name
        assert name == name.lower().replace("-", "_")


def test_every_entry_says_something() -> None:
    known = [name for cls in CLASSES for name in setting_names(cls)]
    for name, foreign in foreign_names().items():
        if not set(foreign.names) <= FUTURE or foreign.note:
            assert own_name(name, [entry for entry in known if entry != name]), name


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words))
def test_the_flags_that_help_shows_are_the_flags_that_are_known(
    command: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a flag that tyro reads would be refused before tyro sees it."""
    monkeypatch.setenv("COLUMNS", "120")
    seen: list[type] = []
    real = parse_flags

    def spy(cls: Any, *arguments: Any, **more: Any) -> Any:
        seen.append(cls)
        return real(cls, *arguments, **more)

    for module in ("sgflux.commands.command", "sgflux.commands.train"):
        monkeypatch.setattr(f"{module}.parse_flags", spy)
    with pytest.raises(SystemExit):
        main([*command.words, "--help"])
    usage = capsys.readouterr().out.split("options", 1)[-1]
    shown = {
        name.replace("-", "_")
        for line in usage.splitlines()
        if re.match(r".? ?-", line)
        for name in re.findall(r"--([a-z][\w.-]*)", re.split(r"\s{2,}", line.strip("│ "))[0])
    }
    (cls,) = seen
    positive = {name.replace(".no_", ".").removeprefix("no_") for name in shown}
    assert positive - {"help"} == set(flag_names(cls))
