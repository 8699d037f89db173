"""The pretrained graph encoder of a run, if it has one, and the data that it can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from sgflux.data.examples import Digest, SceneExample, read_examples
from sgflux.data.expressible import keep_expressible
from sgflux.data.repairs import repairs
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.cgip_vocabulary import CGIPVocabulary, OutOfVocabularyError, read_synonyms
from sgflux.settings.graph_encoder import GraphEncoderSettings

_NAMED_WORDS = 5


def pretrained_encoder(settings: GraphEncoderSettings) -> CGIPEncoder | None:
    """SGDiff's encoder with its weights; None for the native one, which starts untrained.

    Raises:
        SgfluxError: if checkpoint and vocabulary cannot be read or do not belong together.
    """
    if settings.kind == "native":
        return None
    assert settings.cgip_ckpt is not None, "checked by the settings"
    return CGIPEncoder.from_checkpoint(
        settings.cgip_ckpt,
        vocab_path=_vocab_path(settings),
        synonyms=_synonyms(settings),
        trainable=settings.train_graph_encoder,
    )


def cgip_vocabulary(settings: GraphEncoderSettings) -> CGIPVocabulary:
    """The words of SGDiff's encoder.

    Raises:
        SgfluxError: if no vocabulary is given, or it cannot be read.
    """
    return CGIPVocabulary.from_file(_vocab_path(settings), synonyms=_synonyms(settings))


def readable_examples(
    path: Path,
    *,
    encoder: GraphEncoderSettings,
    known: PredicateVocabulary,
    say: Callable[[str], None],
    digest: Digest | None = None,
) -> list[SceneExample]:
    """The examples of a file that the run's graph encoder can read; what it cannot is said.

    Args:
        path: JSONL file.
        encoder: Settings of the graph encoder.
        known: Predicates whose spelling is made canonical.
        say: Function that shows a line to the user.
        digest: Hash that gets every byte that is parsed.

    Raises:
        SgfluxError: on a bad file, on an object that the encoder lacks (unless the config says
            what to do about it), or if nothing is left.
    """
    # The native encoder reads any word; the vocabulary only makes the known ones canonical.
    examples = read_examples(path, vocabulary=known, open_vocabulary=True, digest=digest)
    if (line := repairs(examples)) is not None:
        say(f"{path.name}: {line}")
    if encoder.kind == "native":
        if (line := other_words(examples, known)) is not None:
            say(f"{path.name}: {line}")
        return examples
    vocabulary = cgip_vocabulary(encoder)
    kept = keep_expressible(
        examples,
        predicates=vocabulary.canonical_predicates,
        knows_object=vocabulary.knows_object if encoder.oov == "skip" else None,
    )
    for line in kept.lines():
        say(f"{path.name}: {line}")
    if not kept.examples:
        raise SgfluxError(
            f"{path}: the cgip graph encoder can read none of its {kept.of} examples; "
            "the native encoder reads any word"
        )
    for example in kept.examples:
        for name in example.graph.objects:
            try:
                vocabulary.object_id(name)
            except OutOfVocabularyError as error:
                raise SgfluxError(
                    f"{path}: {example.image_rel_path}: {error}; or leave such objects out with "
                    "--oov skip"
                ) from error
    return kept.examples


def other_words(
    examples: Iterable[SceneExample], vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY
) -> str | None:
    """The predicates that are none of the known ones: they may be meant, or misspelt.

    Returns:
        The most frequent ones, with how often and what they look like, in words; None without any.
    """
    words = Counter(p for one in examples for _, p, _ in one.graph.relationships)
    other = [(word, count) for word, count in words.most_common() if word not in vocabulary]
    if not other:
        return None
    named = []
    for word, count in other[:_NAMED_WORDS]:
        near = vocabulary.nearest(word)
        named.append(f"{word!r} {count} times" + (f" (like {near[0]!r})" if near else ""))
    more = f" and {len(other) - len(named)} others" if len(other) > len(named) else ""
    return f"predicates beyond the known ones, taken as they are: {', '.join(named)}{more}"


def _vocab_path(settings: GraphEncoderSettings) -> Path:
    if settings.vocab_path is None:
        raise SgfluxError(
            "graph_encoder 'cgip' needs vocab_path, the vocab.json its checkpoint was trained with"
        )
    return settings.vocab_path


def _synonyms(settings: GraphEncoderSettings) -> dict[str, str]:
    return {} if settings.oov_map is None else read_synonyms(settings.oov_map)
