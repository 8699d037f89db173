"""Boxes of a graph's objects: read, placed in the attention, and predicted.

If one of these failed, an adapter that reads boxes would not start as one without them, boxes would
act on other objects than their own, graph tokens would stand elsewhere than the image tokens of
their place, or predicted boxes would not follow from graph and seed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor

from sgflux.bases.flux1.graph_block import rotated
from sgflux.bases.flux1.latents import coverage, image_ids, place_ids, token_places
from sgflux.bases.flux1.network import FluxInputs
from sgflux.data.boxes import Box, Layout
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.box_map import place_features
from sgflux.models.conditioner import LEAST_COVERAGE
from sgflux.models.encoders import complete_settings, make_encoder
from sgflux.models.graph_encoder import NativeGraphEncoder, box_tensors
from sgflux.models.layout import LAYOUT_DRAWS, LayoutPredictor, unrelated_overlap
from sgflux.models.name_features import NameFeatures
from sgflux.settings.checks import ConfigError
from sgflux.settings.graph_encoder import GraphEncoderSettings
from tests.helpers.models import make_config, make_model, random_names, train_by_chance

GRAPHS = [
    SceneGraph.parse("man, riding, horse; man, wearing, hat"),
    SceneGraph.null(),
    SceneGraph.parse("dog, above, cat"),
]
MAN, HORSE, DOG = (Box(0.1 * i, 0.2, 0.3, 0.1 + 0.1 * i) for i in range(3))
LAYOUTS: list[Layout | None] = [(MAN, HORSE, None), None, (DOG, None)]


def encoder(**settings: Any) -> NativeGraphEncoder:
    """An encoder from one seed, and torch's generator after it."""
    torch.manual_seed(0)
    own = {"kind": "native", "hidden_dim": 16, "number_triples": True, **settings}
    built = make_encoder(complete_settings(own, text_dim=32), name_features=random_names())
    assert isinstance(built, NativeGraphEncoder)
    return built


EVERYTHING = {
    "read_boxes": True,
    "box_positions": True,
    "box_attention": True,
    "box_map": True,
    "predict_layout": True,
}


def everything() -> NativeGraphEncoder:
    """An encoder with all that boxes can do, and weights off their first values."""
    built = encoder(**EVERYTHING)
    assert built.box_in is not None
    torch.nn.init.normal_(built.box_in.weight)
    return built


def test_an_encoder_with_boxes_starts_as_one_without_them() -> None:
    """A comparison of the two would else compare two random initialisations."""
    plain, after_plain = encoder(), torch.rand(1)
    boxed = encoder(**EVERYTHING)
    assert torch.equal(torch.rand(1), after_plain)
    weights = boxed.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in plain.state_dict().items())
    expected, found = plain(GRAPHS), boxed(GRAPHS, LAYOUTS)
    assert torch.equal(found.local, expected.local)
    assert torch.equal(found.global_, expected.global_)
    assert expected.centers is None


def test_settings_without_boxes_are_those_of_before_boxes() -> None:
    """A bundle without boxes would else have other bytes, and another fingerprint."""
    off = dict.fromkeys(EVERYTHING, False)
    settings = complete_settings({"kind": "native", **off}, text_dim=32)
    assert set(settings) == {"kind", "text_dim", "hidden_dim", "layers", "number_triples"}
    assert encoder().config().keys() == settings.keys()
    on = complete_settings({"kind": "native", "read_boxes": True}, text_dim=32)
    assert on["read_boxes"] is True
    with pytest.raises(SgfluxError, match="predict_layout needs read_boxes or"):
        complete_settings({"kind": "native", "predict_layout": True}, text_dim=32)
    with pytest.raises(SgfluxError, match="box_map needs box_attention"):
        complete_settings({"kind": "native", "box_map": True}, text_dim=32)
    with pytest.raises(ConfigError, match="box_map needs box_attention"):
        GraphEncoderSettings(box_map=True)


def test_a_box_is_read_with_its_own_object_alone_and_in_a_batch_as_alone() -> None:
    built = everything()
    boxes = built(GRAPHS, LAYOUTS)
    moved = built(GRAPHS, [(MAN, HORSE._replace(top=0.6), None), None, (DOG, None)])
    assert not torch.allclose(boxes.local[0], moved.local[0])
    assert torch.equal(boxes.local[1:], moved.local[1:])
    unknown = built(GRAPHS, [(None, None, None), None, (None, None)])
    assert torch.equal(unknown.local, encoder()(GRAPHS).local)
    alone = built([GRAPHS[2]], [LAYOUTS[2]])
    torch.testing.assert_close(alone.local[0, :1], boxes.local[2, :1])


def test_a_triple_is_at_its_boxes_and_its_predicate_between_them() -> None:
    found = everything()(GRAPHS, LAYOUTS)
    assert found.centers is not None
    assert found.placed is not None
    man, horse = torch.tensor(MAN.center), torch.tensor(HORSE.center)
    torch.testing.assert_close(found.centers[0, 0], torch.stack([man, (man + horse) / 2, horse]))
    assert found.placed[0].tolist() == [[True, True, True], [True, False, False]]
    assert found.placed[2, 0].tolist() == [True, False, False]
    assert not found.placed[1].any()
    assert everything()(GRAPHS).centers is None


def test_a_triples_regions_are_its_boxes_and_the_one_around_both() -> None:
    found = everything()(GRAPHS, LAYOUTS)
    assert found.regions is not None
    man, both, horse = (Box.from_center((x, y), w, h) for x, y, w, h in found.regions[0, 0])
    around = Box(0.0, 0.2, 0.4, 0.2)  # of (0, 0.2, 0.3, 0.1) and (0.1, 0.2, 0.3, 0.2)
    for box, expected in ((man, MAN), (both, around), (horse, HORSE)):
        torch.testing.assert_close(torch.tensor(box), torch.tensor(expected))
    assert everything()(GRAPHS).regions is None


def test_boxes_without_effect_and_boxes_of_other_objects_are_refused() -> None:
    with pytest.raises(SgfluxError, match="reads no boxes"):
        encoder()(GRAPHS, LAYOUTS)
    with pytest.raises(ValueError, match="1 boxes for 2 objects"):
        everything()([GRAPHS[2]], [(DOG,)])


def test_a_place_has_the_position_of_the_image_token_there() -> None:
    """A token that stood half a cell or an axis off would look at its neighbour."""
    rows, columns = 4, 6
    ids = image_ids(rows, columns)
    centers = torch.stack(
        [torch.tensor([(c + 0.5) / columns, (r + 0.5) / rows]) for r in range(4) for c in range(6)]
    )
    placed = torch.ones(1, len(ids), dtype=torch.bool)
    torch.testing.assert_close(place_ids(centers[None], placed, last=ids[-1])[0], ids)
    assert not place_ids(centers[None], ~placed, last=ids[-1]).any()


def test_a_box_covers_the_image_tokens_that_lie_in_it() -> None:
    """An axis or half a cell off, an image token would attend to its neighbour's object."""
    rows, columns = 4, 6
    # From column 1.5 to 4 and from row 2 to 3.25; the whole picture; a point.
    boxes = torch.tensor([[2.75 / 6, 2.625 / 4, 2.5 / 6, 1.25 / 4], [0.5] * 2 + [1] * 2, [0.5] * 4])
    boxes[2, 2:] = 0
    shares = coverage(boxes[None], tokens=24, last=image_ids(rows, columns)[-1])[0]
    across, down = torch.tensor([0, 0.5, 1, 1, 0, 0]), torch.tensor([0, 0, 1, 0.25])
    torch.testing.assert_close(shares[0].view(4, 6), down[:, None] * across)
    assert torch.equal(shares[1], torch.ones(24))
    assert not shares[2].any()


def test_a_text_token_attends_to_all_of_the_graph_whatever_the_boxes(
    flux_folder: Path, names: NameFeatures, inputs: FluxInputs
) -> None:
    """The bias is made once a pass; shifted by a token, the image would look elsewhere."""
    encoder = {"kind": "native", "hidden_dim": 16, "box_attention": True}
    model = make_model(flux_folder, names, encoder=encoder)
    network, layout = model.flux.network, (DOG, HORSE)
    state = network.embed(inputs)
    features = model.features([GRAPHS[2]] * 3, [layout] * 3)
    bias = model.flux.conditioner.attention_bias(features, network=network, state=state)
    assert bias is not None
    assert features.regions is not None
    shares = coverage(features.regions.flatten(1, 2), tokens=24, last=inputs.img_ids[-1])
    assert not bias[:, 0].any(), "the global token is everywhere"
    assert not bias[..., :7].any()
    placed = features.placed.flatten(1)[..., None]
    expected = shares.clamp(min=LEAST_COVERAGE).log().masked_fill(~placed, 0.0)
    assert torch.equal(bias[:, 1:, 7:], expected)
    assert expected.min() < -1


def test_tokens_of_a_place_are_turned_as_diffusers_turns_image_tokens(
    flux_folder: Path, names: NameFeatures
) -> None:
    network = make_model(flux_folder, names).flux.network
    embed = network.transformer.pos_embed
    positions = embed(image_ids(2, 3))
    states = torch.randn(2, 6, 4, positions[0].shape[-1])
    each = tuple(part.expand(2, -1, -1) for part in positions)
    expected = apply_rotary_emb(states, positions, sequence_dim=1)
    torch.testing.assert_close(rotated(states, each), expected)
    nowhere = tuple(part.expand(2, 6, -1) for part in embed(torch.zeros(1, 3)))
    assert torch.equal(rotated(states, nowhere), states)


@pytest.fixture(params=[("box_positions",), ("box_attention",), ("box_attention", "box_map")])
def places(request: pytest.FixtureRequest, flux_folder: Path, names: NameFeatures) -> Any:
    """A model that gives triples places or regions and reads no boxes beside."""
    settings = {"kind": "native", "hidden_dim": 16, **dict.fromkeys(request.param, True)}
    model = make_model(flux_folder, names, encoder=settings)

    def velocity(inputs: FluxInputs, layouts: list[Layout | None] | None) -> Tensor:
        graphs = [GRAPHS[2], SceneGraph.null(), GRAPHS[2]]
        features = model.features(graphs, layouts)
        with torch.no_grad():
            return model.flux(inputs, graph=features)

    return model, velocity


def test_places_move_the_picture_of_their_own_graph_alone_and_no_gate_no_picture(
    places: Any, inputs: FluxInputs
) -> None:
    model, velocity = places
    layouts: list[Layout | None] = [(DOG, HORSE), None, None]
    assert torch.equal(velocity(inputs, layouts), model(None, inputs))
    train_by_chance(model)
    without, placed = velocity(inputs, None), velocity(inputs, layouts)
    assert not torch.allclose(without[0], placed[0], atol=1e-3)
    torch.testing.assert_close(without[1:], placed[1:])
    turned = velocity(inputs, [(HORSE, DOG), None, None])
    assert not torch.allclose(turned[0], placed[0], atol=1e-3)
    # Without any known box nothing is placed.
    unknown: Layout = (None, None)
    torch.testing.assert_close(velocity(inputs, [unknown, None, None]), without)


def test_the_map_tells_an_image_token_which_part_of_which_object_it_shows(
    flux_folder: Path, names: NameFeatures, inputs: FluxInputs
) -> None:
    settings = {"kind": "native", "hidden_dim": 16, "box_attention": True, "box_map": True}
    model = make_model(flux_folder, names, encoder=settings)
    box_map, network = model.flux.conditioner.box_map, model.flux.network
    assert box_map is not None
    state = network.embed(inputs)
    # Two boxes of two by two image tokens, of the four rows and six columns, and one across both.
    left = Box.from_center((1 / 6, 1 / 4), 2 / 6, 2 / 4)
    right = Box.from_center((5 / 6, 3 / 4), 2 / 6, 2 / 4)
    graphs = [GRAPHS[2], SceneGraph.null(), GRAPHS[2]]
    features = model.features(graphs, [(left, right), None, None])
    with torch.no_grad():
        painted = box_map(features, network=network, state=state).view(3, 4, 6, -1)
    assert not painted[1:].any(), "an example without boxes gets nothing from another one's"
    own = painted[0, :2, :2].flatten(0, 1)
    assert len(own.unique(dim=0)) == 4, "each part of an object has features of its own"
    assert not torch.allclose(own, painted[0, 2:, 4:].flatten(0, 1), atol=1e-3)
    # As a box moves by a token, what is painted moves along.
    moved = (left._replace(left=left.left + 1 / 6), right)
    features = model.features([GRAPHS[2]], [moved])
    with torch.no_grad():
        shifted = box_map(features, network=network, state=state).view(4, 6, -1)
    assert shifted[:, 0].abs().max() < 1e-6, "no box reaches there any more"
    assert not torch.allclose(shifted[:2, 1], painted[0, :2, 1], atol=1e-3)
    torch.testing.assert_close(box_map.gated(painted, 0), torch.zeros_like(painted))
    # Of an object without a box nothing is known, nor of the place of its predicate.
    features = model.features([GRAPHS[2]], [(None, right)])
    with torch.no_grad():
        half = box_map(features, network=network, state=state).view(4, 6, -1)
    assert half[:, :4].abs().max() < 1e-6
    assert half[2:, 4:].abs().max() > 1e-3


def test_the_map_reads_places_relative_to_the_box() -> None:
    centers = token_places(24, last=image_ids(4, 6)[-1])
    boxes = torch.tensor([[1 / 6, 1 / 4, 1 / 3, 1 / 2], [5 / 6, 3 / 4, 1 / 3, 1 / 2]])
    one, other = place_features(centers, boxes[None])[0].view(2, 4, 6, -1)
    torch.testing.assert_close(one[:2, :2], other[2:, 4:])
    larger = place_features(centers, boxes[None] * torch.tensor([1, 1, 2, 2]))[0].view(2, 4, 6, -1)
    assert not torch.allclose(larger[0, :2, :2], one[:2, :2], atol=1e-2)


def test_the_centers_of_image_tokens_lie_in_the_middle_of_their_places() -> None:
    centers = token_places(24, last=image_ids(4, 6)[-1])
    assert centers[0].tolist() == pytest.approx([1 / 12, 1 / 8])
    assert centers[-1].tolist() == pytest.approx([11 / 12, 7 / 8])
    tiny = torch.cat([centers, torch.full((24, 2), 1e-3)], dim=-1)
    shares = coverage(tiny[None], tokens=24, last=image_ids(4, 6)[-1])[0]
    assert torch.equal(shares > 0, torch.eye(24, dtype=torch.bool))


def test_places_are_those_of_three_tokens_of_a_triple(flux_folder: Path, inputs: Any) -> None:
    from sgflux.bases.flux1.load import load_transformer
    from sgflux.settings.model_source import ModelSource

    config = make_config(load_transformer(ModelSource(model_id=str(flux_folder))))
    for name in ("box_positions", "box_attention"):
        placed = {**config.encoder, name: True}
        for wrong in ({"graph_mode": "temb"}, {"tokens_per_triple": 1}):
            with pytest.raises(SgfluxError, match=f"{name} .* graph_mode 'token' and 3 tokens"):
                dataclasses.replace(config, encoder=placed, **wrong)


# --- predicted boxes ----------------------------------------------------------------------------


SIGMA = torch.tensor([0.5])


def predictor() -> LayoutPredictor:
    torch.manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        return LayoutPredictor(text_dim=32, hidden_dim=32, layers=2)


def sampled(
    built: LayoutPredictor, graphs: list[SceneGraph], seeds: list[int], **settings: int
) -> list[Layout]:
    return built.sample(encoder().batch(graphs, torch.device("cpu")), seeds, **settings)


def test_sampled_boxes_follow_from_graph_and_seed_alone() -> None:
    """A picture's boxes would else depend on the batch in which it is drawn."""
    built = predictor()
    together = sampled(built, GRAPHS, [3, 4, 5])
    assert [len(layout) for layout in together] == [3, 0, 2]
    (alone,) = sampled(built, [GRAPHS[2]], [5])
    other, turned = sampled(built, [GRAPHS[2], SceneGraph.parse("cat, above, dog")], [6, 5])

    def numbers(layout: Layout) -> Tensor:
        return torch.tensor([list(box) for box in layout if box is not None])

    torch.testing.assert_close(numbers(alone), numbers(together[2]))
    assert not torch.allclose(numbers(alone), numbers(other), atol=0.01)
    assert not torch.allclose(numbers(alone), numbers(turned), atol=1e-4)
    for box in (box for layout in together for box in layout):
        assert box is not None
        assert 0 <= box.center[0] <= 1
        assert 0 < box.width <= 1


def test_objects_that_no_triple_joins_are_placed_with_regard_to_each_other() -> None:
    """They would else fall on one place."""
    built, boxes = predictor(), torch.zeros(1, 4, 4)
    pair, both = (
        built(encoder().batch([SceneGraph.parse(text)], boxes.device), boxes[:, :count], SIGMA)
        for text, count in (("dog, above, cat", 2), ("dog, above, cat; man, wearing, hat", 4))
    )
    assert not torch.allclose(pair, both[:, :2], atol=1e-4)


class Knowing(LayoutPredictor):
    """The velocity that leads from any noise to boxes of the mean place and size."""

    def forward(self, _: Any, boxes: Tensor, sigma: Tensor) -> Tensor:
        return boxes / sigma[:, None, None]


def test_sampling_goes_from_noise_at_sigma_1_to_boxes_at_sigma_0() -> None:
    built = Knowing(text_dim=32, hidden_dim=32, layers=1)
    for steps in (1, 4, 16):
        (layout,) = sampled(built, [GRAPHS[2]], [3], steps=steps, candidates=2)
        mean = torch.tensor([0.3, 0.3, 0.4, 0.4]).expand(2, 4)
        torch.testing.assert_close(torch.tensor(layout), mean)


def overlap(layout: Layout, true: Layout) -> float:
    """Mean intersection over union of the boxes of a layout with the true ones."""
    pairs = zip(layout, true, strict=True)
    shares = [box.iou(own) for box, own in pairs if box is not None and own is not None]
    assert len(shares) == len(true)
    return sum(shares) / len(shares)


def taught(steps: int) -> tuple[LayoutPredictor, list[SceneGraph], list[Layout]]:
    """A predictor that learned above and below; its graphs and their layouts."""
    pairs = ("dog, above, cat", "cat, above, dog", "cat, below, dog", "dog, below, cat")
    graphs = [SceneGraph.parse(text) for text in pairs]
    upper, lower = Box(0.4, 0.1, 0.2, 0.2), Box(0.3, 0.6, 0.4, 0.3)
    layouts: list[Layout] = [(upper, lower)] * 2 + [(lower, upper)] * 2
    built, batch = predictor(), encoder().batch(graphs * 8, torch.device("cpu"))
    boxes, known = box_tensors(layouts * 8, 2)
    optimizer = torch.optim.AdamW(built.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        errors, _ = built.errors(batch, boxes, known, generator)
        errors.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return built, graphs, layouts


def test_the_most_plausible_of_several_candidates_is_drawn() -> None:
    """A predictor that has learned little draws well by chance; its own error says when."""
    built, graphs, layouts = taught(steps=25)
    seeds = list(range(64))
    means = []
    for candidates in (1, 16):
        found = sampled(built, graphs * 16, seeds, candidates=candidates)
        means.append(sum(map(overlap, found, layouts * 16)) / len(found))
    assert means[1] > means[0] + 0.1


def test_a_layouts_own_error_is_of_its_objects_alone() -> None:
    """Padding that counted would choose other boxes for a graph beside a larger one."""
    built = predictor()
    batch, alone = (encoder().batch(graphs, torch.device("cpu")) for graphs in (GRAPHS, GRAPHS[2:]))
    boxes = torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        errors = built._own_errors(batch, batch, boxes)
        odd = torch.where(batch.node_mask[..., None], boxes, 9.0)
        torch.testing.assert_close(built._own_errors(batch, batch, odd), errors)
        torch.testing.assert_close(built._own_errors(alone, alone, boxes[2:, :2]), errors[2:])
    assert errors[0] > 0
    assert errors[1] == 0, "a graph without objects has no box to be wrong about"


def test_only_objects_that_no_triple_joins_may_not_overlap() -> None:
    """A hat lies on the man who wears it; a dog on a horse's place would hide one of them."""
    graphs = [SceneGraph.parse("man, wearing, hat; dog, above, cat"), GRAPHS[2], SceneGraph.null()]
    batch = encoder().batch(graphs, torch.device("cpu"))
    boxes = torch.zeros(3, 4, 4)
    man, hat = [0.3, 0.5, 0.4, 0.8], [0.3, 0.2, 0.2, 0.2]
    dog, cat = [0.6, 0.3, 0.4, 0.2], [0.8, 0.8, 0.2, 0.2]
    boxes[0] = torch.tensor([man, hat, dog, cat])
    boxes[1, :2] = torch.tensor([dog, dog])  # joined by a triple
    boxes[1:, 2:] = torch.tensor(dog)  # padding
    # Man and dog share 0.1 by 0.2 of the dog's 0.4 by 0.2; hat and dog touch.
    torch.testing.assert_close(unrelated_overlap(batch, boxes), torch.tensor([0.25, 0.0, 0.0]))


class Undecided(LayoutPredictor):
    """It finds each layout as plausible as any other, and brings noise to boxes of its size."""

    def forward(self, _: Any, boxes: Tensor, sigma: Tensor) -> Tensor:
        return torch.zeros_like(boxes)

    def _own_errors(self, _: Any, several: Any, boxes: Tensor) -> Tensor:
        return boxes.new_zeros(len(boxes))


def test_of_equally_plausible_candidates_that_with_less_overlap_is_drawn() -> None:
    graphs = [SceneGraph.parse("man, wearing, hat; dog, above, cat")] * 16
    batch = encoder().batch(graphs, torch.device("cpu"))
    built, means = Undecided(text_dim=32, hidden_dim=32, layers=1), []
    for candidates in (1, 8):
        layouts = built.sample(batch, range(16), candidates=candidates)
        boxes, _ = box_tensors(layouts, 4)
        means.append(unrelated_overlap(batch, boxes).mean().item())
    assert means[1] < means[0] / 2


def test_a_predictor_learns_where_things_are() -> None:
    """Above and below, with a size of each object: what a graph says decides, and not its order."""
    built, graphs, layouts = taught(steps=120)
    for found, true in zip(sampled(built, graphs, [7, 8, 9, 10]), layouts, strict=True):
        assert overlap(found, true) > 0.4


def test_unknown_boxes_have_no_error() -> None:
    boxes, known = box_tensors(LAYOUTS, 3)
    batch = encoder().batch(GRAPHS, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    errors, overlaps = predictor().errors(batch, boxes, known, generator)
    assert len(errors) == len(overlaps) == 3 * LAYOUT_DRAWS
    assert errors.requires_grad
    assert not overlaps.requires_grad
    assert 0 <= overlaps.min() <= overlaps.max() <= 1
    odd = torch.where(known[..., None], boxes, 9.0)
    again, _ = predictor().errors(batch, odd, known, torch.Generator().manual_seed(0))
    torch.testing.assert_close(again, errors)
