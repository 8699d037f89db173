"""The examples of a run: what is left out of them stays true of their pictures.

If one of these failed, a run would learn that what its pictures show is wrong.
"""

from __future__ import annotations

from pathlib import Path

from sgflux.data.examples import SceneExample, known_graphs, write_examples
from sgflux.settings.data import DataSettings
from sgflux.settings.graph_encoder import GraphEncoderSettings
from sgflux.training.encoding.splits import Splits, read_splits
from tests.helpers.cgip import write_vocabulary
from tests.helpers.graph_examples import example

ROWS = [
    example("man, on, horse"),
    example("man, pulling, horse; man, behind, horse"),
    example("cat, above, dog", number=1),
    example("cat, riding, dog", number=1),
]


def splits_of(folder: Path, encoder: GraphEncoderSettings, *, val_examples: int = 0) -> Splits:
    for name in ("train", "val"):
        write_examples(folder / f"{name}.jsonl", ROWS)
    return read_splits(
        DataSettings(train_jsonl=folder / "train.jsonl", val_jsonl=folder / "val.jsonl"),
        encoder=encoder,
        val_examples=val_examples,
        seed=0,
        say=lambda _: None,
    )


def stated(examples: list[SceneExample]) -> dict[str, set[str]]:
    return {
        path: {str(triple) for triple in graph.triples()}
        for (path, _), graph in known_graphs(examples).items()
    }


def test_what_the_encoder_cannot_read_is_still_true(tmp_path: Path) -> None:
    """Row 1 is left out for "pulling", and states what would be a negative of row 0."""
    encoder = GraphEncoderSettings(
        graph_encoder="cgip",
        cgip_ckpt=tmp_path / "not read",
        vocab_path=write_vocabulary(tmp_path / "vocab.json"),
        oov="skip",
    )
    (tmp_path / "not read").touch()
    splits = splits_of(tmp_path, encoder)
    for examples in (splits.train, splits.val):
        assert [str(one.triple) for one in examples][:2] == ["man, on, horse", "cat, above, dog"]
        assert stated(examples) == stated(ROWS)
    negatives = {str(item.negative.graph.triples()) for item in splits.items if item.negative}
    assert negatives
    assert not any("behind" in one and "man" in one for one in negatives)


def test_validation_items_know_what_the_rows_say_that_were_not_chosen(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, GraphEncoderSettings(), val_examples=2)
    assert len(splits.val) == 2
    known = [{str(one) for one in item.known.triples()} for item in splits.items]
    assert known == list(stated(ROWS).values())
