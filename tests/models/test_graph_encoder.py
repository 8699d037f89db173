"""The native encoder: what a graph says, and nothing about the batch it came in.

If one of these failed, a graph's features would depend on the other graphs of its batch, or lose
the direction of its statements.
"""

import pytest
import torch

from sgflux.errors import SgfluxError
from sgflux.graphs.names import graph_names
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.graph_encoder import NativeGraphEncoder
from sgflux.models.name_features import NameFeatures

GRAPHS = [
    SceneGraph.parse("man, riding, horse"),
    SceneGraph.null(),
    SceneGraph.parse("dog, left of, dog#2; dog#2, near, cat; cat, wearing, hat; (tree)"),
    SceneGraph(objects=("ball",), relationships=()),
]


@pytest.fixture
def encoder(names: NameFeatures) -> NativeGraphEncoder:
    return NativeGraphEncoder(name_features=names, text_dim=32, hidden_dim=16)


def triple(encoder: NativeGraphEncoder, text: str) -> torch.Tensor:
    return encoder([SceneGraph.parse(text)]).local[0]


def test_shapes_and_mask(encoder: NativeGraphEncoder) -> None:
    features = encoder(GRAPHS)
    assert features.local.shape == (4, 3, 48)
    assert features.global_.shape == (4, 16)
    assert features.words is not None
    assert features.words.shape == (4, 3, 3, 32)
    assert not features.words[~features.mask].any()
    assert features.mask.sum(dim=1).tolist() == [1, 0, 3, 0]
    assert features.present.tolist() == [True, False, True, False]
    assert not features.local[~features.mask].any()
    assert not features.global_[[1, 3]].any()


def test_a_graph_has_the_same_features_alone_and_in_a_batch(encoder: NativeGraphEncoder) -> None:
    together = encoder(GRAPHS)
    for row, graph in enumerate(GRAPHS):
        alone = encoder([graph])
        count = len(graph.relationships)
        torch.testing.assert_close(alone.local[0, :count], together.local[row, :count])
        torch.testing.assert_close(alone.global_[0], together.global_[row])


def test_direction_predicate_and_every_word_matter(encoder: NativeGraphEncoder) -> None:
    rows = [
        triple(encoder, text)[0]
        for text in (
            "man, above, horse",
            "horse, above, man",
            "man, below, horse",
            "woman, above, horse",
            "man, above, dog",
            "man, zigzagging past, horse",
        )
    ]
    distances = torch.cdist(torch.stack(rows), torch.stack(rows))
    assert distances[~torch.eye(len(rows), dtype=torch.bool)].min() > 0.05


def test_neighbours_are_seen_and_the_order_of_triples_is_not(encoder: NativeGraphEncoder) -> None:
    one = triple(encoder, "man, riding, horse")
    two = triple(encoder, "man, riding, horse; man, wearing, hat")
    assert (one[0] - two[0]).norm() > 0.05
    turned = encoder([SceneGraph(("hat", "horse", "man"), ((2, "wearing", 0), (2, "riding", 1)))])
    torch.testing.assert_close(turned.local[0], two.flip(0))
    torch.testing.assert_close(
        turned.global_,
        encoder([SceneGraph.parse("man, riding, horse; man, wearing, hat")]).global_,
    )


def test_a_triple_knows_its_place_in_reading_order(encoder: NativeGraphEncoder) -> None:
    alone = triple(encoder, "man, riding, horse")
    first = triple(encoder, "man, riding, horse; woman, holding, cup")
    second = triple(encoder, "man, riding, horse; dog, holding, cup")
    # Nothing else reaches a triple from one that shares no object with it.
    torch.testing.assert_close(first[0], alone[0])
    assert (second[0] - alone[0]).norm() > 0.05


def test_unnumbered_triples_that_share_nothing_do_not_know_of_each_other(
    names: NameFeatures,
) -> None:
    encoder = NativeGraphEncoder(
        name_features=names, text_dim=32, hidden_dim=16, number_triples=False
    )
    assert not [name for name in encoder.state_dict() if name.startswith("rank_in")]
    alone = triple(encoder, "man, riding, horse")
    both = triple(encoder, "man, riding, horse; dog, holding, cup")
    torch.testing.assert_close(both[0], alone[0])


def test_objects_of_one_name_are_told_apart(encoder: NativeGraphEncoder) -> None:
    first = triple(encoder, "dog, left of, dog#2; dog, wearing, hat")
    second = triple(encoder, "dog, left of, dog#2; dog#2, wearing, hat")
    assert (first - second).norm(dim=1).min() > 0.01


def test_words_are_canonical_and_case_does_not_matter(encoder: NativeGraphEncoder) -> None:
    assert torch.equal(triple(encoder, "Man, over, HORSE"), triple(encoder, "man, above, horse"))


def test_thirty_triples_and_isolated_objects(encoder: NativeGraphEncoder) -> None:
    chain = SceneGraph(
        objects=tuple(f"thing {i}" for i in range(31)),
        relationships=tuple((i, "near", i + 1) for i in range(30)),
    )
    assert encoder([chain]).local.shape == (1, 30, 48)
    lonely = SceneGraph(objects=(*GRAPHS[0].objects, "tree"), relationships=((0, "riding", 1),))
    assert not torch.equal(encoder([lonely]).global_, encoder(GRAPHS[:1]).global_)


def test_every_weight_learns_and_stays_float32_under_autocast(encoder: NativeGraphEncoder) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(GRAPHS)
    assert features.local.dtype == features.global_.dtype == torch.float32
    (features.local.square().sum() + features.global_.square().sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_null_graphs_alone_are_no_special_case(encoder: NativeGraphEncoder) -> None:
    features = encoder([SceneGraph.null(), SceneGraph.null()])
    assert features.mask.tolist() == [[False], [False]]
    assert not features.local.any()


def test_the_config_builds_an_equal_encoder(
    encoder: NativeGraphEncoder, names: NameFeatures
) -> None:
    settings = encoder.config()
    assert settings.pop("kind") == "native"
    again = NativeGraphEncoder(name_features=names, **settings)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(GRAPHS).local, encoder(GRAPHS).local)


@pytest.mark.parametrize("sizes", [{"hidden_dim": 3}, {"hidden_dim": 0}, {"layers": 0}])
def test_impossible_sizes_are_refused(names: NameFeatures, sizes: dict[str, int]) -> None:
    with pytest.raises(SgfluxError, match="at least 1 layer"):
        NativeGraphEncoder(name_features=names, text_dim=32, **sizes)
    with pytest.raises(SgfluxError, match=r"width 31.*have 32"):
        NativeGraphEncoder(name_features=names, text_dim=31)


def test_a_name_is_encoded_once_and_remembered() -> None:
    asked: list[str] = []

    def encode(names: list[str]) -> torch.Tensor:
        asked.extend(names)
        return torch.arange(2.0 * len(names)).view(-1, 2) + 10

    names = NameFeatures(2, encode)
    names.add(["Cat", "cat", "dog"], torch.tensor([[1.0, 1.0], [9.0, 9.0], [2.0, 2.0]]))
    assert names.lookup(["dog", " CAT"]).tolist() == [[2.0, 2.0], [1.0, 1.0]]
    assert names.lookup(["wet  Dog", "cat", "wet dog"])[[0, 2]].tolist() == [[10.0, 11.0]] * 2
    names.add(["cat"], torch.zeros(1, 2))
    assert names.lookup(["cat"]).tolist() == [[1.0, 1.0]]
    assert asked == ["wet dog"]
    assert "Wet Dog" in names


def test_a_missing_name_is_named() -> None:
    names = NameFeatures(4)
    names.add(["man"], torch.zeros(1, 4))
    with pytest.raises(SgfluxError, match="'horse'"):
        names.lookup(["man", "horse"])
    with pytest.raises(SgfluxError, match=r"\(1, 4\), got \(1, 5\)"):
        names.add(["horse"], torch.zeros(1, 5))


def test_graph_names_are_all_that_is_looked_up() -> None:
    found = graph_names([SceneGraph.parse("Man, over, horse; man, pets, horse")])
    assert [name for name in found if "⟦" not in name] == ["man", "horse", "above", "pets"]
    assert [name for name in found if "pets" in name and name != "pets"] == [
        "⟦man⟧ pets horse",
        "man ⟦pets⟧ horse",
        "man pets ⟦horse⟧",
    ]
    names = NameFeatures(8)
    names.add(found, torch.randn(len(found), 8))
    encoder = NativeGraphEncoder(name_features=names, text_dim=8, hidden_dim=8)
    encoder([SceneGraph.parse("man, above, horse; man, pets, horse")])
