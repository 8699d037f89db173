"""Tables of what a predicate entails, and of nouns that may name the same thing.

Both tables serve one end: a negative must not be true of the image. They lean to caution: a pair
listed without need costs a few negatives, a pair that is missing costs wrong ones.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from functools import lru_cache

from sgflux.graphs.predicates import CANONICAL_PREDICATES, PredicateVocabulary
from sgflux.graphs.wordings import ARTICLES, bare

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
    "across": ("on",),
    "against": ("touching",),
    "along": ("around/near",),
    "alongside": ("around/near",),
    "at": ("around/near",),
    "atop": ("on",),
    "attached to": ("touching",),
    "biting": ("eating", "touching"),
    "catching": ("touching",),
    "chewing": ("eating",),
    "clothed in": ("wearing",),
    "covering": ("on",),
    "cutting": ("using", "touching"),
    "dragging": ("pulling",),
    "dressed in": ("wearing",),
    "driving": ("using", "in", "riding"),
    "facing": ("looking at",),
    "feeding": ("touching",),
    "flying": ("using", "holding"),
    "grabbing": ("holding",),
    "gripping": ("holding",),
    "has": ("holding", "wearing"),
    "have": ("holding", "wearing"),
    "having": ("holding", "wearing"),
    "hitting": ("touching",),
    "hugging": ("holding",),
    "kicking": ("touching", "playing with"),
    "kissing": ("touching",),
    "laying": ("on",),
    "leading": ("pulling",),
    "lifting": ("carrying",),
    "lying": ("on",),
    "mounted on": ("hanging from",),
    "petting": ("touching",),
    "playing": ("playing with", "using"),
    "reading": ("looking at", "holding"),
    "sipping": ("drinking",),
    "sitting": ("sitting on",),
    "skateboarding": ("riding",),
    "skiing": ("riding",),
    "standing": ("standing on",),
    "staring at": ("looking at",),
    "surfing": ("riding",),
    "surrounding": ("around/near",),
    "swinging": ("holding", "using"),
    "throwing": ("holding", "touching"),
    "towing": ("pulling",),
    "typing on": ("using",),
    "with": ("holding", "wearing"),
}
"""Predicate (canonical, or any other word) -> the canonical ones that it entails directly.

What is said of a word that no vocabulary needs to have holds for every predicate that has it among
its words: "sitting across from" is "sitting" and "across".
"""

CONVERSES: Mapping[str, str] = {
    "carried by": "carrying",
    "containing": "in",
    "contains": "in",
    "covered by": "on",
    "covered in": "on",
    "covered with": "on",
    "drunk by": "drinking",
    "eaten by": "eating",
    "held by": "holding",
    "pulled by": "pulling",
    "pushed by": "pushing",
    "ridden by": "riding",
    "supporting": "on",
    "surrounded by": "around/near",
    "touched by": "touching",
    "used by": "using",
    "watched by": "looking at",
    "worn by": "wearing",
    "worn on": "wearing",
}
"""Words p for which "A p B" says, or all but says, "B q A": the passive, and what supports.

Only for predicates outside the canonical ones, whose inverses a vocabulary knows.
"""

_ALIKE: tuple[str, ...] = (
    "lying on, laying on, lying in, laying in, resting on, sleeping on",
    "attached to, mounted on, connected to, fixed to, hanging on",
    "covered in, covered with, covered by",
    "made of, made from",
    "part of, belonging to, of",
    "has, have, having, with",
    "along, alongside",
    "talking to, speaking to, talking with, speaking with",
    "kicking, hitting, playing with",
    "walking on, walking in, walking down, walking along, walking across",
    "parked on, parked in, parked along, parked at",
    "growing on, growing in, growing from",
    "flying in, flying over, flying above",
    "across from, opposite, opposite to",
)
"""Words outside the canonical predicates that data sets use for the same relation, side by side."""

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


_VERBS: tuple[str, ...] = (
    "carrying carry carries",
    "drinking drink drinks drank",
    "eating eat eats ate",
    "hanging hang hangs",
    "holding hold holds",
    "kicking kick kicks",
    "leaning lean leans",
    "looking look looks",
    "lying lay lays laying lie lies",
    "playing play plays",
    "pulling pull pulls",
    "pushing push pushes",
    "riding ride rides rode",
    "sitting sit sits sat seated",
    "standing stand stands stood",
    "touching touch touches",
    "using use uses",
    "watching watch watches",
    "wearing wear wears wore",
)
"""The form that the tables have, then the others; passive forms ("held by") are none of them."""


def _groups() -> Iterator[frozenset[str]]:
    for line in _SYNONYMS:
        yield frozenset(line.split())
    for general, specifics in _SPECIFICS.items():
        for specific in specifics.split():
            yield frozenset({general, specific})


_SAME_THING: tuple[frozenset[str], ...] = tuple(_groups())


_GROUPS: tuple[frozenset[str], ...] = tuple(frozenset(line.split(", ")) for line in _ALIKE)

_CANONICAL = frozenset(CANONICAL_PREDICATES)

_VERB_FORMS: Mapping[str, str] = {
    form: forms.split()[0] for forms in _VERBS for form in forms.split()[1:]
}


@lru_cache(maxsize=4096)
def entailed(predicate: str, vocabulary: PredicateVocabulary) -> tuple[str, ...]:
    """Predicates that a (normalized) predicate entails, in any number of steps, without itself.

    A predicate outside the 24 canonical ones also entails every predicate that ``vocabulary`` or
    :data:`ENTAILMENTS` has and that it contains as whole words, articles left out: "sitting on top
    of" entails "sitting on" and "on", "drinking from a" entails "drinking". It also entails its
    synonyms.
    """
    pending = list(_direct(predicate, vocabulary))
    found: dict[str, None] = {}
    while pending:
        name = pending.pop(0)
        if name != predicate and name not in found:
            found[name] = None
            pending.extend(_direct(name, vocabulary))
    return tuple(found)


@lru_cache(maxsize=4096)
def conversely_entailed(predicate: str, vocabulary: PredicateVocabulary) -> tuple[str, ...]:
    """All q for which "A predicate B" entails "B q A": "worn by" entails "wearing".

    Empty for the canonical predicates: their inverses and symmetries are the vocabulary's.
    """
    if predicate in _CANONICAL:
        return ()
    direct = [vocabulary.canonical(CONVERSES[part]) for part in _parts(predicate, CONVERSES)]
    return tuple(dict.fromkeys(n for one in direct for n in (one, *entailed(one, vocabulary))))


def _direct(predicate: str, vocabulary: PredicateVocabulary) -> Iterator[str]:
    """Predicates that follow from one in a single step; it may follow from itself."""
    yield from ENTAILMENTS.get(predicate, ())
    if predicate in _CANONICAL:
        return
    yield from _parts(predicate, ENTAILMENTS)
    yield from (vocabulary.canonical(part) for part in _parts(predicate, vocabulary))
    for group in _GROUPS:
        if bare(predicate) in group:
            # Sorted, since the order of a set of words changes from process to process.
            yield from map(vocabulary.normalize, sorted(group - {bare(predicate)}))


def _parts(predicate: str, known: Container[str]) -> Iterator[str]:
    """The runs of whole words of a predicate that are known, its verbs in any form.

    Articles are looked at both as a part of a run and as nothing.
    """
    words = predicate.split()
    plain = [word for word in words if word not in ARTICLES]
    verbs = [_VERB_FORMS.get(word, word) for word in plain]
    runs = (
        " ".join(form[start:stop])
        for form in (words, plain, verbs)
        for start in range(len(form))
        for stop in range(len(form), start, -1)
    )
    for run in dict.fromkeys(runs):
        if run in known and bare(run) == run:
            yield run


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
