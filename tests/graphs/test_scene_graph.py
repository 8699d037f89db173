"""Text and JSON forms of a scene graph, their round trips, and what is refused.

If one of these failed, a graph would change on its way through text or JSON, or a malformed one
would be accepted.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgflux.graphs.merging import merged
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError, Triple
from tests.helpers.graph_strategies import scene_graphs
from tests.helpers.statements import equivalent

MAN = SceneGraph(("man", "horse", "hat"), ((0, "riding", 1), (0, "wearing", 2)))


def test_parse_shares_equal_names() -> None:
    assert SceneGraph.parse("man, riding, horse; man, wearing, hat") == MAN
    assert SceneGraph.parse("  Man ,riding,horse ;man,  wearing ,hat; ").relationships == (
        MAN.relationships
    )


def test_a_numbered_name_is_another_object() -> None:
    graph = SceneGraph.parse(
        "dog, on, mat; dog#2, near, dog; dog #1, near, dog#2; big  dog, in, box"
    )
    assert graph.objects == ("dog", "mat", "dog", "big dog", "box")
    # That dog is near dog#2 was said before, the other way round.
    assert graph.relationships == ((0, "on", 1), (2, "near", 0), (3, "in", 4))
    assert graph.labels() == ("dog", "mat", "dog#2", "big dog", "box")


def test_objects_alone_and_the_null_graph() -> None:
    graph = SceneGraph.parse("(tree); man, near, dog; (dog#2)")
    assert graph.objects == ("tree", "man", "dog", "dog")
    assert graph.relationships == ((1, "near", 2),)
    assert not graph.is_null
    assert SceneGraph.parse("") == SceneGraph.null() == SceneGraph((), ())
    assert SceneGraph.null().to_text() == ""
    assert SceneGraph.parse("(tree)").is_null


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("man riding horse", r"statement 1 \('man riding horse'\).*got 1 part"),
        ("man, riding", "expected 'subject, predicate, object'.*got 2 part"),
        ("man, riding, horse, hat", "got 4 part"),
        ("man, riding, horse; ; man, on, mat", r"statement 2 \(''\)"),
        (";", r"statement 1 \(''\)"),
        ("man, , horse", "statement 1.*the predicate must not be empty"),
        ("man, on, ", "statement 1.*an object's name must not be empty"),
        ("man, near, Man", "relates 'man' to itself; write 'man#2'"),
        ('[["man", "riding", "horse"]]', "what looks like JSON"),
        ('  {"objects": [], "relationships": []}', "what looks like JSON"),
        ("dog#0, near, man", "'dog#0' names no object"),
        ("#2, near, man", "'#2' names no object"),
        ("dog#2#3, near, man", "'dog#2#3' names no object"),
        ("(a), near, man", r"'\(a\)' names no object"),
    ],
)
def test_parse_names_the_statement_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(SceneGraphError, match=message):
        SceneGraph.parse(text)


def test_json_is_sg2ims_form() -> None:
    obj = {"objects": ["man", "horse"], "relationships": [[0, "riding", 1]]}
    graph = SceneGraph.from_json(obj)
    assert graph == SceneGraph(("man", "horse"), ((0, "riding", 1),))
    assert graph.to_json() == obj
    graph.to_json()["objects"].append("dog")
    assert graph.objects == ("man", "horse")
    assert SceneGraph.from_json({"objects": [" Big   man "], "relationships": []}).objects == (
        "Big man",
    )


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ([], "a graph must be"),
        ({"objects": []}, r"missing \['relationships'\]"),
        ({"objects": [], "relationships": [], "boxes": []}, r"unknown \['boxes'\]"),
        ({"objects": "man", "relationships": []}, "objects must be a list, got 'man'"),
        ({"objects": ["man", 3], "relationships": []}, r"objects\[1\] must be a string, got 3"),
        ({"objects": ["man", " "], "relationships": []}, r"objects\[1\] must not be empty"),
        ({"objects": ["a", "b"], "relationships": [[0, "on"]]}, r"relationships\[0\] must be \["),
        ({"objects": ["a", "b"], "relationships": ["0on1"]}, r"relationships\[0\] must be \["),
        ({"objects": ["a", "b"], "relationships": [[0, "on", 2]]}, "object index 2 is not among"),
        ({"objects": ["a", "b"], "relationships": [[-1, "on", 1]]}, "subject index -1 is not"),
        ({"objects": [], "relationships": [[0, "on", 1]]}, "index 0, but the graph has no objects"),
        ({"objects": ["a", "b"], "relationships": [[True, "on", 0]]}, "must be an index, got True"),
        ({"objects": ["a", "b"], "relationships": [[0.0, "on", 1]]}, "must be an index, got 0.0"),
        ({"objects": ["a", "b"], "relationships": [[0, 5, 1]]}, "the predicate must be a string"),
    ],
)
def test_json_errors_name_position_and_value(obj: object, message: str) -> None:
    with pytest.raises(SceneGraphError, match=message):
        SceneGraph.from_json(obj)


@pytest.mark.parametrize(
    ("objects", "written", "read"),
    [
        (["sheep", "grass"], [[0, "eating", 1], [0, "eating ", 1]], [[0, "eating", 1]]),
        (["boy", "field"], [[0, "near", 1], [0, "beside", 1]], [[0, "near", 1]]),
        (["boy", "field"], [[0, "near", 1], [1, "next to", 0]], [[0, "near", 1]]),
        (
            ["cup", "box"],
            [[0, "over", 1], [1, "below", 0], [0, "on", 1]],
            [[0, "over", 1], [0, "on", 1]],
        ),
        (["bus", "box"], [[0, "next to", 0], [1, "behind", 0]], [[1, "behind", 0]]),
        (["bus"], [[0, "next to", 0]], []),
    ],
)
def test_json_merges_repeated_statements_and_leaves_out_relations_to_oneself(
    objects: list[str], written: list[list[object]], read: list[list[object]]
) -> None:
    graph = SceneGraph.from_json({"objects": objects, "relationships": written})
    assert graph.to_json() == {"objects": objects, "relationships": read}


def test_a_graph_that_is_built_may_not_repeat_a_statement() -> None:
    with pytest.raises(SceneGraphError, match=r"relationships\[1\].*repeats relationships\[0\]"):
        SceneGraph(("a", "b"), ((0, "on", 1), (0, "on ", 1)))
    with pytest.raises(SceneGraphError, match=r"\[0\].*to itself"):
        SceneGraph(("a",), ((0, "on", 0),))


def test_text_merges_repeated_statements() -> None:
    graph = SceneGraph.parse("man, near, dog; man, near, dog; dog, beside, man; cup, on, man")
    assert graph.to_text() == "man, near, dog; cup, on, man"


def test_triples_keep_order_and_plain_names() -> None:
    assert MAN.triples() == (Triple("man", "riding", "horse"), Triple("man", "wearing", "hat"))
    assert SceneGraph.from_triples(MAN.triples()) == MAN
    twins = SceneGraph.parse("dog, near, dog#2")
    assert twins.triples() == (Triple("dog", "near", "dog"),)
    assert SceneGraph.from_triple(twins.triples()[0]) == twins
    assert str(MAN.triples()[0]) == "man, riding, horse"


def test_from_triples_drops_repeats_and_reads_numbers() -> None:
    triple = Triple("man", "on", "horse")
    assert SceneGraph.from_triples([triple, triple]).relationships == ((0, "on", 1),)
    graph = SceneGraph.from_triples([Triple("dog#2", "on", "dog"), Triple("Dog", "on", "dog")])
    assert graph.objects == ("dog", "dog")
    assert graph.relationships == ((1, "on", 0), (0, "on", 1))
    same = [Triple("dog#2", "near", "dog"), Triple("Dog", "beside", "dog")]
    assert SceneGraph.from_triples(same).relationships == ((1, "near", 0),)
    with pytest.raises(SceneGraphError, match=r"triples\[0\] must be a Triple"):
        SceneGraph.from_triples([("a", "on", "b")])  # type: ignore[list-item]
    with pytest.raises(SceneGraphError, match="the triple's predicate must not be empty"):
        Triple("a", "", "b")


def test_the_numbers_of_twins_are_those_that_were_written() -> None:
    """A box of "dog#2" would else be that of "dog", where a text mentions dog#2 first."""
    text = "box, above, Dog#2; dog, left of, box"
    graph = SceneGraph.parse(text)
    assert graph.objects == ("box", "dog", "Dog")
    assert graph.labels() == ("box", "dog", "Dog#2")
    assert graph.to_text() == text
    triples = [Triple("dog#3", "near", "dog"), Triple("dog", "on", "dog#2")]
    assert SceneGraph.from_triples(triples).labelled_triples() == tuple(triples)
    # A triple alone keeps its subject as object 0.
    assert SceneGraph.from_triple(Triple("dog#2", "on", "dog")).relationships == ((0, "on", 1),)


@pytest.mark.parametrize("name", ["a,b", "a;b", "(a)", "dog#2", "[a", "{a}"])
def test_what_text_cannot_say_is_refused(name: str) -> None:
    graph = SceneGraph(("man", name), ((0, "on", 1),))
    with pytest.raises(SceneGraphError, match=r"objects\[1\].*no text form; use JSON"):
        graph.to_text()
    assert SceneGraph.from_json(graph.to_json()) == graph
    with pytest.raises(SceneGraphError, match=r"relationships\[0\].*no text form"):
        SceneGraph(("man", "dog"), ((0, "on, or in", 1),)).to_text()


def said_once(graph: SceneGraph) -> SceneGraph:
    """The graph as it is read: built by hand, it may say the same in several words."""
    found = merged(graph.relationships, DEFAULT_VOCABULARY)
    assert len(found.relationships) + found.repeated == len(graph.relationships)
    return SceneGraph(graph.objects, found.relationships)


@given(scene_graphs())
def test_text_round_trip(graph: SceneGraph) -> None:
    once = said_once(graph)
    assert equivalent(once, graph)
    assert SceneGraph.parse(once.to_text()) == once


@given(scene_graphs())
def test_reading_a_text_says_everything_once(graph: SceneGraph) -> None:
    assert equivalent(SceneGraph.parse(graph.to_text()), graph)


ANY_NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1).filter(
    str.strip
)


@pytest.mark.parametrize(
    "mark", ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\udc80"]
)
def test_a_name_is_on_one_line_and_without_control_characters(mark: str) -> None:
    """At its ends as well, where white space would else be passed over."""
    for word in (f"red{mark}dog", f"dog{mark}"):
        for triple, where in (
            ((word, "on", "mat"), "objects"),
            (("cat", word, "mat"), "predicate"),
        ):
            with pytest.raises(SceneGraphError, match=r"the triple's .* must be on one line"):
                Triple(*triple)
            graph = {"objects": [triple[0], triple[2]], "relationships": [[0, triple[1], 1]]}
            with pytest.raises(SceneGraphError, match=rf"{where}.* must be on one line"):
                SceneGraph.from_json(graph)
    texts = [f"red{mark}dog, on, mat"]
    if mark not in "\n\r\t":  # which may stand between names
        texts += [f"dog{mark}, on, mat", f"dog, on{mark}, mat", f"dog, on, mat{mark}; (tree)"]
        texts += [f"(dog{mark})", f"{mark}(dog)"]
    for text in texts:
        with pytest.raises(SceneGraphError, match=r"statement 1 .* must be on one line|got 1 part"):
            SceneGraph.parse(text)


def test_names_of_any_language_and_line_breaks_between_them_are_read() -> None:
    names = ("می\u200cز", "स्त्री", "👩\u200d🚀", "ふくろう", "naïve café", "o’clock", "red\u00a0dog")
    for name in names:
        assert SceneGraph.parse(f"{name}, on, mat").objects[0] == " ".join(name.split())
    text = "\n man,\n\triding , horse;\r\n( hat\n);\n"
    assert SceneGraph.parse(text) == SceneGraph.parse("man, riding, horse; (hat)")


@given(scene_graphs(names=ANY_NAMES, max_objects=4))
def test_round_trips_with_any_names(graph: SceneGraph) -> None:
    graph = said_once(graph)
    assert SceneGraph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
    try:
        text = graph.to_text()
    except SceneGraphError:
        return
    assert SceneGraph.parse(text) == graph
