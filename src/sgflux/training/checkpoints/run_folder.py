"""The folder of a run: whether it may be used, where to go on, and what its files are called."""

from __future__ import annotations

from pathlib import Path

from sgflux.errors import SgfluxError
from sgflux.training.checkpoints.step_files import step_files
from sgflux.training.log.run_log import LOG_FILE, METRICS_FILE, TENSORBOARD_FOLDER

CONFIG_FILE = "config.json"
SAMPLES_FOLDER = "samples"


class RunFolder:
    """Names below ``output_dir``; makes nothing until asked to."""

    def __init__(self, output_dir: Path, *, graph_mode: str) -> None:
        """Name the files."""
        self.root = output_dir
        self.best = output_dir / f"best_graph_lora_{graph_mode}.pt"
        self.last = output_dir / f"final_graph_lora_{graph_mode}.pt"
        self.bundle = output_dir / "final"

    def step(self, step: int) -> Path:
        """The checkpoint after ``step`` steps."""
        return self.root / f"step{step}.pt"

    def resume_path(self, resume: str | None) -> Path | None:
        """The checkpoint to go on from; None for a new run.

        Raises:
            SgfluxError: if the folder is in use by something else than the run to be resumed.
        """
        content = self._content()
        found = step_files(self.root)
        if resume is None:
            if content:
                way_out = (
                    "add '--resume auto' to go on with that run, or give another folder"
                    if found
                    else "give another folder"
                )
                raise SgfluxError(f"output_dir {str(self.root)!r} is not empty; {way_out}")
            return None
        if resume == "auto":
            # A run that was stopped before its first checkpoint leaves only these behind.
            started = {CONFIG_FILE, LOG_FILE, METRICS_FILE, TENSORBOARD_FOLDER, SAMPLES_FOLDER}
            started.add(self.best.name)
            if not found and content - started:
                raise SgfluxError(
                    f"output_dir {str(self.root)!r} holds no step{{N}}.pt to resume from, but "
                    f"other files ({sorted(content - started)[0]!r}, ...); give another folder"
                )
            return found[max(found)] if found else None
        path = Path(resume)
        if not path.is_file():
            raise SgfluxError(f"resume: {resume!r} is no file; give a step{{N}}.pt or 'auto'")
        if path.resolve().parent != self.root.resolve():
            if content:
                raise SgfluxError(
                    f"resume: {resume!r} is of another folder than output_dir "
                    f"{str(self.root)!r}, which is not empty; give an empty folder"
                )
            return path
        steps = {file.resolve(): step for step, file in found.items()}
        own = steps.get(path.resolve())
        if own is None:
            raise SgfluxError(f"resume: {resume!r} is no step{{N}}.pt; give one, or 'auto'")
        later = [file.name for step, file in found.items() if step > own]
        if later:
            raise SgfluxError(
                f"resume: {resume!r} is not the latest checkpoint of its run; move "
                f"{', '.join(later)} out of {str(self.root)!r} first, or resume 'auto'"
            )
        return path

    def _content(self) -> set[str]:
        if self.root.exists() and not self.root.is_dir():
            raise SgfluxError(f"output_dir {str(self.root)!r} is a file")
        if not self.root.is_dir():
            return set()
        # A killed run may leave the temporary file of a checkpoint; such names start with a dot.
        return {entry.name for entry in self.root.iterdir() if not entry.name.startswith(".")}

    def prune(self, *, keep: int) -> None:
        """Remove all but the ``keep`` latest checkpoints; 0 keeps all."""
        if keep:
            for path in list(step_files(self.root).values())[:-keep]:
                path.unlink()
