"""SGDiff's encoder: its arithmetic against a plain one, its checkpoint, its vocabulary.

If one of these failed, SGDiff's published weights would be used with another arithmetic or
vocabulary than they were trained with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sgflux.bases.flux1.load import model_identity
from sgflux.bases.flux1.network import FluxInputs
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import CGIP_PREDICATES
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import AdapterConfig, build_model
from sgflux.models.bundle import load_bundle, save_bundle
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.cgip_vocabulary import CGIPVocabulary, OutOfVocabularyError, read_synonyms
from sgflux.models.name_features import NameFeatures
from tests.helpers.cgip import (
    DIM,
    OBJECTS,
    PREDICATES,
    clip_weights,
    own_weights,
    write_checkpoint,
    write_vocabulary,
)
from tests.helpers.flux import make_transformer
from tests.helpers.models import rows_of

GRAPHS = [
    SceneGraph.parse("man, riding, horse"),
    SceneGraph.parse("dog, near, dog#2; dog#2, above, cat; dog, on, cat; (tree); man, by, tree"),
    SceneGraph.null(),
    SceneGraph.parse("man, on, horse; man, riding, horse; horse, behind, man; man, wearing, hat"),
]
REAL_VOCABULARY = Path(__file__).parents[3] / "shared" / "data" / "vg_vocab.json"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write_checkpoint(tmp_path / "sip_vg.pt"), write_vocabulary(tmp_path / "vocab.json")


@pytest.fixture
def encoder(files: tuple[Path, Path]) -> CGIPEncoder:
    return CGIPEncoder.from_checkpoint(files[0], vocab_path=files[1], max_relations=6)


def reference(
    weights: dict[str, torch.Tensor], graph: SceneGraph, *, max_relations: int
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """One image and one triple at a time, as the method is described: rows, global, count."""

    def mlp(layer: str, net: str, vector: torch.Tensor) -> torch.Tensor:
        for number in ("0", "2"):
            name = f"{layer}.{net}.{number}"
            vector = torch.relu(weights[f"{name}.weight"] @ vector + weights[f"{name}.bias"])
        return vector

    words = [*graph.objects, "__image__"]
    triples = [
        *graph.relationships,
        *((index, "__in_image__", len(words) - 1) for index in range(len(words) - 1)),
    ]
    objects = [weights["obj_embeddings.weight"][OBJECTS.index(word)] for word in words]
    relations = [weights["pred_embeddings.weight"][PREDICATES.index(p)] for _, p, _ in triples]
    hidden = weights["graph_conv.net1.0.weight"].shape[0]
    for layer in ["graph_conv", *(f"graph_net.gconvs.{index}" for index in range(5))]:
        letters: list[list[torch.Tensor]] = [[] for _ in objects]
        answers = []
        for (s, _, o), relation in zip(triples, relations, strict=True):
            answer = mlp(layer, "net1", torch.cat([objects[s], relation, objects[o]]))
            letters[s].append(answer[:hidden])
            answers.append(answer[hidden : hidden + DIM])
            letters[o].append(answer[hidden + DIM :])
        relations = answers
        objects = [mlp(layer, "net2", torch.stack(got).mean(dim=0)) for got in letters]
    pooled = torch.cat([torch.stack(objects).mean(dim=0), torch.stack(relations).mean(dim=0)])
    whole = weights["graph_projection.weight"] @ pooled + weights["graph_projection.bias"]
    rows = torch.zeros(max_relations, 3 * DIM, dtype=torch.float64)
    for row, (s, _, o) in enumerate(triples[:max_relations]):
        rows[row] = torch.cat([objects[s], relations[row], objects[o]])
    return rows, whole, min(len(triples), max_relations)


@pytest.mark.parametrize("max_relations", [3, 6, 15])
def test_it_computes_what_the_method_says(files: tuple[Path, Path], max_relations: int) -> None:
    """Fewer rows than triples, some of both, more rows than any graph has."""
    encoder = CGIPEncoder.from_checkpoint(
        files[0], vocab_path=files[1], max_relations=max_relations
    )
    features = encoder(GRAPHS)
    exact = encoder.double()(GRAPHS)
    encoder.float()
    weights = {name: value.double() for name, value in own_weights().items()}
    assert features.local.shape == (4, max_relations, 3 * DIM)
    assert features.global_.shape == (4, DIM)
    for index, graph in enumerate(GRAPHS):
        if graph.is_null:
            assert not features.mask[index].any()
            assert not features.local[index].any()
            assert not features.global_[index].any()
            continue
        local, whole, count = reference(weights, graph, max_relations=max_relations)
        torch.testing.assert_close(exact.local[index], local, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(exact.global_[index], whole, rtol=1e-12, atol=1e-12)
        assert features.mask[index].tolist() == [row < count for row in range(max_relations)]
        assert whole.abs().max() > 1e-2
        alone = encoder([graph])
        for ours, theirs in (
            (features.local[index], local.float()),
            (features.global_[index], whole.float()),
            (alone.local[0], features.local[index]),
            (alone.global_[0], features.global_[index]),
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_batch_of_nothing_is_no_special_case(encoder: CGIPEncoder) -> None:
    features = encoder([SceneGraph.null()] * 2)
    assert features.local.shape == (2, 6, 3 * DIM)
    assert not features.present.any()
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(GRAPHS).local.dtype == torch.float32


def test_it_has_the_53_keys_of_the_published_checkpoint(encoder: CGIPEncoder) -> None:
    assert set(encoder.state_dict()) == set(own_weights())
    assert len(encoder.state_dict()) == 53
    assert all(torch.equal(encoder.state_dict()[key], v) for key, v in own_weights().items())
    assert CGIPEncoder(**{k: v for k, v in encoder.config().items() if k != "kind"}).config() == (
        encoder.config()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graph_projection.bias": None}, "graph_projection.bias is missing"),
        (
            {"graph_conv.net3.0.weight": torch.zeros(1)},
            r"graph_conv.net3.0.weight is \(1,\), but such a model has none",
        ),
        ({"mm_head.weight": torch.zeros(1)}, "mm_head.weight is .* but such a model has none"),
        ({"graph_projection.bias": torch.zeros(9)}, r"graph_projection.bias is \(9,\), but"),
        (
            {"graph_projection.bias": own_weights()["graph_projection.bias"] * float("inf")},
            r"sip_vg\.pt: graph_projection\.bias has .* not finite",
        ),
        ({"obj_embeddings.weight": None}, "no matrix obj_embeddings.weight"),
    ],
)
def test_a_key_that_is_missing_unknown_or_misshapen_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    weights = {k: v for k, v in (own_weights() | change).items() if v is not None}
    path = write_checkpoint(tmp_path / "sip_vg.pt", weights)
    with pytest.raises(SgfluxError, match=message):
        CGIPEncoder.from_checkpoint(path, vocab_path=write_vocabulary(tmp_path / "vocab.json"))


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    vocabulary = write_vocabulary(tmp_path / "vocab.json")
    path = tmp_path / "sip_vg.pt"
    with pytest.raises(SgfluxError, match=r"sip_vg\.pt: cannot be read"):
        CGIPEncoder.from_checkpoint(path, vocab_path=vocabulary)
    path.write_bytes(b"half a fi")
    with pytest.raises(SgfluxError, match=r"sip_vg\.pt: is no checkpoint"):
        CGIPEncoder.from_checkpoint(path, vocab_path=vocabulary)
    torch.save(clip_weights(), path)
    with pytest.raises(SgfluxError, match="'state_dict'"):
        CGIPEncoder.from_checkpoint(path, vocab_path=vocabulary)


def test_a_vocabulary_of_another_size_or_order_is_refused(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    more = write_vocabulary(tmp_path / "more.json", objects=(*OBJECTS, "zebra"))
    with pytest.raises(SgfluxError, match=r"trained with 11 objects.*more\.json has 12"):
        CGIPEncoder.from_checkpoint(files[0], vocab_path=more)
    other = write_vocabulary(tmp_path / "other.json", predicates=PREDICATES[::-1])
    fingerprint = CGIPVocabulary.from_file(files[1]).fingerprint
    with pytest.raises(SgfluxError, match=r"other\.json has the words .* in another order"):
        CGIPEncoder.from_checkpoint(files[0], vocab_path=other, vocabulary_fingerprint=fingerprint)
    table = json.loads(files[1].read_text())
    table["pred_name_to_idx"]["on"] = 5
    files[1].write_text(json.dumps(table))
    with pytest.raises(SgfluxError, match=r"vocab\.json: 'pred_idx_to_name' .* about 'on'"):
        CGIPVocabulary.from_file(files[1])


@pytest.mark.skipif(not REAL_VOCABULARY.is_file(), reason="the shared data are not here")
def test_the_published_vocabulary_has_the_16_predicates_and_a_fixed_order(tmp_path: Path) -> None:
    vocabulary = CGIPVocabulary.from_file(REAL_VOCABULARY)
    assert vocabulary.canonical_predicates == CGIP_PREDICATES
    assert len({vocabulary.predicate_id(name) for name in CGIP_PREDICATES}) == 16
    weights = own_weights(objects=179, predicates=46)
    path = write_checkpoint(tmp_path / "sip_vg.pt", weights)
    encoder = CGIPEncoder.from_checkpoint(path, vocab_path=REAL_VOCABULARY)
    assert encoder([SceneGraph.parse("man, riding, horse")]).mask.sum() == 3
    names = list(vocabulary.objects)
    names[1], names[2] = names[2], names[1]
    permuted = write_vocabulary(
        tmp_path / "permuted.json", objects=tuple(names), predicates=vocabulary.predicates
    )
    with pytest.raises(SgfluxError, match="would be permuted"):
        CGIPEncoder.from_checkpoint(path, vocab_path=permuted)


def test_words_are_found_or_named_with_their_neighbours(tmp_path: Path) -> None:
    vocabulary = CGIPVocabulary(objects=OBJECTS, predicates=PREDICATES, synonyms={"Zebra": "horse"})
    assert vocabulary.object_id(" Man ") == 1
    assert vocabulary.object_id("zebra") == vocabulary.object_id("horse") == 2
    # The word itself first, then what it means, as Visual Genome writes it.
    for word, written in (
        ("by", "by"), ("next to", "near"), ("around/near", "near"), ("over", "above"),
        ("hanging from", "hanging on"), ("RIDE", "riding"),
    ):  # fmt: skip
        assert PREDICATES[vocabulary.predicate_id(word)] == written
    with pytest.raises(OutOfVocabularyError, match=r"no object 'hors'; nearest: 'horse'.*--oov"):
        vocabulary.object_id("hors")
    with pytest.raises(OutOfVocabularyError, match="no object 'old man'; nearest: 'man'"):
        vocabulary.object_id("old man")
    for hidden in ("__image__", "__IN_IMAGE__"):
        with pytest.raises(OutOfVocabularyError):
            vocabulary.object_id(hidden)
        with pytest.raises(OutOfVocabularyError):
            vocabulary.predicate_id(hidden)
    with pytest.raises(OutOfVocabularyError, match="no predicate 'left of'"):
        vocabulary.predicate_id("left of")
    with pytest.raises(SgfluxError, match=r"'zebra' cannot stand for 'hoarse'.*'horse'"):
        CGIPVocabulary(objects=OBJECTS, predicates=PREDICATES, synonyms={"zebra": "hoarse"})
    file = tmp_path / "synonyms.json"
    file.write_text('{"zebra": 2}')
    with pytest.raises(SgfluxError, match=r"synonyms\.json: 'zebra' must be given"):
        read_synonyms(file)


@pytest.mark.parametrize("trainable", [False, True])
def test_frozen_or_trained_it_goes_through_the_conditioner_and_into_a_bundle(
    files: tuple[Path, Path], inputs: FluxInputs, tmp_path: Path, trainable: bool
) -> None:
    transformer = make_transformer()
    encoder = CGIPEncoder.from_checkpoint(files[0], vocab_path=files[1], trainable=trainable)
    config = AdapterConfig(
        base=model_identity(transformer),
        max_sequence_length=32,
        block_start=3,
        block_end=5,
        lora_rank=2,
        encoder=encoder.config(),
    )
    names = NameFeatures(32)
    model = build_model(
        transformer=transformer, config=config, name_features=names, encoder=encoder
    )
    inputs = rows_of(inputs, [0] * 4)
    with torch.no_grad():
        base = make_transformer()(**vars(inputs)).sample
        assert torch.equal(model(GRAPHS, inputs), base)
        for gate in (model.flux.conditioner.gate_image, model.flux.conditioner.gate_text):
            gate.fill_(0.5)
    model(GRAPHS, inputs).square().mean().backward()
    weight = encoder.graph_projection.weight
    assert (weight.grad is not None and bool(weight.grad.any())) == trainable
    trained = [name for name in model.trainable_parameters() if name.startswith("encoder.")]
    assert len(trained) == (52 if trainable else 0)
    save_bundle(
        tmp_path / "bundle", config=config, state=model.adapter_state(), card="", metrics={}
    )
    loaded, state = load_bundle(tmp_path / "bundle")
    again = build_model(transformer=make_transformer(), config=loaded, name_features=names)
    again.load_trainable_state(state)
    with torch.no_grad():
        assert torch.equal(again(GRAPHS, inputs), model(GRAPHS, inputs))
    without = {name: v for name, v in state.items() if name != "encoder.graph_projection.bias"}
    with pytest.raises(SgfluxError, match=r"encoder\.graph_projection\.bias is missing"):
        again.load_trainable_state(without)
