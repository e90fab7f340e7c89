"""Connect the components of the page with the actions: order, concurrency, conversion of values."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gradio as gr

from enlca.errors import EnlcaError, NothingOpen, Stopped
from enlca.explorer import html
from enlca.explorer.actions import ATTRIBUTING, BATCH, BICUBIC, UPSCALING, Choice, Explorer, Report
from enlca.explorer.models import config_of
from enlca.explorer.page import Page
from enlca.explorer.session import OpenPicture
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
            return [None, html.problem(error), *[gr.skip()] * 9]
        return self._opened(opened, side)

    def sample(self, request: gr.Request, side: int | float) -> list[Any]:
        """Show the picture that comes with the page."""
        return self._opened(self.explorer.open_sample(_identity(request)), side)

    def _opened(self, opened: OpenPicture, side: int | float) -> list[Any]:
        return [
            None,
            html.about(opened),
            html.stage(opened, side=int(side)),
            gr.Column(visible=True),
            gr.ImageSlider(value=None, visible=False),
            gr.DownloadButton(value=None, visible=False),
            *(gr.Radio(visible=False), gr.Radio(visible=False)),
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
        """Return scales and blocks of a network, its own k, m and F, and whether it has a strength."""
        self.explorer.visitors.of(_identity(request)).redraw = 0
        settings = self.page.settings_of(model, scale)
        kinds = (gr.Radio, gr.Radio, gr.Slider, gr.Slider)
        has_strength = self.explorer.models.has_strength(model, settings[0]["value"])
        changed = [kind(**one) for kind, one in zip(kinds, settings, strict=True)]
        return [*changed, gr.Slider(visible=has_strength)]

    def upscale(
        self,
        request: gr.Request,
        model: str,
        scale: int,
        also: list[str] | None,
        strength: int | float,
        progress: gr.Progress = PROGRESS,
    ) -> list[Any]:
        """Return bicubic and the result for the slider, the file to download, a message, and other pairs."""
        models = [model, *(name for name in also or [] if name != model)]
        usable = [name for name in models if scale in self.explorer.models.scales(name)]
        try:
            identity = _identity(request)
            results = self.explorer.upscale_by(
                identity, usable, scale, _reporter(progress), strength=float(strength)
            )
        except Stopped as stopped:
            return [gr.skip(), gr.skip(), html.hint(str(stopped)), gr.skip(), gr.skip()]
        except EnlcaError as error:
            return [gr.skip(), gr.skip(), html.problem(error), gr.skip(), gr.skip()]
        lines = [
            "; ".join((f"{name} ×{scale}: {done.size[0]} × {done.size[1]}", *done.remarks))
            for name, done in results.items()
        ]
        lines += [f"{name} has no weights for ×{scale}" for name in models if name not in usable]
        several = len(results) > 1
        last = usable[-1]
        return [
            *self.pair(request, BICUBIC, last),
            html.hint("; ".join(lines)),
            gr.Radio([BICUBIC, *usable], value=BICUBIC, visible=several),
            gr.Radio(usable, value=last, visible=several),
        ]

    def pair(self, request: gr.Request, left: str, right: str) -> list[Any]:
        """Return both sides of the slider, and the file of the right one to download."""
        try:
            before, after, file = self.explorer.pair(_identity(request), left, right)
        except EnlcaError:
            return [gr.ImageSlider(value=None, visible=False), gr.DownloadButton(value=None, visible=False)]
        return [
            gr.ImageSlider(value=(str(before), str(after)), visible=True),
            gr.DownloadButton(value=str(file), visible=True),
        ]

    def upscale_many(
        self,
        request: gr.Request,
        paths: list[str] | None,
        model: str,
        progress: gr.Progress = PROGRESS,
    ) -> list[Any]:
        """Return an empty drop, the zip of all results, and a message."""
        scale, _, name = model.partition(" ")
        with ExitStack() as stack:
            try:
                if not paths:
                    raise NothingOpen("Drop pictures first.")
                files = [Path(stack.enter_context(self.uploads.claimed(str(path)))) for path in paths]
                report = _reporter(progress)
                done = self.explorer.upscale_many(_identity(request), files, name, int(scale), report)
            except Stopped as stopped:
                return [None, gr.skip(), html.hint(str(stopped))]
            except EnlcaError as error:
                return [None, gr.skip(), html.problem(error)]
        summary = html.hint(f"{done.n_done} done, {len(done.failures)} failed")
        failed = "".join(html.problem(EnlcaError(line)) for line in done.failures)
        return [None, gr.DownloadButton(value=str(done.file), visible=done.n_done > 0), summary + failed]

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
    settings = [page.scale, page.block, page.amplification, page.features, page.strength]
    with page.blocks:
        shown = [
            *(page.drop, page.about, page.stage, page.looking, page.slider, page.download),
            *(page.left, page.right, page.status, page.panels, page.attribution),
        ]
        for opened in (
            page.drop.upload(callbacks.open, [page.drop, page.side], shown, **QUICK),
            page.sample.click(callbacks.sample, page.side, shown, **QUICK),
        ):
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
            [page.model, page.scale, page.also, page.strength],
            [page.slider, page.download, page.status, page.left, page.right],
            show_progress_on=page.status,
        )
        for side in (page.left, page.right):
            side.input(callbacks.pair, [page.left, page.right], [page.slider, page.download], **QUICK)
        _long(
            (page.many_upscale, page.many_stop),
            (explorer, BATCH),
            callbacks.upscale_many,
            [page.many, page.many_model],
            [page.many, page.zip, page.many_status],
            show_progress_on=page.many_status,
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
