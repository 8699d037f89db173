"""``sgflux cache``."""

from __future__ import annotations

from collections.abc import Sequence

from sgflux.commands.command import Command
from sgflux.commands.config_files import settings_of_files
from sgflux.commands.inputs import check_base
from sgflux.errors import SgfluxError
from sgflux.settings.caching import CacheConfig, cache_settings
from sgflux.terminal.quiet import hide_loading_bars

_CONFIGURATION = """

Configuration:
  --config FILE takes all settings that the cache shares with a training from
  the file that 'sgflux train --config' reads, also the kinds of texts and of
  negative graphs. Flags override it."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Fill a cache with what a training run over these files would encode, or check it."""
    settings, flags = settings_of_files(arguments)
    defaults = cache_settings(settings) if settings else None
    config = command.parse(CacheConfig, flags, defaults=defaults, more=_CONFIGURATION)
    if not config.verify:
        command.expect_files(config.jsonl)
    if config.jsonl:
        check_base(config.model)
    elif not config.latent_cache_dir.is_dir():
        raise SgfluxError(f"the cache {str(config.latent_cache_dir)!r} is no folder")
    from sgflux.training.encoding.caching import fill_from_files, verify_cache
    from sgflux.training.processes.launcher import check_launcher
    from sgflux.training.processes.processes import Processes

    if not config.jsonl:
        return min(verify_cache(config.latent_cache_dir, rebuilds=False), 1)
    check_launcher(dtype=config.compute.dtype)
    processes = Processes.start(config.compute.device)
    # Several may fill one cache together, each with a part of its own.
    part = "" if config.num_shards == 1 else f"part{config.shard}of{config.num_shards}"
    with processes.hold(config.latent_cache_dir, command=command.prog, part=part):
        if config.verify and processes.is_main:
            verify_cache(config.latent_cache_dir, rebuilds=True)
        processes.wait()  # nobody reads a shard that is being set aside
        hide_loading_bars()
        for line in fill_from_files(config, processes=processes):
            if processes.is_main:
                print(line, flush=True)
    return 0


COMMAND = Command(
    words=("cache",),
    purpose="Encode pictures and texts once, before training",
    example="sgflux cache train.jsonl validation.jsonl --latent-cache-dir runs/cache",
    run=run,
)
