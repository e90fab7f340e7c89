"""Gradio's callbacks: values of components into the arguments of actions, and results into values."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gradio as gr

from enlca.errors import EnlcaError, NothingOpen, Stopped
from enlca.explorer import html
from enlca.explorer.actions import BICUBIC, Choice, Explorer, Report
from enlca.explorer.models import config_of
from enlca.explorer.page import Page
from enlca.explorer.session import OpenPicture
from enlca.explorer.uploads import Uploads

PROGRESS = gr.Progress()


class Callbacks:
    """What the components of the page call; the request identifies the visitor."""

    def __init__(self, page: Page, explorer: Explorer, uploads: Uploads):
        self.page = page
        self.explorer = explorer
        self.uploads = uploads

    def open(self, request: gr.Request, path: str | None, side: int | float) -> list[Any]:
        """Show a picture that was dropped, and clear the results of the last one."""
        try:
            # Gradio passes a subclass of str, which is not a key of the uploads.
            with self.uploads.claimed(path and str(path)) as file:
                opened = self.explorer.open(identity_of(request), file)
        except EnlcaError as error:
            return [None, html.problem(error), *[gr.skip()] * 9]
        return self._opened(opened, side)

    def sample(self, request: gr.Request, side: int | float) -> list[Any]:
        """Show the picture that comes with the page."""
        return self._opened(self.explorer.open_sample(identity_of(request)), side)

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
        self.explorer.visitors.of(identity_of(request)).redraw += 1
        return self._maps(request, choice)

    def _maps(self, request: gr.Request, choice: Sequence[Any], point: tuple[int, int] | None = None) -> str:
        try:
            return self.explorer.quick_maps(identity_of(request), self._choice(*choice), point=point)
        except EnlcaError as error:
            return html.problem(error)

    def all_maps(self, request: gr.Request, *choice: Any) -> Any:
        """Return all maps; nothing changes if the visitor has asked for others meanwhile."""
        try:
            panels = self.explorer.all_maps(identity_of(request), self._choice(*choice))
        except EnlcaError as error:
            return html.problem(error)
        return gr.skip() if panels is None else panels

    def settings(self, request: gr.Request, model: str, scale: int) -> list[Any]:
        """Return scales and blocks of a network, its own k, m and F, and whether it has a strength."""
        self.explorer.visitors.of(identity_of(request)).redraw = 0
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
            identity = identity_of(request)
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
            before, after, file = self.explorer.pair(identity_of(request), left, right)
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
                done = self.explorer.upscale_many(identity_of(request), files, name, int(scale), report)
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
                identity_of(request), self._choice(*choice), int(side), _reporter(progress)
            )
        except Stopped as stopped:
            return html.hint(str(stopped))
        except EnlcaError as error:
            return html.problem(error)

    def leave(self, request: gr.Request) -> None:
        """Delete the visitor's data when the page is closed."""
        self.explorer.visitors.forget(identity_of(request))

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


def _reporter(progress: gr.Progress) -> Report:
    return lambda share, text: progress(share, desc=text)


def identity_of(request: gr.Request) -> str:
    """Return the identity of an open page. Raises NothingOpen: the request has none."""
    if not request.session_hash:
        raise NothingOpen("This request does not come from a page.")
    return request.session_hash
