"""The questions that a reader has, each with a short answer and the figures that it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sgflux.evaluation.arms import Arm
from sgflux.evaluation.report.headline import (
    Figure,
    Results,
    arm_figure,
    chance_sentence,
    ranking_sentence,
)
from sgflux.evaluation.report.tables import (
    REFERENCES,
    ArmRow,
    Known,
    PredicateRow,
    calibration_tables,
    quality_tables,
    reference_arm,
)

Tone = Literal["good", "mixed", "bad", "open"]


@dataclass(frozen=True)
class Answer:
    """A question and what an evaluation says to it.

    Attributes:
        question: The question.
        short: Answer in a few words.
        sentences: Figures that it rests on.
        tone: "good", "mixed" or "bad" where the answer is one of these, else "open".
    """

    question: str
    short: str
    sentences: list[str]
    tone: Tone = "open"


def answers(
    results: Results, arms: Iterable[ArmRow], predicates: list[PredicateRow]
) -> list[Answer]:
    """All answers, in reading order.

    Args:
        results: Content of ``evaluation_results.json``.
        arms: Rows of the table of arms.
        predicates: Rows of the table of predicates.
    """
    others = {row.arm: row for row in arms}
    return [
        _obeys(results, others),
        *([_where(predicates, reference_arm(results))] if predicates else []),
        *([_against(others)] if Arm.GRAPH in others else []),
        _sure(results, others),
        _judge(results, predicates, calibration_tables(results)),
        _quality(results),
    ]


def _obeys(results: Results, arms: dict[Arm, ArmRow]) -> Answer:
    question = "Does the adapter obey the graph?"
    graph = arm_figure(results, Arm.GRAPH)
    ranking = Figure.of(results.get("ranking_accuracy"))
    if graph.value is None:
        sentences = ["Nobody has judged the pictures."]
        if ranking.value is not None:
            sentences.append(
                "On real pictures, the model's error is smaller under the true graph than under a "
                f"negative one {_with_interval(ranking)} of the time, where chance is "
                f"{_percent(0.5)}."
            )
            sentences += filter(None, [ranking_sentence(results["ranking_accuracy"])])
        return Answer(question, "Not judged", sentences)
    sentences = [
        f"Given the graph, {_with_interval(graph)} of the stated relations are in the pictures, "
        "as a mean over predicates."
    ]
    if (own := arms.get(Arm.GRAPH)) is not None and own.corrected.value is not None:
        sentences.append(
            f"Corrected for the errors of the judge it is {_with_interval(own.corrected)}, of the "
            f"statements that the judge decides about and whose predicates can be corrected; of "
            f"these it accepts {own.raw.percent} itself."
        )
    signs: list[bool] = []
    reference = reference_arm(results)
    without = None if reference is None else arms.get(reference)
    if without is not None and without.difference.low is not None:
        signs.append(without.difference.low > 0)
        sentences.append(
            f"{without.name} ({without.told}): {_with_interval(without.accuracy)}. "
            f"{_compared(without.difference)}"
        )
    win = Figure.of(results.get("win_rate"))
    if win.value is not None and win.low is not None:
        signs.append(win.low > 0.5)
        sentences.append(
            f"When {_SWAPS.get(results['win_rate'].get('negatives'), 'the graph is made false')}, "
            f"the picture follows its own graph {_with_interval(win)} of the time, where chance is "
            f"{_percent(0.5)}."
        )
    graph_wins, text_wins = (
        Figure.of((results.get("contradiction") or {}).get(f"follows_{who}"))
        for who in ("graph", "text")
    )
    if graph_wins.value is not None:
        sentences.append(
            f"When the text states another predicate than the graph, {_with_interval(graph_wins)} "
            f"of the pictures follow the graph and {_with_interval(text_wins)} the text."
        )
    if not signs:
        return Answer(question, f"{graph.percent}, compared with nothing", sentences)
    if all(signs):
        return Answer(question, f"Yes, in {graph.percent} of the statements", sentences, "good")
    if any(signs):
        return Answer(question, "Only in part", sentences, "mixed")
    return Answer(question, "No sign of it", sentences, "bad")


_SWAPS = {
    "role_swap": "subject and object of a statement change places",
    "predicate": "the graph states another predicate",
}


def _where(predicates: list[PredicateRow], reference: Arm | None) -> Answer:
    """Say for which predicates the graph helps, and list shares alone without a reference."""
    question, count = "For which predicates?", len(predicates)
    counts = [row.graph.n for row in predicates]
    few, many = min(counts), max(counts)
    each = f"Each predicate has {few if few == many else f'{few} to {many}'} statements."
    doubts = (
        [
            "A dagger (†) marks predicates about which the judge's calibration does not show it to "
            "be better than the majority answer: their figures say little."
        ]
        if any(row.is_doubtful for row in predicates)
        else []
    )
    if reference is None:
        listed = f"Shown with the true graph: {_listed(predicates)}."
        nothing = "Neither the base nor the adapter was judged without a graph."
        words = "1 predicate" if count == 1 else f"{count} predicates"
        short = f"{words}, compared with nothing"
        return Answer(question, short, [listed, f"{each} {nothing}", *doubts])
    groups: dict[str, list[PredicateRow]] = {
        f"Clearly more often than {REFERENCES[reference][0]}": [],
        "More often, but the intervals meet": [],
        "Not more often": [],
        "Compared with nothing": [],
    }
    clear, higher, rest, alone = groups.values()
    for row in predicates:
        value, other = row.graph.value, row.reference.value
        is_higher = value is not None and other is not None and value > other
        group = clear if row.is_clear else higher if is_higher else rest
        (alone if other is None else group).append(row)
    sentences = [f"{title}: {_listed(rows)}." for title, rows in groups.items() if rows]
    sentences.append(
        f"{each} “Clearly” means that the two 95 % intervals do not meet; they are not adjusted "
        "for the number of predicates."
    )
    sentences += doubts
    short = f"Clearly for {len(clear)} of {count} predicates"
    if higher:
        short += f", perhaps for {len(higher)} more"
    tone: Tone = "good" if len(clear) == count else "mixed" if clear or higher else "bad"
    return Answer(question, short, sentences, tone)


def _listed(rows: Iterable[PredicateRow]) -> str:
    return ", ".join(
        f"{row.name}{'†' if row.is_doubtful else ''} {row.graph.rounded}" for row in rows
    )


def _against(arms: dict[Arm, ArmRow]) -> Answer:
    sentences = [
        "Every test item is drawn in every arm from the same noise, so that two arms differ in "
        "nothing but what the model is told."
    ]
    for arm in (Arm.BASE_RELATIONAL, Arm.NULL_GRAPH, Arm.SHUFFLED_GRAPH):
        if (row := arms.get(arm)) is not None and row.difference.value is not None:
            sentences.append(
                f"{row.name} ({row.told}): {row.accuracy.percent}. {_compared(row.difference)}"
            )
    others = len(arms) - 1
    if not others:
        return Answer("Against what?", "Nothing", ["No other arm was judged."])
    short = f"{others} other {'arm' if others == 1 else 'arms'}, the same noise"
    return Answer("Against what?", short, sentences)


def _sure(results: Results, arms: dict[Arm, ArmRow]) -> Answer:
    rows, noises = results["items"]["rows"], results["items"]["seeds_per_item"]
    graph = arm_figure(results, Arm.GRAPH)
    sentences = []
    base = arms.get(Arm.BASE_NEUTRAL)
    if base is not None and base.difference.low is not None and graph.low is not None:
        sentences.append(
            f"With the graph: {graph.interval} %. Difference to the base, told only the objects: "
            f"{base.difference.interval} points."
        )
        if base.test:
            sentences.append(f"Exact sign test against that base: {base.test}.")
    sentences.append(
        "Intervals are at 95 %, clustered by image, and also hold near 0 and 100 %. They say how "
        "far the figures may move with other test items and other noise. One training is behind "
        "them: how much another training seed would change is not in them."
    )
    sentences += filter(None, [chance_sentence(results)])
    short = f"{graph.n:,} statements" if graph.n else f"{rows:,} items"
    return Answer(
        "How sure are we?",
        f"{short}, {rows:,} items, {noises} {'noise' if noises == 1 else 'noises'} each"
        if graph.n
        else short,
        sentences,
    )


def _judge(results: Results, predicates: list[PredicateRow], known: list[Known]) -> Answer:
    question, judge = "How good is the judge?", results["judge"]
    accuracy = Figure.of(judge, key="accuracy")
    if judge["name"] == "none":
        return Answer(question, "There is none", [as_sentence(judge["note"])])
    sentences = []
    for table in known:
        if table.right.value is not None:
            sentences.append(
                f"{table.title}: the judge is right about {_with_interval(table.right)}, the "
                f"majority answer about {table.majority.percent} (n = {table.right.n:,}, of those "
                "with both objects found)."
            )
    if accuracy.value is not None:
        sentences.append(
            f"Asked about {judge['calibrated_on']}, the judge “{judge['name']}” is right about "
            f"{_with_interval(accuracy)} of the stated relations."
        )
        accepted = [
            f"{Figure.of(entry).percent} ({entry.get('pairs', kind)})"
            for kind, entry in (judge.get("false_acceptance") or {}).items()
            if entry.get("value") is not None
        ]
        if accepted:
            sentences.append(f"It accepts a relation that is not there in {', '.join(accepted)}.")
        weakest = min(
            (row for row in predicates if row.judge.value is not None),
            key=lambda row: row.judge.value or 0.0,
            default=None,
        )
        if weakest is not None and weakest.judge.value != 1.0:
            sentences.append(f"It is weakest at {weakest.name}: {_with_interval(weakest.judge)}.")
    if not sentences:
        return Answer(
            question,
            "Not calibrated",
            [
                "The judge has not been calibrated: how often it errs is not known, and its "
                "errors are in every share on this page.",
                as_sentence(judge.get("note") or ""),
            ],
            "bad",
        )
    correction = results.get("correction")
    if correction is None:
        sentences.append(
            "Its errors are in every share on this page, and on drawn pictures they may be more "
            "frequent than on those that it was tested on."
        )
    else:
        rates, impossible = correction["rates"], correction["impossible"]
        sentences.append(
            "Its errors are in every share on this page but the corrected ones"
            + (f"; no correction is possible for {', '.join(impossible)}" if impossible else "")
            + ". A correction supposes that it errs on drawn pictures as often as on those that "
            "it was calibrated on."
            if rates
            else "Its errors are in every share on this page, and no correction is possible: where "
            "it was calibrated, its acceptance of true and of false statements does not differ for "
            "certain, or is not known."
        )
    chief = next((table.right for table in known if table.right.value is not None), accuracy)
    return Answer(question, f"Right about {chief.percent} of known relations", sentences)


def _quality(results: Results) -> Answer:
    question, sentences, short = "What does it cost in quality?", [], "FID and KID not measured"
    for table in quality_tables(results):
        own = {row.arm: row for row in table.rows}
        if (graph := own.get(Arm.GRAPH)) is None:
            continue
        short = "see the distances"
        sentence = (
            f"{table.title}: {_with_interval(graph.distance)} from the base's pictures to those "
            f"with the graph (0 if nothing changes; n = {graph.distance.n})"
        )
        if (words := own.get(Arm.BASE_RELATIONAL)) is not None:
            sentence += f", and {_with_interval(words.distance)} to those of the base told in words"
        sentences.append(f"{sentence}.")
    if not sentences:
        sentences.append(
            "This evaluation has no distance between sets of pictures, such as FID or KID."
        )
    whole, base = (
        Figure.of(results["arms"].get(arm, {}).get("objects_right"))
        for arm in (Arm.GRAPH, Arm.BASE_NEUTRAL)
    )
    if whole.value is not None and base.value is not None:
        change = Figure(whole.value - base.value)
        fewer = "Fewer" if whole.value < base.value else "No fewer"
        short = f"{fewer} objects drawn ({change.points}); {short}"
        sentences.insert(
            0,
            f"All objects of the item are found in {_with_interval(whole)} of the pictures with "
            f"the graph and in {_with_interval(base)} of the base's.",
        )
    moved = (results.get("graph_sensitivity") or {}).get("pixel_distance") or {}
    distance = Figure.of(moved.get(f"graph_to_{Arm.BASE_NEUTRAL}"), is_share=False)
    if distance.value is not None:
        sentences.append(
            f"Pixels move by {_with_interval(distance)} on average between base and graph, on a "
            "scale from 0 to 1, from the same noise."
        )
    ranking = results["ranking_accuracy"]
    if ranking.get("error_graph") is not None:
        sentences.append(
            f"On real pictures, the model's training error is {ranking['error_graph']:.3f} under "
            f"the true graph and {ranking['error_null_graph']:.3f} without a graph; the larger it "
            "is, the less the pictures are what the model expects. The notes below “All figures” "
            "say more."
        )
    return Answer(question, short, sentences)


def _percent(share: float) -> str:
    return Figure(share).rounded


def _with_interval(figure: Figure) -> str:
    return f"{figure.percent} ({figure.interval})" if figure.interval else figure.percent


def as_sentence(note: str) -> str:
    """A note of the results with a capital letter and a full stop."""
    return note[:1].upper() + note[1:] + ("." if note and not note.endswith(".") else "")


def _compared(difference: Figure) -> str:
    """A sentence about what the true graph adds to an arm."""
    low, high = difference.low, difference.high
    sentence = f"The true graph makes a difference of {difference.points}"
    sentence += f" ({difference.interval})" if difference.interval else ""
    is_open = low is not None and high is not None and low <= 0 <= high
    return f"{sentence}{', which may be none' if is_open else ''}."
