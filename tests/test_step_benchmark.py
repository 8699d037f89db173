"""The comparison of training steps, rehearsed: every way runs, and is a way of its own.

If one of these failed, the benchmark of training steps would compare a way with itself, or stop
in the middle of an hour of measurement.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from measuring import Place, Times, fits, largest_batch
from ways import LOSSES, Ours, Task, Vanilla

from tests.helpers.flux import make_transformer

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

CPU = Place(torch.device("cpu"))
TASK = Task(
    height=64, width=64, text_tokens=8, block_start=1, block_end=3, dtype="bf16", examples=8, rank=2
)


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    return make_transformer(num_layers=4).to(torch.bfloat16)


def test_every_part_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "step.json"
    arguments = ["--toy", "--out", str(out), "--models", "tiny-flux", "--dtypes", "bf16"]
    arguments += ["--modes", "eager", "sampling"]  # compiling takes minutes, even in a rehearsal
    subprocess.run([sys.executable, str(BENCHMARKS / "step.py"), *arguments], check=True)
    content = json.loads(out.read_text())
    assert content["toy"] is True
    assert [part["mode"] for part in content["parts"]] == ["eager", "sampling"]
    eager, sampling = (part["ways"] for part in content["parts"])
    assert set(eager) == {"A", "A*", *LOSSES}
    assert set(sampling) == {"FluxPipeline", "sgflux, graph scale 1", "sgflux, graph scale 1.5"}
    assert eager["A"]["cpu_ratio"] == 1
    assert all(row["cpu_seconds"] > 0 for row in (eager | sampling).values())


def lora(transformer: FluxTransformer2DModel, name: str) -> list[torch.Tensor]:
    found = transformer.named_parameters()
    return [weight.detach().clone() for own, weight in found if f".lora_B.{name}." in own]


def test_the_ways_share_a_base_and_nothing_else(transformer: FluxTransformer2DModel) -> None:
    """Else a turn of one would train the other, or measure the base with two LoRAs at work."""
    base = {name: weight.clone() for name, weight in transformer.named_parameters()}
    vanilla, ours = Vanilla(transformer, TASK, place=CPU), Ours(transformer, TASK, place=CPU)
    vanilla.start(2)
    run = ours.run("B", 2)
    vanilla.activate()
    vanilla.step()
    vanilla.step()  # the learning rate of the first is 0
    assert any(weight.any() for weight in lora(transformer, "default"))
    assert not any(weight.any() for weight in lora(transformer, "sgflux"))
    before = lora(transformer, "default")
    run.activate()
    run.step()
    assert any(weight.any() for weight in lora(transformer, "sgflux"))
    assert all(map(torch.equal, before, lora(transformer, "default")))
    vanilla.close()
    ours.close()
    found = {name.replace(".base_layer", ""): w for name, w in transformer.named_parameters()}
    assert set(found) == set(base)
    assert all(torch.equal(base[name], weight) for name, weight in found.items())
    again = Ours(transformer, TASK, place=CPU).run("B", 2)
    again.activate()
    again.step()


def test_each_way_does_what_its_name_says(transformer: FluxTransformer2DModel) -> None:
    """A weight of a loss that is missing would measure plain flow matching under another name."""
    ours = Ours(transformer, TASK, place=CPU)
    figures = {name: ours.run(name, 2).figures for name in LOSSES}
    assert figures["B"] == figures["B2"] == ()
    assert "loss_words" in figures["B+"]
    assert "loss_rank" in figures["C"]
    assert "loss_gen_rel" in figures["S"]
    assert [len(graph.relationships) for graph in ours.run("B2", 2).graphs] == [2] * TASK.examples
    assert [len(graph.relationships) for graph in ours.run("B", 2).graphs] == [1] * TASK.examples


def test_a_batch_larger_than_the_data_is_an_error(transformer: FluxTransformer2DModel) -> None:
    """A loader that drops the last batch would have none, and A would wait for one for ever."""
    vanilla = Vanilla(transformer, TASK, place=CPU)
    with pytest.raises(ValueError, match="9 is larger than the 8"):
        vanilla.start(TASK.examples + 1)
    vanilla.close()


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 7, 8, 13, 256])
def test_the_largest_batch_is_found(largest: int) -> None:
    asked: list[int] = []

    def enough(batch: int) -> bool:
        asked.append(batch)
        return batch <= largest

    assert largest_batch(enough, limit=256) == largest
    assert len(asked) <= 17
    assert max(asked) <= 256


@pytest.mark.parametrize("guess", [1, 5, 9, 10, 11, 40, 64, 999])
@pytest.mark.parametrize("largest", [0, 1, 10, 63, 64])
def test_a_good_guess_saves_trials_and_a_bad_one_costs_few(largest: int, guess: int) -> None:
    asked: list[int] = []

    def enough(batch: int) -> bool:
        asked.append(batch)
        return batch <= largest

    assert largest_batch(enough, limit=64, guess=guess) == largest
    assert len(asked) == len(set(asked)) <= 13
    assert min(asked) >= 1
    assert max(asked) <= 64
    if guess == largest or guess - 1 == largest:
        assert len(asked) <= 2


def test_running_out_of_memory_is_an_answer() -> None:
    def too_much(error: RuntimeError) -> None:
        raise error

    assert not fits(lambda: too_much(torch.OutOfMemoryError()), CPU)
    assert not fits(lambda: too_much(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")), CPU)
    with pytest.raises(RuntimeError, match="shapes"):
        fits(lambda: too_much(RuntimeError("shapes do not match")), CPU)
    assert fits(lambda: None, CPU)
    with pytest.raises(ZeroDivisionError):
        fits(lambda: 1 // 0, CPU)


def test_a_ratio_is_taken_turn_by_turn() -> None:
    """One slow spell of the machine slows down a turn of both, and no ratio."""
    plain, own = Times((1.0, 1.0, 9.0), (1.0, 1.0, 9.0)), Times((2.0, 2.0, 18.0), (2.0, 2.0, 18.0))
    row = own.row(plain)
    assert row["ratio"] == row["cpu_ratio"] == 2
    assert row["cpu_ratio_quartiles"] == [2, 2]
