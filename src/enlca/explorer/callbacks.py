"""Connect the components of the page with the actions: order, concurrency, conversion of values."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from enlca.errors import EnlcaError, NothingOpen, Stopped
from enlca.explorer import html
from enlca.explorer.actions import ATTRIBUTING, UPSCALING, Choice, Explorer, Report
from enlca.explorer.page import Page
from enlca.explorer.session import config_of
from enlca.explorer.uploads import Uploads

# Long jobs of all visitors run one after the other; clicks wait neither for them nor for slow maps.
LONG: dict[str, Any] = {"concurrency_id": "long", "concurrency_limit": 1}
QUICK: dict[str, Any] = {"concurrency_id": "quick", "concurrency_limit": 2}
SLOW: dict[str, Any] = {"concurrency_id": "slow", "concurrency_limit": 1}
PROGRESS = gr.Progress()
# Of the clicks during a computation only the last one counts.
LAST: dict[str, Any] = {"trigger_mode": "always_last"}
MAX_QUEUED = 200

MOVE_SQUARE = """(side) => {
  const stage = document.querySelector("#stage .stage");
  if (stage) { stage.dataset.side = side; stage.dispatchEvent(new Event("square", { bubbles: true })); }
}"""


class Callbacks:
    """Gradio's callbacks: they get and return values of components; the request identifies the visitor."""

    def __init__(self, page: Page, explorer: Explorer, uploads: Uploads):
        self.page = page
        self.explorer = explorer
        self.uploads = uploads

    def open(self, request: gr.Request, path: str | None, side: int | float) -> list[Any]:
        """Show a picture that was dropped, and clear the results of the last one."""
        try:
            # Gradio passes a subclass of str, which is not a key of the uploads.
            with self.uploads.claimed(path and str(path)) as file:
                opened = self.explorer.open(_identity(request), file)
        except EnlcaError as error:
            return [None, html.problem(error), *[gr.skip()] * 7]
        return [
            None,
            html.about(opened),
            html.stage(opened, side=int(side)),
            gr.Column(visible=True),
            gr.ImageSlider(value=None, visible=False),
            gr.DownloadButton(value=None, visible=False),
            *("", "", ""),
        ]

    def point(self, request: gr.Request, event: gr.EventData, *choice: Any) -> str:
        """Return the quick maps of the pixel that was clicked on."""
        return self._maps(request, choice, point=(int(event.row), int(event.column)))

    def quick_maps(self, request: gr.Request, *choice: Any) -> str:
        """Return the quick maps of the last point."""
        return self._maps(request, choice)

    def redraw(self, request: gr.Request, *choice: Any) -> str:
        """Return the quick maps with another F."""
        self.explorer.visitors.of(_identity(request)).redraw += 1
        return self._maps(request, choice)

    def _maps(self, request: gr.Request, choice: Sequence[Any], point: tuple[int, int] | None = None) -> str:
        try:
            return self.explorer.quick_maps(_identity(request), self._choice(*choice), point=point)
        except EnlcaError as error:
            return html.problem(error)

    def all_maps(self, request: gr.Request, *choice: Any) -> Any:
        """Return all maps; nothing changes if the visitor has asked for others meanwhile."""
        try:
            panels = self.explorer.all_maps(_identity(request), self._choice(*choice))
        except EnlcaError as error:
            return html.problem(error)
        return gr.skip() if panels is None else panels

    def settings(self, request: gr.Request, model: str, scale: int) -> list[Any]:
        """Return scales and blocks of the chosen network, and its own k, m and F."""
        self.explorer.visitors.of(_identity(request)).redraw = 0
        settings = self.page.settings_of(model, scale)
        kinds = (gr.Radio, gr.Radio, gr.Slider, gr.Slider)
        return [kind(**one) for kind, one in zip(kinds, settings, strict=True)]

    def upscale(
        self, request: gr.Request, model: str, scale: int, progress: gr.Progress = PROGRESS
    ) -> list[Any]:
        """Return bicubic and the result for the slider, the file to download, and a message."""
        try:
            done = self.explorer.upscale(_identity(request), model, scale, _reporter(progress))
        except Stopped as stopped:
            return [gr.skip(), gr.skip(), html.hint(str(stopped))]
        except EnlcaError as error:
            return [gr.skip(), gr.skip(), html.problem(error)]
        width, height = done.size
        text = "; ".join((f"{model} ×{scale}: {width} × {height}", *done.remarks))
        return [
            gr.ImageSlider(value=(str(done.before), str(done.after)), visible=True),
            gr.DownloadButton(value=str(done.file), visible=True),
            html.hint(text),
        ]

    def attribute(
        self, request: gr.Request, side: int | float, progress: gr.Progress = PROGRESS, *choice: Any
    ) -> str:
        """Return the local attribution map of the square."""
        try:
            return self.explorer.attribute(
                _identity(request), self._choice(*choice), int(side), _reporter(progress)
            )
        except Stopped as stopped:
            return html.hint(str(stopped))
        except EnlcaError as error:
            return html.problem(error)

    def leave(self, request: gr.Request) -> None:
        """Delete the visitor's data when the page is closed."""
        self.explorer.visitors.forget(_identity(request))

    def _choice(
        self, model: str, scale: int, block: int | None, k: int | float, m: int | float, second: str
    ) -> Choice:
        """Return the chosen settings; k and m only where they are not the network's own."""
        own = config_of(self.explorer.models.load(model, scale))
        other_scale, _, other = second.partition(" ")
        return Choice(
            model,
            scale,
            block or 0,
            amplification=None if k == own.amplification else float(k),
            n_features=None if m == own.n_features else int(m),
            second=(other, int(other_scale)) if second else None,
        )


def connect(page: Page, explorer: Explorer, uploads: Uploads) -> None:
    """Register the callbacks of all components."""
    callbacks = Callbacks(page, explorer, uploads)
    quick: dict[str, Any] = {
        "fn": callbacks.quick_maps,
        "inputs": page.choice,
        "outputs": page.panels,
        **QUICK,
    }
    complete = {**quick, "fn": callbacks.all_maps, **SLOW, **LAST, "show_progress": "hidden"}
    settings = [page.scale, page.block, page.amplification, page.features]
    with page.blocks:
        opened = page.drop.upload(
            callbacks.open,
            [page.drop, page.side],
            [
                *(page.drop, page.about, page.stage, page.looking, page.slider, page.download),
                *(page.status, page.panels, page.attribution),
            ],
            **QUICK,
        )
        opened.success(**quick).success(**complete)
        gr.on(
            [page.model.input, page.scale.input, page.own.click],
            callbacks.settings,
            [page.model, page.scale],
            settings,
            queue=False,
        ).success(**quick).success(**complete)
        page.stage.select(callbacks.point, page.choice, page.panels, **QUICK, **LAST).success(**complete)
        for component in (page.block, page.amplification, page.features, page.second):
            component.input(**quick, **LAST).success(**complete)
        page.redraw.click(callbacks.redraw, page.choice, page.panels, **QUICK, **LAST).success(**complete)
        page.side.input(None, page.side, None, js=MOVE_SQUARE)
        _long(
            (page.upscale, page.stop),
            (explorer, UPSCALING),
            callbacks.upscale,
            [page.model, page.scale],
            [page.slider, page.download, page.status],
            show_progress_on=page.status,
        )
        _long(
            (page.attribute, page.stop_attribution),
            (explorer, ATTRIBUTING),
            callbacks.attribute,
            [page.side, *page.choice],
            [page.attribution],
        )
        page.blocks.unload(callbacks.leave)
    page.blocks.queue(max_size=MAX_QUEUED)


def _long(
    buttons: tuple[gr.Button, gr.Button],
    job: tuple[Explorer, str],
    callback: Any,
    inputs: list[Any],
    outputs: list[Any],
    **settings: Any,
) -> None:
    """Register a long job: its button is replaced by Cancel until it ends, also by an error."""
    (start, stop), (explorer, kind) = buttons, job

    def begin(request: gr.Request) -> list[gr.Button]:
        explorer.visitors.of(_identity(request)).begin(kind)
        return [gr.Button(visible=False), gr.Button(visible=True)]

    def cancel(request: gr.Request) -> None:
        explorer.visitors.of(_identity(request)).stop(kind)

    start.click(begin, None, list(buttons), queue=False).then(
        callback, inputs, outputs, **LONG, **settings
    ).then(lambda: [gr.Button(visible=True), gr.Button(visible=False)], None, list(buttons), queue=False)
    stop.click(cancel, None, None, queue=False)


def _reporter(progress: gr.Progress) -> Report:
    return lambda share, text: progress(share, desc=text)


def _identity(request: gr.Request) -> str:
    """Return the identity of an open page. Raises NothingOpen: the request has none."""
    if not request.session_hash:
        raise NothingOpen("This request does not come from a page.")
    return request.session_hash
