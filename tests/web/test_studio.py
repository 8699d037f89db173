"""The page's worker draws what each client ordered, one after another, and survives bad orders.

If one of these failed, a client would get another one's picture, a cancelled drawing would go on,
or one bad order would end the page for everybody.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgflux.cli import main
from sgflux.evaluation.judges.judge import Outcome, Verdict
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import Arm, SceneGraphFluxPipeline, draw_arms
from sgflux.settings.drawing import SizeSettings
from sgflux.settings.judges import JudgeSettings
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.trained_adapter import TrainedAdapter
from sgflux.web.studio import NO_JUDGE, Job, Order, Phase, Studio
from tests.helpers.adapters import write_adapter
from tests.helpers.detectors import write_onnx_detector

ABOVE = SceneGraph.parse("dog, above, box")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_adapter(tmp_path_factory.mktemp("adapter") / "final", "tiny", strength=0.1))


@pytest.fixture
def studio() -> Iterator[Studio]:
    studio = Studio()
    studio.start()
    yield studio
    studio.stop()


def finished(job: Job) -> Job:
    end = time.monotonic() + 120
    while not job.is_over:
        assert time.monotonic() < end, job.phase
        time.sleep(0.02)
    return job


def order(graph: SceneGraph = ABOVE, **changes: Any) -> Order:
    return Order(**{"graph": graph, "model_id": "tiny", "steps": 2, **changes})


def test_a_job_has_the_pictures_of_the_public_function(studio: Studio, adapter: str) -> None:
    job = finished(studio.submit(order(adapter=adapter, seed=4, graph_scale=1.5)))
    assert (job.phase, job.error) == (Phase.DONE, None)
    pipeline = SceneGraphFluxPipeline.from_pretrained("tiny", adapter=adapter)
    expected = draw_arms(pipeline, ABOVE, seed=4, num_inference_steps=2, graph_scale=1.5)
    for one in expected:
        drawn = job.drawn[one.arm]
        assert np.array_equal(np.asarray(drawn.picture.image), np.asarray(one.image))
        assert drawn.picture.record == one.record
        ((triple, verdict),) = drawn.verdicts
        assert isinstance(verdict, Verdict)
        assert drawn.present is not None
        asked = "box, above, dog" if one.arm is Arm.SWAPPED else "dog, above, box"
        assert str(triple) == asked
        assert [len(heat) for heat in drawn.heat] == [3]
    assert list(job.drawn) == list(job.arms) == list(Arm)


def test_the_command_of_a_picture_names_what_the_user_of_the_page_gave() -> None:
    memory = MemorySettings(encoder_device="cpu")
    trained = TrainedAdapter(adapter="tiny", allow_other_base=True)
    source, size = ModelSource(allow_download=True), SizeSettings(height=96, width=128)
    studio = Studio(source, trained, memory=memory, size=size)
    studio.start()
    try:
        job = finished(studio.submit(order(adapter="tiny")))
        assert job.error is None
        assert job.drawn[Arm.GRAPH].picture.image.size == (128, 96)
        assert [heat[0].size for heat in job.drawn[Arm.GRAPH].heat] == [(128, 96)]
        words = shlex.split(studio.command(job, job.drawn[Arm.GRAPH].picture.record))
        assert words[words.index("--height") + 1 : words.index("--height") + 4 : 2] == ["96", "128"]
        assert {"--allow-download", "--allow-other-base"} <= set(words)
        assert words[words.index("--encoder-device") + 1] == "cpu"
        words = shlex.split(studio.command(job, job.drawn[Arm.BASE].picture.record))
        assert words[words.index("--max-sequence-length") + 1] == "32"
        assert "--adapter" not in words
    finally:
        studio.stop()


def test_two_clients_get_their_own_pictures(studio: Studio) -> None:
    jobs = [studio.submit(order(seed=seed)) for seed in (1, 2, 1)]
    assert [studio.ahead(job) for job in jobs[1:]] == sorted(studio.ahead(job) for job in jobs[1:])
    pictures = [np.asarray(finished(job).drawn[Arm.BASE].picture.image).tobytes() for job in jobs]
    assert [len(heat) for heat in jobs[0].drawn[Arm.BASE].heat] == [3]
    assert pictures[0] == pictures[2] != pictures[1]
    assert [job.order.seed for job in jobs] == [1, 2, 1]


def test_a_cancelled_job_ends_within_a_step_and_the_next_is_drawn(studio: Studio) -> None:
    long, short = studio.submit(order(steps=100_000)), studio.submit(order())
    while long.step == 0 and not long.is_over:
        time.sleep(0.01)
    assert studio.ahead(short) == 1
    long.cancel()
    assert finished(long).phase is Phase.CANCELLED
    assert finished(short).phase is Phase.DONE
    waiting = studio.submit(order())
    waiting.cancel()
    assert finished(waiting).phase in (Phase.CANCELLED, Phase.DONE)


def test_a_bad_order_says_why_and_the_next_is_drawn(studio: Studio, tmp_path: Path) -> None:
    bad = finished(studio.submit(order(adapter=str(tmp_path / "nothing"))))
    assert bad.phase is Phase.FAILED
    assert "nothing is no adapter bundle" in (bad.error or "")
    assert finished(studio.submit(order())).phase is Phase.DONE


def test_a_picture_that_no_judge_can_read_says_so(studio: Studio) -> None:
    job = finished(studio.submit(order(SceneGraph.parse("unicorn, above, box"))))
    for drawn in job.drawn.values():
        assert [verdict for _, verdict in drawn.verdicts] == [None]
        assert "does not know the object 'unicorn'" in (drawn.note or "")
        assert "use judge" not in (drawn.note or ""), "the page has no field for it"
    only_objects = finished(studio.submit(order(SceneGraph.parse("(dog)"))))
    assert only_objects.drawn[Arm.BASE].note is None


@pytest.fixture
def judged_by() -> Iterator[Callable[..., Studio]]:
    studios: list[Studio] = []

    def start(judge: str | None, **settings: Any) -> Studio:
        studios.append(Studio(judge=judge, judges=JudgeSettings(**settings)))
        studios[-1].load_judge()
        studios[-1].start()
        return studios[-1]

    yield start
    for studio in studios:
        studio.stop()


def test_the_judge_that_the_user_names_reads_the_pictures(
    judged_by: Callable[..., Studio], tmp_path: Path
) -> None:
    """Its detector sees the dog above the box, whatever the picture shows."""
    boxes = {"dog": (10, 0, 20, 8), "box": (10, 20, 20, 30)}
    studio = judged_by("geometry", detector=str(write_onnx_detector(tmp_path / "squares", boxes)))
    graph = SceneGraph.parse("dog, above, box; box, above, dog; dog, riding, box")
    drawn = finished(studio.submit(order(graph))).drawn[Arm.BASE]
    outcomes = [verdict and verdict.outcome for _, verdict in drawn.verdicts]
    assert outcomes == [Outcome.HOLDS, Outcome.CONTRADICTED, None]


def test_without_a_judge_the_pictures_say_so(judged_by: Callable[..., Studio]) -> None:
    drawn = finished(judged_by("none").submit(order())).drawn[Arm.BASE]
    assert ([verdict for _, verdict in drawn.verdicts], drawn.note) == ([None], NO_JUDGE)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--judge", "clairvoyant"], "judge must be 'none' or"),
        (["--judge", "geometry"], "judge 'geometry' needs a detector"),
        (["--judge", "world", "--detector", "x"], "no effect with judge 'world'"),
        (["--detector", "x"], "no effect without judge"),
    ],
)
def test_a_judge_that_cannot_be_is_refused_before_the_page_opens(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["page", "--port", "0", "--no-show", *flags]) != 0
    captured = capsys.readouterr()
    assert message in captured.err
    assert "http" not in captured.out


def test_an_adapter_that_was_trained_again_is_loaded_again(studio: Studio, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "final", "tiny", strength=0.1)
    before = finished(studio.submit(order(adapter=str(folder))))
    write_adapter(folder, "tiny", strength=0.1, seed=1)
    after = finished(studio.submit(order(adapter=str(folder))))
    records = [job.drawn[Arm.GRAPH].picture.record["adapter"] for job in (before, after)]
    assert records[0] != records[1]
