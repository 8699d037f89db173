"""The page itself: its three tabs for each client, its routes, and the server."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nicegui import Client, app, ui
from nicegui.element import Element
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, Response

from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.settings.compute import SamplingCompute
from sgflux.settings.drawing import SizeSettings
from sgflux.settings.judges import JudgeSettings
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.trained_adapter import TrainedAdapter
from sgflux.web import gallery, reading
from sgflux.web.draw import DrawTab
from sgflux.web.panels import text
from sgflux.web.reading import ReportTab
from sgflux.web.studio import Studio
from sgflux.web.watch import WatchTab

_HERE = Path(__file__).parent
_RECONNECT = 120
"""Seconds for which a page that is not heard of is kept: a drawing may take all of a machine."""
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_PRIVATE = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """What the page is made of.

    Attributes:
        host: Address that the server listens on.
        port: Port that it listens on; 0: a free one.
        show: Whether a browser is opened.
        runs: Folder of trainings and evaluations.
        judge: Names of the judges that read the pictures, as ``sgflux eval`` takes them; None: that
            of the bundled world for the bundled model, and none for others.
        judges: Models that the judges ask.
        model: Base model.
        trained: Adapter.
        compute: Device and precision.
        memory: Ways to need less memory of the device.
        size: Size of the pictures, and guidance.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    show: bool = True
    runs: Path = Path("runs")
    judge: str | None = None
    judges: JudgeSettings = field(default_factory=JudgeSettings)
    model: ModelSource = field(default_factory=ModelSource)
    trained: TrainedAdapter = field(default_factory=TrainedAdapter)
    compute: SamplingCompute = field(default_factory=SamplingCompute)
    memory: MemorySettings = field(default_factory=MemorySettings)
    size: SizeSettings = field(default_factory=SizeSettings)


def serve(settings: PageSettings, *, say: Callable[[str], None] = print) -> None:
    """Serve the page until it is interrupted.

    Args:
        settings: Settings of the page.
        say: Function that shows a line to the user.

    Raises:
        SgfluxError: if the address cannot be listened on, or the judge cannot be made.
    """
    port = free_port(settings.host, settings.port)
    studio = Studio(
        settings.model,
        settings.trained,
        settings.compute,
        settings.memory,
        size=settings.size,
        judge=settings.judge,
        judges=settings.judges,
    )
    studio.load_judge()
    kept = gallery.Gallery()
    _add_routes(kept)
    # A page of another site, opened in the same browser, has another host in its requests.
    if settings.host in ("127.0.0.1", "localhost", "::1"):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(_LOOPBACK))
    app.on_startup(studio.start)
    app.on_shutdown(studio.stop)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    say(f"sgflux page: http://{shown}:{port} (Ctrl+C ends it)")
    ui.run(
        lambda: _page(settings, studio=studio, kept=kept),
        host=settings.host,
        port=port,
        title="sgflux",
        favicon=_HERE / "icon.svg",
        dark=None,
        language="en-US",
        show=settings.show,
        reload=False,
        show_welcome_message=False,
        reconnect_timeout=_RECONNECT,
    )


def free_port(host: str, port: int) -> int:
    """Return the port to listen on: the one given, or a free one for 0.

    Raises:
        SgfluxError: if the host is no address of this machine, or the port is taken or none.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name != "nt":  # as the server itself: a port that was just left is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        if isinstance(error, socket.gaierror) or getattr(error, "errno", 0) == errno.EADDRNOTAVAIL:
            raise SgfluxError(
                f"--host {host} is no address of this machine ({error}); give 127.0.0.1 for this "
                "machine alone, or 0.0.0.0 for all its addresses"
            ) from error
        raise SgfluxError(
            f"the page cannot listen on {host}:{port}: {error}; choose another --port, or 0 for "
            "a free one"
        ) from error


def _add_routes(kept: gallery.Gallery) -> None:
    @app.get(gallery.ROUTE + "/{token}")
    def picture(token: str) -> Response:
        try:
            content, media_type = kept.get(token)
        except SgfluxError as error:
            return Response(str(error), status_code=404)
        return Response(content, media_type=media_type, headers=_PRIVATE)

    @app.get(reading.ROUTE + "/{token}")
    def report(token: str) -> Response:
        path = reading.REPORTS.get(token)
        if path is None or not path.is_file():
            return Response("there is no such report (any more)", status_code=404)
        # Whatever the file holds, it is no part of this page.
        headers = {**_PRIVATE, "Content-Security-Policy": "sandbox allow-scripts"}
        return FileResponse(path, media_type="text/html", headers=headers)


def _page(settings: PageSettings, *, studio: Studio, kept: gallery.Gallery) -> None:
    """Build the page of one client, who shares nothing with others but the worker."""
    ui.colors(primary="#0f766e", dark="#16191b", dark_page="#121517")
    ui.add_css((_HERE / "page.css").read_text(encoding="utf-8"))
    ui.add_head_html(f"<script>{(_HERE / 'page.js').read_text(encoding='utf-8')}</script>")
    adapter = settings.trained.adapter
    draw = DrawTab(
        studio=studio,
        gallery=kept,
        runs=settings.runs,
        model=settings.model,
        adapter=None if adapter is None else adapter.as_posix(),
    )

    def open_graph(graph: SceneGraph, seed: int) -> None:
        draw.load(graph, seed=seed)
        tabs.value = "Draw"

    contents: dict[str, DrawTab | WatchTab | ReportTab] = {
        "Draw": draw,
        "Training": WatchTab(gallery=kept, runs=settings.runs),
        "Evaluation": ReportTab(runs=settings.runs, open_graph=open_graph),
    }
    dark = ui.dark_mode(value=None)
    with Element("header").classes("sg-header"):
        text("h1", "sgflux")
        with ui.tabs().props("no-caps inline-label dense align=left") as tabs:
            for name in contents:
                ui.tab(name)
        themes = {"auto": None, "light": False, "dark": True}
        theme = ui.select(
            list(themes), value="auto", on_change=lambda e: dark.set_value(themes[e.value])
        )
        theme.props('dense borderless options-dense prefix="Theme:" aria-label="Theme"')
        theme.classes("sg-theme")
    # What is done before the browser is connected would be lost.
    panels = ui.tab_panels(tabs, value="Draw", animated=False, keep_alive=True).props("inert")

    def begin() -> None:
        if "inert" in panels.props:  # else the connection was only lost for a moment
            draw.keep_in(app.storage.tab)
            panels.props(remove="inert")

    ui.context.client.on_connect(begin)
    with panels.classes("sg-body"):
        for name, content in contents.items():
            with ui.tab_panel(name):
                content.build()
    tabs.on_value_change(lambda event: contents[event.value].refresh())

    def forget(_: Client) -> None:
        for content in contents.values():
            content.close()

    ui.context.client.on_delete(forget)
