"""Training on pictures of several shapes: whole batches of one shape, nobody dropped, resumable.

If one of these failed, a batch would mix shapes, pictures would be dropped, or a resumed run
would see other batches.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sgflux.bases.flux1.family import Flux1
from sgflux.cli import main
from sgflux.data.buckets import Size
from sgflux.data.cache.arrays import latent_key
from sgflux.data.examples import write_examples
from sgflux.errors import SgfluxError
from sgflux.settings.checks import ConfigError
from sgflux.settings.losses import LossSettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.training import TrainConfig
from sgflux.training.batches.batch import Batch, draw_batch
from sgflux.training.batches.bucket_order import BucketOrder, batches_by
from sgflux.training.build import sampling_sigmas_of, sigma_shift_of
from sgflux.training.checkpoints.checkpoint import TrainingState
from sgflux.training.encoding.encode import Encoded
from sgflux.training.planning.plan import length_of
from sgflux.training.processes.processes import Processes
from sgflux.training.randomness import ExampleOrder
from sgflux.training.run.data import encode_data, plan_data, read_data
from sgflux.training.run.train import train
from sgflux.training.terms.regions import box_coverage, relation_regions
from sgflux.training.validation import Validator
from tests.helpers.scenes import example
from tests.helpers.training import Drawn, MakeConfig, TwoInOne
from tests.helpers.two_processes import TRAINING, finish, flags_of, launch

WIDE, SQUARE, TALL = (48, 32), (40, 40), (32, 48)
"""(width, height) of pictures."""

PICTURES = {
    "train": [WIDE, TALL, WIDE, SQUARE, TALL, WIDE, WIDE],
    "val": [SQUARE, WIDE, TALL, WIDE],
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three shapes; the boxes of each are its left and its right half."""
    folder = tmp_path_factory.mktemp("photos")
    for split, sizes in PICTURES.items():
        (folder / "images" / split).mkdir(parents=True)
        rows = []
        for number, (width, height) in enumerate(sizes):
            noise = torch.randint(
                256, (4, 4, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8
            )
            picture = Image.fromarray(noise.numpy()).resize((width, height))
            picture.save(folder / "images" / split / f"{number}.png")
            row = example(number, split=split)
            half = width / 2
            boxes = ((0.0, 0.0, half, float(height)), (half, 0.0, half, float(height)))
            rows.append(replace(row, boxes=boxes))
        write_examples(folder / f"{split}.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def bucketed(make_config: MakeConfig, photos: Path) -> MakeConfig:
    def make(output_dir: Path, **changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "train_jsonl": photos / "train.jsonl",
            "val_jsonl": photos / "val.jsonl",
            "height": 32,
            "width": 32,
            "aspect_buckets": True,
            "sample_steps": 0,
        }
        return make_config(output_dir, **{**settings, **changes})

    return make


def encoded(config: TrainConfig) -> Encoded:
    processes = Processes.start("cpu")
    splits = read_data(config, say=lambda text: None)
    planned = plan_data(config, splits, processes=processes)
    return encode_data(config, splits, planned, processes=processes, say=lambda text: None)


def weights_of(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return dict(TrainingState.load(folder / f"step{step}.pt").trainable)


def expect_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


# -- the order -------------------------------------------------------------------------------------

SIZES: list[Size] = [(32, 48)] * 7 + [(48, 32)] * 4 + [(40, 40)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 20])
def test_every_example_is_shown_in_every_epoch_in_full_batches_of_one_size(batch_size: int) -> None:
    order = BucketOrder(SIZES, batch_size=batch_size, seed=3)
    counts = Counter(SIZES)
    shown: Counter[int] = Counter()
    done = 0
    for epoch in range(1, 8):
        upto = sum(
            batches_by(epoch, examples=count, batch_size=batch_size) for count in counts.values()
        )
        for number in range(done, upto):
            rows = order.batch(number, batch_size)
            assert len(rows) == batch_size
            assert len({SIZES[row] for row in rows}) == 1
            shown.update(rows)
        done = upto
        for size, count in counts.items():
            own = [shown[row] for row in range(len(SIZES)) if SIZES[row] == size]
            assert min(own) >= epoch
            assert max(own) - min(own) <= 1
            # What fills up the last batch is all that comes early.
            assert sum(own) - epoch * count < batch_size


def test_a_batch_follows_from_its_number_alone_and_the_seed() -> None:
    order = BucketOrder(SIZES, batch_size=2, seed=0)
    forward = [order.batch(number, 2) for number in range(40)]
    fresh = BucketOrder(SIZES, batch_size=2, seed=0)
    assert [fresh.batch(number, 2) for number in reversed(range(40))] == forward[::-1]
    other = BucketOrder(SIZES, batch_size=2, seed=1)
    assert [other.batch(number, 2) for number in range(40)] != forward
    # Sizes are mixed within an epoch, and in another way in the next one.
    first, second = ([SIZES[rows[0]] for rows in part] for part in (forward[:7], forward[7:13]))
    assert first != sorted(first)
    assert first[:6] != second
    with pytest.raises(ValueError, match="batches of 2, not of 3"):
        order.batch(0, 3)


def test_without_buckets_batches_are_the_positions_that_they_were() -> None:
    order = ExampleOrder(num_examples=5, seed=0)
    assert [order.batch(number, 2) for number in range(6)] == [
        order.indices(2 * number, 2) for number in range(6)
    ]


def test_epochs_become_as_many_steps_as_whole_batches_need(bucketed: MakeConfig) -> None:
    def steps(*, passes: int) -> int:
        config = bucketed(Path("run"), max_steps=None, epochs=3, batch_size=4)
        counts = (7, 4, 1)
        return length_of(config.optimizer, examples=12, passes=passes, bucket_counts=counts)[0]

    # 21, 12 and 3 examples make 6 + 3 + 1 batches.
    assert steps(passes=2) == 5
    assert steps(passes=4) == 3


# -- runs ------------------------------------------------------------------------------------------


def test_pictures_of_several_shapes_train_validate_and_resume_exactly(
    bucketed: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawn: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def watched(arrays: Any, rows: Any, **settings: Any) -> Batch:
        batch = draw_batch(arrays, rows, **settings)
        drawn.append((tuple(rows), tuple(batch.latents.shape[2:])))
        return batch

    monkeypatch.setattr("sgflux.training.steps.draw_batch", watched)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = {"max_steps": 6, "gradient_accumulation_steps": 2}
    train(bucketed(whole, **settings))
    said = capsys.readouterr().out
    assert "bucket:     40 x 24 pixels: 2 examples\n" in said
    assert "bucket:     24 x 40 pixels: 4 examples\n" in said
    assert "bucket:     32 x 32 pixels: 1 example (fewer than a batch of 2" in said
    of_run = list(drawn)
    assert len(of_run) == 12
    assert len({shape for _, shape in of_run}) == 3
    for rows, (height, width) in of_run:
        assert len({PICTURES["train"][row] for row in rows}) == 1
        picture = PICTURES["train"][rows[0]]
        assert (width > height) == (picture[0] > picture[1])
    assert {row for rows, _ in of_run for row in rows} == set(range(7))
    lines = (whole / "metrics.jsonl").read_text().split("\n")[:-1]
    losses = [row["loss"] for row in map(json.loads, lines)]
    assert len(losses) == 6 + 3
    assert torch.isfinite(torch.tensor(losses)).all()

    drawn.clear()
    train(bucketed(parts, **settings | {"max_steps": 2}))
    train(bucketed(parts, **settings, resume="auto"))
    assert [rows for rows, _ in drawn] == [rows for rows, _ in of_run]


def test_a_run_that_was_cut_short_ends_with_the_weights_of_the_whole_one(
    bucketed: MakeConfig, tmp_path: Path
) -> None:
    whole, half = tmp_path / "whole", tmp_path / "half"
    train(bucketed(whole))
    train(bucketed(half))
    for path in (half / "step4.pt", half / "best_graph_lora_token.pt"):
        path.unlink(missing_ok=True)
    expected = weights_of(whole, 4)
    train(bucketed(half, resume="auto"))
    expect_equal(weights_of(half, 4), expected)


def test_a_cache_holds_what_memory_would_and_no_encoder_is_loaded(
    bucketed: MakeConfig, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    cache = tmp_path / "cache"
    plain = bucketed(tmp_path / "run")
    command = ["cache", str(photos / "train.jsonl"), str(photos / "val.jsonl")]
    command += ["--latent-cache-dir", str(cache), "--model-id", plain.model.model_id]
    command += ["--height", "32", "--width", "32", "--dtype", "fp32", "--aspect-buckets"]
    command += ["--device", "cpu"]
    assert main(command) == 0
    assert "bucket:     24 x 40 pixels: 4 examples" in capsys.readouterr().out
    in_memory = encoded(plain)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an encoder was loaded")

    monkeypatch.setattr(Flux1, "load_text_encoders", refuse)
    monkeypatch.setattr(Flux1, "load_autoencoder", refuse)
    config = bucketed(tmp_path / "run", latent_cache_dir=cache)
    stored = encoded(config)
    assert stored.train.sizes == in_memory.train.sizes
    for row in range(7):
        index = torch.tensor([row])
        one, other = in_memory.train.posterior(index), stored.train.posterior(index)
        height, width = in_memory.train.sizes[row]
        assert one[0].shape[2] * width == one[0].shape[3] * height
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert train(config).step == 4


def test_validation_errors_do_not_depend_on_how_sizes_are_batched(
    bucketed: MakeConfig, tmp_path: Path
) -> None:
    def row(batch_size: int) -> dict[str, Any]:
        config = bucketed(tmp_path / str(batch_size), max_steps=1, batch_size=batch_size, lr=1e-9)
        train(config)
        lines = (config.run.output_dir / "metrics.jsonl").read_text().split("\n")[:-1]
        return next(one for one in map(json.loads, lines) if one["kind"] != "train")

    one, many = row(1), row(4)
    for name in ("loss", "loss_null", "loss_negative", "negative_gap"):
        assert one[name] == pytest.approx(many[name], rel=1e-4, abs=1e-6), name


def test_each_error_is_that_of_its_own_item(bucketed: MakeConfig, tmp_path: Path) -> None:
    """Items are walked size by size, but their errors come in the order of the question."""
    config = bucketed(tmp_path / "run")
    splits, found = read_data(config, say=lambda text: None), encoded(config)
    assert found.val is not None
    validator = Validator(
        found.val,
        splits.items,
        sigmas=(0.25, 0.75),
        latent_scale=found.latent_scale,
        prompt_kind="neutral",
        seed=0,
        batch_size=3,
    )

    def error_of(batch: Batch, alternatives: Any) -> list[torch.Tensor]:
        return [batch.latents.mean((1, 2, 3)) + batch.sigma] * len(alternatives)

    def errors(places: list[int]) -> torch.Tensor:
        device = torch.device("cpu")
        result = validator.errors(error_of, places, device=device, should_stop=lambda: False)
        assert result is not None
        return result

    assert [len(chunk) for chunk in validator.chunks([0, 1, 2, 3])] == [1, 2, 1]
    singly = torch.cat([errors([place]) for place in (3, 0, 2, 1)], dim=1)
    assert len(set(singly[0, :, 0].tolist())) == 4
    assert torch.equal(errors([3, 0, 2, 1])[:2], singly[:2])


def test_terms_and_noise_levels_follow_each_batch(
    bucketed: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranking, words, the anchor and the relation's boxes, with a shift by the number of tokens."""
    shifts: dict[tuple[int, ...], float] = {}

    def watched(arrays: Any, rows: Any, **settings: Any) -> Batch:
        batch = draw_batch(arrays, rows, **settings)
        shifts[tuple(batch.latents.shape[2:])] = settings["sigma_shift"]
        return batch

    asked: set[int] = set()

    def anchor(model: ModelSource, *, image_tokens: int) -> torch.Tensor:
        asked.add(image_tokens)
        return sampling_sigmas_of(model, image_tokens=image_tokens)

    monkeypatch.setattr("sgflux.training.steps.draw_batch", watched)
    monkeypatch.setattr("sgflux.training.run.prepare.sampling_sigmas_of", anchor)
    losses = LossSettings.from_flat(
        lambda_rel_rank=0.5,
        lambda_anchor=0.5,
        lambda_words=1.0,
        alpha_gen_rel=0.5,
        gen_rel_from="boxes",
        rel_rank_start=0,
        rel_rank_warm_in=0,
    )
    config = bucketed(tmp_path / "run", losses=losses, sigma_shift="resolution", max_steps=6)
    train(config)
    assert len(shifts) == 3
    for (height, width), shift in shifts.items():
        tokens = (height // 2) * (width // 2)
        assert shift == sigma_shift_of(config.flow, config.model, image_tokens=tokens)
        assert tokens in asked
    assert len(set(shifts.values())) == len(asked) == 2
    saliency = LossSettings.from_flat(alpha_gen_rel=0.5, gen_rel_from="saliency")
    assert train(bucketed(tmp_path / "saliency", losses=saliency)).step == 4


def test_regions_lie_on_the_grid_of_their_own_picture(photos: Path, bucketed: MakeConfig) -> None:
    splits = read_data(bucketed(Path("run"), val_jsonl=None, **NO_VAL), say=lambda text: None)
    sizes = [(24, 40), (40, 24), (24, 40), (32, 32), (40, 24), (24, 40), (24, 40)]
    regions = relation_regions(splits.train, images_dir=photos, sizes=sizes, crop="center", patch=8)
    assert [len(region) for region in regions] == [15, 15, 15, 16, 15, 15, 15]
    # The square is shown whole: both halves together are all of it.
    assert torch.equal(regions[3], torch.ones(16))
    expected = box_coverage(
        [(0, 0, 24, 32), (24, 0, 24, 32)], window=(0, 0, 48, 32), rows=3, columns=5
    )
    assert torch.equal(regions[0], expected)


NO_VAL: dict[str, Any] = {"val_every": 250, "val_sigmas": 4}


# -- off, and refused ------------------------------------------------------------------------------


def test_a_dry_run_says_the_table_and_writes_nothing(
    bucketed: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(bucketed(tmp_path / "run", dry_run=True))
    said = capsys.readouterr().out
    assert "bucket:     24 x 40 pixels: 4 examples" in said
    assert "tokens:     up to " in said
    assert not (tmp_path / "run").exists()


def test_without_the_flag_nothing_has_buckets(
    bucketed: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = bucketed(tmp_path / "run", aspect_buckets=False)
    found = encoded(config)
    assert found.train.sizes == ()
    assert found.train.posterior(torch.arange(7))[0].shape[0] == 7
    train(config.changed(dry_run=True))
    assert "bucket:" not in capsys.readouterr().out


def test_the_key_of_a_picture_of_one_size_is_what_it_was() -> None:
    """A cache of before the buckets is found again."""
    key = latent_key(
        "ab" * 32, crop="union", box=(1, 2, 3.5, 4), height=512, width=384, identity="vae"
    )
    assert key == "58e64b16bf244673d800085fef7481c5a05505689a944a853afec6188bc82b40"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": "none"}, "aspect_buckets does not work with crop 'none'"),
        ({"compile": True}, "aspect_buckets does not work with compile"),
        (
            {
                "losses": LossSettings.from_flat(
                    lambda_rel_rank=1.0, ranker="latent", classifier=Path("classifier")
                )
            },
            "aspect_buckets does not work with ranker 'latent'",
        ),
    ],
)
def test_what_needs_one_size_is_refused_by_name(
    changes: dict[str, Any], message: str, bucketed: MakeConfig
) -> None:
    with pytest.raises(ConfigError, match=message):
        bucketed(Path("run"), **changes)


def test_a_size_that_does_not_come_out_even_is_refused(
    bucketed: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(SgfluxError, match="height and width must be multiples of"):
        train(bucketed(tmp_path / "run", height=33))


def test_processes_and_passes_share_out_the_order_batch_by_batch(
    bucketed: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pass of each process has a full batch of its own, so the mean is over examples."""
    drawn: dict[int, list[tuple[int, ...]]] = {}
    for index in (0, 1):
        recorder = Drawn()
        drawn[index] = recorder.rows
        monkeypatch.setattr("sgflux.training.steps.draw_batch", recorder)
        alone = TwoInOne(index=index, count=2, device=torch.device("cpu"))
        monkeypatch.setattr(Processes, "start", classmethod(lambda cls, device, p=alone: p))
        more: dict[str, Any] = {"val_jsonl": None, **NO_VAL, "gradient_accumulation_steps": 2}
        config = bucketed(tmp_path / str(index), **more, max_steps=3)
        train(config)
    sizes = encoded(bucketed(tmp_path / "run")).train.sizes
    order = BucketOrder(sizes, batch_size=2, seed=0)
    together = [rows for pair in zip(drawn[0], drawn[1], strict=True) for rows in pair]
    assert together == [tuple(order.batch(number, 2)) for number in range(12)]


@pytest.mark.slow
def test_two_real_processes_end_with_the_same_weights(bucketed: MakeConfig, tmp_path: Path) -> None:
    script = tmp_path / "training.py"
    script.write_text(TRAINING)  # compares the weights of both
    config = bucketed(tmp_path / "run", latent_cache_dir=tmp_path / "cache")
    output = finish(launch(script, *flags_of(config)))
    assert output.count("finished: the adapter of step") == 1
    assert TrainingState.load(tmp_path / "run" / "step4.pt").processes == 2


def test_without_the_flag_the_loop_draws_the_positions_that_it_always_drew(
    bucketed: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Drawn()
    monkeypatch.setattr("sgflux.training.steps.draw_batch", recorder)
    train(bucketed(tmp_path / "run", aspect_buckets=False, gradient_accumulation_steps=2))
    order = ExampleOrder(num_examples=7, seed=0)
    assert recorder.rows == [tuple(order.indices(2 * place, 2)) for place in range(8)]
