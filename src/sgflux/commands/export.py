"""``sgflux export``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from sgflux.commands.command import Command
from sgflux.commands.inputs import check_adapter
from sgflux.errors import SgfluxError
from sgflux.models.bundle_folder import expect_place
from sgflux.settings.exporting import ExportConfig


def run(command: Command, arguments: Sequence[str]) -> int:
    """Write an adapter for other programs."""
    config = command.parse(ExportConfig, arguments)
    adapter, folder = check_adapter(config.adapter), config.output_dir
    _check_places(adapter, config.output, folder)
    with ExitStack() as held:
        for place in (config.output, folder):
            if place is not None:
                held.enter_context(command.hold(place, beside=True))
        from sgflux.exporting import export_lora
        from sgflux.publishing import prepare

        publication = None
        if config.publishes:  # checked before anything is written
            publication = prepare(
                adapter,
                repository=config.push_to_hub,
                evaluation=config.evaluation,
                licence=config.license,
                half=config.half,
                rank=config.lora_rank,
                drawing=config.drawing,
            )
        if config.format is not None and config.output is not None:
            print(
                export_lora(
                    adapter,
                    config.output,
                    layout=config.format,
                    scale=config.scale,
                    rank=config.lora_rank,
                )
            )
        if publication is None:
            return 0
        if publication.lost_figures:
            print(
                "The judged figures of the model card are left out, since they are of the weights "
                "before this export; evaluate what is written, and export it with that evaluation"
            )
        if publication.drawn_otherwise:
            print(
                "The judged figures of the model card are of pictures that were drawn otherwise "
                f"than the published adapter is by default: {publication.drawn_otherwise}"
            )
        if folder is not None:
            publication.write(folder)
            print(f"{folder}: the whole adapter as it is published, with pipeline.py")
        if config.push_to_hub is not None:
            address = publication.upload(config.push_to_hub, private=config.private)
            print(f"{address}: the whole adapter")
    return 0


def _check_places(adapter: Path, output: Path | None, folder: Path | None) -> None:
    """Check that nothing that is written replaces the adapter, or what else is written."""
    if folder is not None:
        if folder.resolve() == adapter.resolve():
            raise SgfluxError(f"folder {str(folder)!r} is the adapter itself; choose another one")
        for inner, outer in ((folder, adapter), (adapter, folder), (output, folder)):
            if inner is not None and _is_in(inner, outer):
                raise SgfluxError(
                    f"{inner} is in the folder {outer}, which is written or read as a whole; "
                    "choose another place"
                )
        expect_place(folder)
    if output is not None and output.exists() and _is_in(output, adapter):
        raise SgfluxError(f"{output} is a file of the adapter itself; choose another place")


def _is_in(path: Path, folder: Path) -> bool:
    # A file that is a link, as in the hub's cache, is where the link is.
    place = path.parent.resolve() / path.name if path.is_file() else path.resolve()
    return place.is_relative_to(folder.resolve())


COMMAND = Command(
    words=("export",),
    purpose="Write an adapter's LoRA for other programs, or publish it",
    example="sgflux export --adapter runs/first/final --format kohya --output lora.safetensors",
    run=run,
)
