"""Common sense, as data: what a predicate entails, and which nouns may name the same thing.

Both tables serve one end: a negative must not be true of the image. They lean to caution: a pair
listed without need costs a few negatives, a pair that is missing costs wrong ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from sgflux.graphs.predicates import PredicateVocabulary

ENTAILMENTS: Mapping[str, tuple[str, ...]] = {
    # "A p B" says, or all but says, "A q B" too. Read transitively: riding -> on -> touching.
    "carrying": ("holding",),
    "eating": ("touching",),
    "hanging from": ("touching", "below"),
    "holding": ("touching",),
    "on": ("touching", "above"),
    "riding": ("on", "using"),
    "sitting on": ("on",),
    "standing on": ("on",),
    "touching": ("around/near",),
    # "a man in a suit" wears it.
    "wearing": ("touching", "in"),
    # Frequent words of Visual Genome outside the canonical ones, of which little is certain.
    "against": ("touching",),
    "along": ("around/near",),
    "at": ("around/near",),
    "attached to": ("touching",),
    "covering": ("on",),
    "has": ("holding", "wearing"),
    "have": ("holding", "wearing"),
    "with": ("holding", "wearing"),
}
"""Predicate (canonical, or any other word) -> the canonical ones that it entails directly."""

_SYNONYMS: tuple[str, ...] = (
    "man guy gentleman boy",
    "woman lady girl",
    "child kid boy girl",
    "person people child kid player rider surfer skier skateboarder snowboarder driver",
    "airplane jet plane aircraft",
    "bicycle bike motorcycle motorbike",
    "cap hat helmet",
    "coat jacket",
    "couch sofa seat",
    "chair bench seat stand",
    "cup glass mug",
    "dish plate bowl",
    "hill mountain",
    "jean pant trouser short",
    "glasses sunglass",
    "boot shoe sneaker",
    "photo picture painting frame",
    "road street track",
    "rock stone brick",
    "shirt top jersey t-shirt",
    "table desk counter",
    "face head",
    "letter word writing number sign logo sticker",
    "pole post",
)

_ANY_PERSON = "man guy gentleman boy woman lady girl child kid"

_SPECIFICS: Mapping[str, str] = {
    "person": _ANY_PERSON,
    "people": _ANY_PERSON,
    "player": _ANY_PERSON,
    "rider": _ANY_PERSON,
    "driver": _ANY_PERSON,
    "skateboarder": _ANY_PERSON,
    "skier": _ANY_PERSON,
    "snowboarder": _ANY_PERSON,
    "surfer": _ANY_PERSON,
    "animal": "bear bird cat cow dog elephant giraffe horse sheep zebra",
    "beach": "sand",
    "building": "house tower",
    "container": "basket bottle bowl box cup pot",
    "field": "grass dirt",
    "food": "apple banana orange pizza",
    "ground": "beach dirt field floor grass road sand snow",
    "plant": "bush flower grass tree",
    "vehicle": "bike boat bus car motorcycle plane train truck",
    "water": "lake ocean river sea wave",
}

_IRREGULAR: Mapping[str, str] = {
    "children": "child",
    "leaves": "leaf",
    "men": "man",
    "women": "woman",
    "bus": "bus",
    "glasses": "glasses",
}


def _groups() -> Iterator[frozenset[str]]:
    for line in _SYNONYMS:
        yield frozenset(line.split())
    for general, specifics in _SPECIFICS.items():
        for specific in specifics.split():
            yield frozenset({general, specific})


_SAME_THING: tuple[frozenset[str], ...] = tuple(_groups())


@lru_cache(maxsize=4096)
def entailed(predicate: str, vocabulary: PredicateVocabulary) -> tuple[str, ...]:
    """All that a (normalized) predicate entails, through any number of steps, itself left out.

    A predicate that ``vocabulary`` does not know also entails a known one that it ends in:
    "walking on" entails "on", "parked next to" entails "around/near".
    """
    words = predicate.split()
    endings = (" ".join(words[start:]) for start in range(1, len(words)))
    pending = [*ENTAILMENTS.get(predicate, ())]
    if predicate not in vocabulary:
        pending += [vocabulary.canonical(ending) for ending in endings if ending in vocabulary]
    found: dict[str, None] = {}
    while pending:
        name = pending.pop(0)
        if name not in found:
            found[name] = None
            pending.extend(ENTAILMENTS.get(name, ()))
    return tuple(found)


@lru_cache(maxsize=65536)
def is_same_name(a: str, b: str) -> bool:
    """Whether two nouns are one, without regard to case and number: "Dogs" and "dog"."""
    return _singular(a) == _singular(b)


@lru_cache(maxsize=65536)
def may_be_same_thing(a: str, b: str) -> bool:
    """Whether one thing may go by both nouns: "man" and "person", "street" and "road"."""
    pair = {_singular(a), _singular(b)}
    return len(pair) == 1 or any(pair <= group for group in _SAME_THING)


def _singular(name: str) -> str:
    name = " ".join(name.casefold().split())
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    if name.endswith(("shes", "ches", "xes", "sses")):
        return name[:-2]
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name
