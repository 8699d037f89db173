"""The page's elements as Python makes them, without a browser.

If one of these failed, a field would take what cannot be drawn, a drawing would be repeated with
other settings, or a training would be shown with figures that are not its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nicegui import Client, ui
from nicegui.element import Element
from nicegui.page import page
from nicegui.storage import Storage
from PIL import Image

from sgflux.evaluation.judges.judge import Outcome, Verdict
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.bundle import recommend_drawing
from sgflux.models.bundle_folder import CONFIG_FILE, find_bundle
from sgflux.sampling import Arm, ArmPicture
from sgflux.settings.drawing import RecommendedDrawing
from sgflux.settings.model_source import ModelSource
from sgflux.training.samples.sampler import sheet_of
from sgflux.web.choice import Choice
from sgflux.web.draw import DrawTab
from sgflux.web.drawing_card import MAX_SEED, NO_ADAPTER, DrawingCard
from sgflux.web.editor import GraphEditor
from sgflux.web.gallery import Gallery
from sgflux.web.panels import text_of, verdict_in_words
from sgflux.web.reading import ReportTab
from sgflux.web.server import PageSettings, _page
from sgflux.web.studio import CancelledError, Drawn, Job, Order, Phase, Studio
from sgflux.web.watch import WatchTab

ABOVE = SceneGraph.parse("dog, above, box")


@pytest.fixture(autouse=True)
def _client() -> Iterator[None]:
    """A client that no browser is connected to; elements belong to it."""
    with Client(page("/")) as client:
        yield
    client.delete()


def tell(element: Element, event: str) -> None:
    """Call what listens to an event, as a browser does."""
    for listener in list(element._event_listeners.values()):
        if listener.type == event:
            element._handle_event({"listener_id": listener.id, "args": None})


def shown(element: Element) -> list[str]:
    """The texts below an element."""
    return [one.text for one in element.descendants() if hasattr(one, "text")]


# --- fields ---------------------------------------------------------------------------------------


def test_no_row_of_a_list_moves_until_it_is_closed() -> None:
    """Somebody may be about to click it."""
    found = ["b", "a"]
    choice = Choice(
        lambda: list(found),
        label="Adapter",
        trouble=lambda _: None,
        none_found="",
        otherwise="none",
    )
    found.insert(0, "c")
    tell(choice.field, "popupShow")
    assert choice.field.options == ["b", "a", "none", "c"]
    tell(choice.field, "popupHide")
    assert choice.field.options == ["c", "b", "a", "none"]
    assert choice.field.value == "b"


def drawing_card(runs: Path) -> DrawingCard:
    card = DrawingCard(
        runs=runs,
        model=ModelSource(),
        adapter=None,
        on_change=lambda: None,
        on_any_word=lambda _: None,
    )
    card.build()
    return card


def test_every_setting_is_kept_and_shown_again(tmp_path: Path) -> None:
    card, other = drawing_card(tmp_path), drawing_card(tmp_path)
    values = {
        "adapter": NO_ADAPTER,
        "model_id": "some/base",
        "steps": 50,
        "graph_scale": 2.5,
        "stochastic_sampling": True,
        "seed": 7,
        "prompt": "a dog",
        "any_word": True,
    }
    card.show(values)
    kept = json.loads(json.dumps(card.values()))
    assert kept == values
    other.show(kept)
    order = other.order(ABOVE)
    assert (order.adapter, order.model_id, order.prompt) == (None, "some/base", "a dog")
    assert (order.steps, order.graph_scale, order.seed) == (50, 2.5, 7)
    assert order.stochastic_sampling is True
    assert other._any_word.value
    assert other._steps._props["max"] >= 50, "a browser draws no slider beyond its end"
    again = drawing_card(tmp_path)
    again.show_order(order)
    assert again.order(ABOVE) == order


def test_a_kept_number_of_steps_is_not_moved_by_its_adapter(tmp_path: Path) -> None:
    """A slider that nobody has moved follows the adapter, but not what was kept."""
    folder = tmp_path / "final"
    folder.mkdir()
    shutil.copy(find_bundle("tiny", allow_download=False) / CONFIG_FILE, folder)
    recommended = RecommendedDrawing(steps=40, graph_scale=1.5, stochastic_sampling=False)
    recommend_drawing(folder, recommended)
    card = drawing_card(tmp_path)
    first = card.values()
    assert first["stochastic_sampling"] is True, "as the bundled adapter recommends"
    card.show({"adapter": folder.as_posix()})
    assert (card.values()["steps"], card.values()["graph_scale"]) == (40, 1.5)
    assert card.values()["stochastic_sampling"] is False
    again = drawing_card(tmp_path)
    again.show({**first, "adapter": folder.as_posix()})
    assert again.values()["steps"] == first["steps"] != 40


def test_the_base_alone_is_drawn_without_a_graph_scale(tmp_path: Path) -> None:
    card = drawing_card(tmp_path)
    card.show({"graph_scale": 3.0})
    assert card.order(ABOVE).graph_scale == 3.0
    assert card.order(SceneGraph((), ())).graph_scale == 1.0


@pytest.mark.parametrize("seed", [None, -1, 1.5, 2**53])
def test_a_seed_that_is_none_is_refused(tmp_path: Path, seed: float | None) -> None:
    card = drawing_card(tmp_path)
    for good in (0, MAX_SEED):
        card.show({"seed": good})
        assert card.validate()
    card.show({"seed": seed})
    assert not card.validate()
    assert card._seed.error == f"Give a whole number from 0 to {MAX_SEED}."


def test_random_gives_another_seed_each_time(tmp_path: Path) -> None:
    card = drawing_card(tmp_path)
    (button,) = (one for one in card._seed.parent_slot.parent if isinstance(one, ui.button))
    seeds = set()
    for _ in range(3):
        tell(button, "click")
        assert card.validate()
        seeds.add(card.values()["seed"])
    assert len(seeds) == 3


def test_a_name_in_parentheses_before_its_statement_is_explained(person: Person) -> None:
    """Without it, the text of the pictures would name the objects in another order."""
    field = person.tab._graph._text
    for graph, why in {
        "man, riding, horse; (cup)": None,
        "(man); horse, riding, man": "“(man)” keeps the order of the objects in the text “a photo "
        "of man and horse”.",
        "(dog); (man); horse, riding, man; dog, near, man; (cat)": "“(dog)”, “(man)” keep the "
        "order of the objects in the text “a photo of dog and man and horse and cat”.",
    }.items():
        person.write(graph)
        assert field.props.get("hint") == why
        assert ("hint" in field.props) == (why is not None), "an empty one would take room"


# --- trainings ------------------------------------------------------------------------------------


def watched(runs: Path, *lines: str, rows: list[dict[str, Any]]) -> WatchTab:
    (runs / "mine").mkdir()
    (runs / "mine" / "training.log").write_text("".join(f"{one}\n" for one in lines))
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (runs / "mine" / "metrics.jsonl").write_text(text)
    tab = WatchTab(gallery=Gallery(), runs=runs)
    tab.build()
    return tab


def test_a_training_that_is_over_says_so(tmp_path: Path) -> None:
    row = {"kind": "train", "step": 100, "loss": 0.5, "loss_gen": 0.25, "lr": 1e-4}
    line = "2026-01-01 00:00:00 step 100/100  loss 0.5"
    tab = watched(tmp_path, line, rows=[row])
    assert shown(tab._facts)[:4] == ["Step", "100 of 100", "Time left", "not known yet"]
    with (tmp_path / "mine" / "training.log").open("a") as log:
        log.write("2026-01-01 00:00:01 finished: the adapter of step 100 is in final\n")
    tab._look()
    assert shown(tab._facts)[:4] == ["Step", "100 of 100", "State", "finished"]
    assert [one["name"] for one in tab._loss.options["series"]] == ["loss", "loss gen"]
    empty = [
        (chart.options["title"]["show"], chart.options["xAxis"]["show"])
        for chart in (tab._loss, tab._ranking)
    ]
    assert empty == [(False, True), (True, False)], "a chart without a point says so"


def test_a_long_line_is_thinned_out_and_still_ends_with_the_last_step(tmp_path: Path) -> None:
    rows = [{"kind": "train", "step": step, "loss": 1.0} for step in range(1, 2500)]
    rows += [{"kind": "validation", "step": 9, "loss": 0.9, "ranking_accuracy": 0.5}]
    tab = watched(tmp_path, "2026-01-01 00:00:00 begin", rows=rows)
    (line,) = tab._loss.options["series"]
    assert [line["data"][0], line["data"][-1]] == [(1, 1.0), (2499, 1.0)]
    assert 500 < len(line["data"]) <= 1001
    axes = {one["name"]: one["yAxisIndex"] for one in tab._ranking.options["series"]}
    assert axes == {"ranking accuracy": 1, "loss": 0}, "a share has an axis of its own"
    assert [chart.options["yAxis"][1]["show"] for chart in (tab._loss, tab._ranking)] == [
        False,
        True,
    ]


def test_a_damaged_line_is_named_until_it_is_mended(tmp_path: Path) -> None:
    row = {"kind": "train", "step": 5, "loss": 0.5}
    tab = watched(tmp_path, "2026-01-01 00:00:00 step 5/10  loss 0.5", rows=[row])
    metrics = tmp_path / "mine" / "metrics.jsonl"
    kept = metrics.read_text()
    metrics.write_text(f"{kept}nonsense\n")
    tab._look()
    assert "is damaged" in tab._folder.field.error
    assert "5 of 10" in shown(tab._facts), "what was read before stays"
    metrics.write_text(kept)
    tab._look()
    assert tab._folder.field.error is None


def test_a_tab_without_runs_says_where_it_looks_and_what_makes_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tabs: dict[str, Any] = {
        "train": WatchTab(gallery=Gallery(), runs=Path("runs")),
        "eval": ReportTab(runs=Path("runs"), open_graph=lambda *_: None),
    }
    for command, tab in tabs.items():
        tab.build()
        said = tab._folder._none_found
        assert said.visible
        for words in (str(tmp_path / "runs"), "sgflux demo", f"sgflux {command}"):
            assert words in said.text


def test_another_training_shows_nothing_of_the_one_before(tmp_path: Path) -> None:
    row = {"kind": "train", "step": 5, "loss": 0.5}
    tab = watched(tmp_path, "2026-01-01 00:00:00 step 5/10  loss 0.5", rows=[row])
    assert tab._log.text
    for name in ("empty", "no run"):
        (tmp_path / name).mkdir()
    (tmp_path / "empty" / "training.log").touch()
    for name in ("empty", "no run"):
        tab._folder.field.value = (tmp_path / name).as_posix()
        assert (tab._log.text, tab._loss.options["series"]) == ("", [])
        assert "5 of 10" not in shown(tab._facts)
        assert tab._below.visible == (name == "empty")
        tab._folder.field.value = (tmp_path / "mine").as_posix()
        assert "5 of 10" in shown(tab._facts)


def test_the_newest_sheet_is_shown_as_soon_as_it_can_be_read(tmp_path: Path) -> None:
    tab = watched(tmp_path, "2026-01-01 00:00:00 begin", rows=[])
    (tmp_path / "mine" / sheet_of(20)).parent.mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "mine" / sheet_of(20))
    tab._look()
    assert shown(tab._samples) == ["Drawn during the training: step20.png"]
    newer = tmp_path / "mine" / sheet_of(100)
    newer.write_bytes((tmp_path / "mine" / sheet_of(20)).read_bytes()[:40])
    tab._look()
    assert shown(tab._samples) == ["Drawn during the training: step20.png"]
    Image.new("RGB", (8, 8)).save(newer)
    tab._look()
    assert shown(tab._samples) == ["Drawn during the training: step100.png"]
    assert len(tab._gallery) == 1, "the sheet before is dropped"
    tab.close()
    assert len(tab._gallery) == 0


# --- drawing --------------------------------------------------------------------------------------


class Person:
    """The first tab of somebody, whose orders the test draws in place of the worker."""

    def __init__(self, runs: Path, studio: Studio | None = None, kept: Any = None) -> None:
        self.studio = Studio() if studio is None else studio
        self.gallery = Gallery()
        self.tab = DrawTab(
            studio=self.studio, gallery=self.gallery, runs=runs, model=ModelSource(), adapter=None
        )
        self.tab.build()
        self.storage: dict[str, Any] = {} if kept is None else kept
        self.tab.keep_in(self.storage)

    def write(self, graph: str, **settings: Any) -> None:
        self.tab._graph._text.value = graph
        self.tab._settings.show(settings)

    def order(self) -> Job:
        """Press Draw."""
        tell(self.tab._draw, "click")
        assert self.tab._drawing is not None
        return self.tab._drawing.job

    def draw(self) -> Job:
        """Press Draw, and see the pictures."""
        job = self.order()
        draw(job)
        self.tab._poll()
        return job

    def look_back(self, number: int) -> None:
        """Press a drawing of the history; 0: the newest."""
        buttons = [one for one in self.tab._history._strip.descendants() if one.tag == "button"]
        tell(buttons[number], "click")


def draw(job: Job) -> None:
    """Do what the worker does, but for the looks of the pictures."""
    job.arms = (Arm.BASE, Arm.GRAPH)
    order = job.order
    for arm in job.arms:
        graph = order.graph if arm is Arm.GRAPH else None
        record = {
            "model": "tiny",
            "prompt": order.prompt or "a dog",
            "seed": order.seed,
            "steps": order.steps,
            "graph_scale": order.graph_scale,
            "guidance": None,
            "quantize": "none",
            "text_tokens": 32,
            "height": 8,
            "width": 8,
            "dtype": "float32",
            "graph": None if graph is None else graph.to_json(),
            "use_adapter": graph is not None,
        }
        picture = ArmPicture(arm, graph, Image.new("RGB", (8, 8)), record)
        job.drawn[arm] = Drawn(picture)
    job.phase = Phase.DONE


def pictures(person: Person) -> list[str]:
    """What the pictures that are shown say of themselves to somebody who does not see them."""
    found = [one for one in person.tab._pictures.descendants() if one.tag == "img"]
    return [one._props["alt"] for one in found]


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


@pytest.mark.parametrize(
    ("verdict", "present", "said"),
    [
        (Verdict(Outcome.HOLDS, "above"), {"dog", "box"}, "holds"),
        (
            Verdict(Outcome.CONTRADICTED, "touching"),
            {"dog", "box"},
            "contradicted; the judge reads “touching”",
        ),
        (
            Verdict(Outcome.CONTRADICTED, "none"),
            {"dog", "box"},
            "contradicted; the judge reads no relation",
        ),
        (
            Verdict(Outcome.CONTRADICTED),
            None,
            "contradicted; the judge does not see this relation",
        ),
        (Verdict(Outcome.NOT_FOUND, "none"), {"box"}, "not found; the judge does not find “dog”"),
        (
            Verdict(Outcome.NOT_FOUND, "left of"),
            set(),
            "not found; the judge does not find “dog” or “box”",
        ),
        (Verdict(Outcome.NOT_FOUND), None, "not found; the judge does not find both objects"),
        (None, {"dog", "box"}, "not judged; the judge does not know “above”"),
    ],
)
def test_every_verdict_but_holds_has_a_reason(
    verdict: Verdict | None, present: set[str] | None, said: str
) -> None:
    (triple,) = ABOVE.labelled_triples()
    picture = ArmPicture(Arm.BASE, None, Image.new("RGB", (8, 8)), {})
    drawn = Drawn(picture, present=None if present is None else frozenset(present))
    assert verdict_in_words(drawn, triple, verdict) == said
    unread = Drawn(picture, note="No judge reads these pictures.")
    assert verdict_in_words(unread, triple, None) == "not judged", "the note says why"


def test_objects_that_the_bundled_model_does_not_know_are_named_before_it_draws(
    person: Person,
) -> None:
    remark = person.tab._graph._unknown
    person.write("Dog, above, box")
    assert not remark.visible
    person.write("unicorn, above, box; ghost, on, box")
    assert remark.visible
    assert remark.text.startswith("The bundled model and its judge know only 14 objects: man, ")
    assert remark.text.endswith("They do not know “unicorn” or “ghost”.")
    person.write("unicorn, above, box", model_id="some/base")
    assert not remark.visible, "another model may know it"
    person.write("unicorn, above, box", model_id="", adapter=NO_ADAPTER)
    assert remark.visible


def test_a_drawing_that_failed_says_why_until_the_next_one(person: Person) -> None:
    job = person.order()
    job.phase, job.error = Phase.FAILED, "x" * 5000 + " is gone"
    person.tab._poll()
    (said,) = shown(person.tab._trouble)
    assert said.endswith("xxx is gone")
    assert len(said) < 500, "a long message leaves room for the page"
    assert shown(person.tab._status) == ["Nothing was drawn; the message says why."]
    assert person.tab._draw.enabled
    person.order()
    assert shown(person.tab._trouble) == []


def test_who_waits_is_told_how_many_are_before(tmp_path: Path) -> None:
    studio = Studio()
    for before, words in enumerate(("Loading the model …", "Waiting; drawings before yours: 1")):
        one = Person(tmp_path, studio)
        one.order()
        assert shown(one.tab._status)[-1] == words, before
        assert shown(one.tab._pictures)[0] == words, before


def test_what_is_not_wanted_any_more_is_cancelled(person: Person) -> None:
    job = person.order()
    tell(person.tab._cancel, "click")
    with pytest.raises(CancelledError):
        job.check()
    job.phase = Phase.CANCELLED
    person.tab._poll()
    assert shown(person.tab._status) == ["Cancelled."]
    left = person.order()
    person.tab.close()
    with pytest.raises(CancelledError):
        left.check()


def test_the_first_words_are_right_whatever_is_there(person: Person) -> None:
    def words() -> str:
        return shown(person.tab._pictures)[0]

    assert words() == "Press Draw to see this graph drawn"
    person.write("")
    assert words() == "Make a graph, then press Draw"
    person.write("cat, on, cup")
    job = person.order()
    assert words() == "Loading the model …"
    person.write("dog, on, cup")
    assert words() == "Loading the model …"
    job.phase = Phase.CANCELLED
    person.tab._poll()
    assert words() == "Press Draw to see this graph drawn"
    person.draw()
    assert person.tab._invitation.is_deleted


@pytest.mark.parametrize(
    ("graph", "prompt", "arms", "said"),
    [
        (
            "dog, above, box",
            None,
            tuple(Arm),
            "All four are drawn from the text “a photo of dog and box”, which does not state the "
            "relation.",
        ),
        (
            "dog, touching, box; dog, near, cat",
            None,
            tuple(Arm)[:3],
            "All three are drawn from the text “a photo of dog and box and cat”, which does not "
            "state the relations.",
        ),
        (
            "dog, above, box",
            "a dog above a box",
            tuple(Arm),
            "All four are drawn from the text “a dog above a box”. “Base model” and “No graph” "
            "are told nothing else.",
        ),
        ("(dog)", None, tuple(Arm)[:2], "Both pictures are drawn from the text “a photo of dog”."),
        (
            "dog, above, box",
            None,
            tuple(Arm)[:1],
            "The picture is drawn from the text “a photo of dog and box”. The base model reads no "
            "graph.",
        ),
    ],
)
def test_the_pictures_say_which_text_they_are_drawn_from(
    graph: str, prompt: str | None, arms: tuple[Arm, ...], said: str
) -> None:
    assert text_of(Job(Order(graph=SceneGraph.parse(graph), prompt=prompt), arms=arms)) == said


def test_pictures_of_another_graph_or_other_settings_are_marked(person: Person) -> None:
    def mark() -> str:
        """What stands above the pictures; "" for the line about their text."""
        (line,) = (one for one in person.tab._pictures.descendants() if "sg-told" in one._classes)
        (row,) = (one for one in person.tab._pictures.descendants() if "sg-panels" in one._classes)
        assert ("sg-old" in line._classes) == ("sg-old" in row._classes)
        assert ("sg-old" in line._classes) == line.text.startswith("These pictures were drawn")
        return line.text if "sg-old" in line._classes else ""

    said = "These pictures were drawn before you changed {}. Draw makes new ones."
    person.write("dog, above, box", seed=1)
    person.draw()
    assert mark() == ""
    sketch = person.tab._graph.timeline.now.to_json()
    sketch["nodes"][0]["x"] += 50
    person.tab._graph._on_editor(sketch)
    assert mark() == "", "an object was only moved"
    person.write("box, above, dog")
    assert mark() == said.format("the graph")
    person.write("box, above, dog", seed=None)
    assert mark() == said.format("the graph and the settings")
    person.write("dog, above, box")
    assert mark() == said.format("the settings")
    person.write("dog, above, box", seed=1)
    assert mark() == ""
    for values in ({"steps": 5}, {"graph_scale": 2.5}, {"adapter": NO_ADAPTER}, {"prompt": "a"}):
        before = person.tab._settings.values()
        person.write("dog, above, box", **values)
        assert mark() == said.format("the settings"), values
        person.write("dog, above, box", **before)
        assert mark() == "", values
    person.write("cat, on, cup")
    failed = person.order()
    failed.phase, failed.error = Phase.FAILED, "no such adapter"
    person.tab._poll()
    assert mark() == said.format("the graph"), "the pictures before still stand there"
    person.draw()
    assert mark() == ""
    job = person.order()
    draw(job)
    person.write("dog, above, box")
    person.tab._poll()
    assert mark() == said.format("the graph"), "it was changed while it was drawn"
    person.look_back(2)
    assert mark() == ""


def test_the_seed_of_a_row_goes_with_its_graph(person: Person) -> None:
    def seed() -> Any:
        return person.tab._settings.values()["seed"]

    person.write("dog, above, box", seed=7)
    person.tab.load(SceneGraph.parse("kite, above, house"), seed=10**14)
    person.tab.load(SceneGraph.parse("car, left of, tree"), seed=10**14 + 1)
    assert seed() == 10**14 + 1
    person.write("tree, left of, car; car, near, man")
    assert seed() == 10**14 + 1, "the same noise under a changed graph"
    person.tab._graph._on_editor({"nodes": [], "edges": []})
    assert seed() == 7
    person.write("car, left of, tree", seed=10**14)
    person.write("dog, above, box")
    assert seed() == 10**14, "it was given by hand"
    person.tab.load(SceneGraph.parse("car, left of, tree"), seed=5)
    person.write("cat, on, cup", seed=6)
    assert seed() == 6


def test_the_history_shows_a_drawing_again_with_its_settings(person: Person) -> None:
    person.write("dog, above, box", seed=1, steps=5, prompt="a dog")
    first = person.draw()
    person.write("cat, on, cup", seed=2, steps=6, prompt="")
    second = person.draw()
    assert first.order != second.order
    assert pictures(person)[1] == "Your graph: picture of “cat, on, cup”"
    person.look_back(1)
    assert pictures(person)[1] == "Your graph: picture of “dog, above, box”"
    assert shown(person.tab._status)[-1] == "Done."
    assert person.draw().order == first.order
    texts = shown(person.tab._history._strip)
    assert [one for one in texts if "seed" in one] == [
        "seed 1, 5 steps, scale 1",
        "seed 2, 6 steps, scale 1",
        "seed 1, 5 steps, scale 1",
    ]


def test_a_drawing_goes_on_while_somebody_looks_back(person: Person) -> None:
    person.write("dog, above, box")
    person.draw()
    person.write("cat, on, cup", seed=2)
    sketch = person.tab._graph.timeline.now.to_json()
    sketch["nodes"][0]["x"] += 50
    person.tab._graph._on_editor(sketch)
    job = person.order()
    job.arms = (Arm.BASE, Arm.GRAPH)
    person.tab._poll()
    person.look_back(0)
    assert person.tab._graph.graph == ABOVE
    draw(job)
    person.tab._poll()
    assert pictures(person)[1] == "Your graph: picture of “cat, on, cup”"
    person.look_back(0)
    assert person.tab._graph.timeline.now.to_json() == sketch, "not what was there at the end"


def test_pictures_are_kept_as_long_as_the_history_shows_them(person: Person) -> None:
    def addresses() -> set[str]:
        tab = person.tab
        found = [*tab._pictures.descendants(), *tab._history._strip.descendants()]
        return {one._props["src"] for one in found if one.tag == "img"}

    for seed in range(32):
        person.write("dog, above, box", seed=seed)
        person.draw()
        for address in addresses():
            person.gallery.get(address.rpartition("/")[2])
    assert len([one for one in shown(person.tab._history._strip) if "seed" in one]) == 30
    person.look_back(29)
    for address in addresses():
        person.gallery.get(address.rpartition("/")[2])
    assert len(person.gallery) == 30 * 3, "two pictures and a thumbnail of each"
    person.order().arms = (Arm.BASE,)
    person.tab._poll()
    person.tab.close()
    assert len(person.gallery) == 0


def test_a_reload_brings_back_the_last_change(person: Person, tmp_path: Path) -> None:
    person.write("cat, on, cup", seed=2, steps=6, graph_scale=2.0, prompt="a cat")
    sketch = person.tab._graph.timeline.now.to_json()
    sketch["nodes"][0]["x"] += 50
    person.tab._graph._on_editor(sketch)
    kept = json.loads(json.dumps(person.storage))
    again = Person(tmp_path, kept=kept)
    assert again.tab._graph.timeline.now.to_json() == sketch, "with every place"
    assert again.order().order == person.order().order
    again.write("dog, on, cup")
    assert kept != person.storage, "and goes on from there"


def test_a_connection_that_was_lost_for_a_moment_is_no_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be undone would be lost."""
    storage: dict[str, Any] = {}
    monkeypatch.setattr(Storage, "tab", property(lambda _: storage))
    with Client(page("/")) as client:
        _page(PageSettings(runs=tmp_path), studio=Studio(), kept=Gallery())
        (panels,) = (one for one in client.elements.values() if isinstance(one, ui.tab_panels))
        (editor,) = (one for one in client.elements.values() if isinstance(one, GraphEditor))
        (written,) = (
            one
            for one in client.elements.values()
            if isinstance(one, ui.textarea) and one.props.get("label") == "As text"
        )
        assert "inert" in panels.props, "nobody can change what will be replaced"
        for _ in range(2):
            for begin in client.connect_handlers:
                begin()
            assert "inert" not in panels.props
            written.value = "cat, on, cup"
            assert editor.props["can-undo"]
        assert [one["name"] for one in storage["draw"]["sketch"]["nodes"]] == ["cat", "cup"]
    client.delete()
