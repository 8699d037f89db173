"""Several processes share the drawing of sample graphs, with either engine.

If one of these failed, processes would wait for each other without end, or would choose different
adapters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgflux.data.pictures import read_picture
from sgflux.training.checkpoints.checkpoint import TrainingState
from tests.helpers.training import MakeConfig, equal
from tests.helpers.two_processes import DDP, FSDP2, finish, launch

pytestmark = pytest.mark.slow

RUNS = """
import json, sys
from pathlib import Path
from sgflux.settings.training import TrainConfig
from sgflux.training.run.train import train

class Judge:
    name = "script"
    def refusal(self, graph):
        return None
    def read(self, pictures, graphs):
        print("judged", flush=True)
        return [{one: "holds" for one in graph.labelled_triples()} for graph in graphs]

for path in sys.argv[1:]:
    train(TrainConfig.from_json(json.loads(Path(path).read_text())), observe=Judge)
"""


@pytest.mark.parametrize("engine", [DDP, FSDP2], ids=["DDP", "FSDP2"])
def test_two_processes_draw_together_and_learn_the_same(
    make_config: MakeConfig, tmp_path: Path, engine: Any
) -> None:
    """Three graphs: one of the processes draws one twice."""
    graphs = tmp_path / "graphs.txt"
    graphs.write_text("man, riding, horse\ndog, above, ball\nowl, on, lamp\n")
    shared: dict[str, Any] = {"batch_size": 1, "shard_base": engine is FSDP2}
    configs = [
        make_config(tmp_path / "plain", **shared),
        make_config(
            tmp_path / "drawn", sample_graphs=graphs, judge="script", early_stopping_patience=9,
            select_by="obeyed", **shared,
        ),
    ]  # fmt: skip
    files = []
    for config in configs:
        files.append(tmp_path / f"{config.run.output_dir.name}.json")
        files[-1].write_text(json.dumps(config.to_json()))
    script = tmp_path / "runs.py"
    script.write_text(RUNS)
    output = finish(launch(script, *map(str, files), engine=engine))
    assert output.count("judged") == 3  # of grey pictures, and after steps 2 and 4, in one process
    plain, drawn = (TrainingState.load(tmp_path / name / "step4.pt") for name in ("plain", "drawn"))
    assert equal(plain.trainable, drawn.trainable)
    assert equal(plain.rng, drawn.rng)
    assert drawn.best is not None
    assert drawn.best.metrics["obeyed"] == 1
    pictures = [
        read_picture(tmp_path / "drawn" / "samples" / "step4" / f"{place:03d}.png")
        for place in range(3)
    ]
    assert [info["prompt"] for _, info in pictures] == [
        "a photo of man and horse", "a photo of dog and ball", "a photo of owl and lamp"
    ]  # fmt: skip
