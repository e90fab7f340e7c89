"""What happens when something on the page is used: actions, their order, and who waits for whom."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from enlca.errors import EnlcaError, Stopped
from enlca.explorer import cards
from enlca.explorer.actions import ATTRIBUTING, ENLARGING, Choice, Explorer, Report
from enlca.explorer.models import sr_network
from enlca.explorer.page import Page
from enlca.explorer.uploads import Uploads

# What takes long goes one after the other, whoever wants it; clicks do not wait for it, nor for slow maps.
LONG: dict[str, Any] = {"concurrency_id": "long", "concurrency_limit": 1}
QUICK: dict[str, Any] = {"concurrency_id": "quick", "concurrency_limit": 2}
SLOW: dict[str, Any] = {"concurrency_id": "slow", "concurrency_limit": 1}
PROGRESS = gr.Progress()
# While a visitor waits for an answer, only the last of further clicks counts.
LAST: dict[str, Any] = {"trigger_mode": "always_last"}
MOST_WAITING = 200

MOVE_SQUARE = """(side) => {
  const stage = document.querySelector("#stage .stage");
  if (stage) { stage.dataset.side = side; stage.dispatchEvent(new Event("square", { bubbles: true })); }
}"""


class Answers:
    """From what Gradio hands over to what it takes back; the visitor's identity comes with the request."""

    def __init__(self, page: Page, explorer: Explorer, uploads: Uploads):
        self.page = page
        self.explorer = explorer
        self.uploads = uploads

    def open(self, request: gr.Request, path: str | None, side: int | float) -> list[Any]:
        """Show a picture that was dropped; what was there of the last one goes."""
        try:
            # Gradio's own kind of string counts as what it says.
            with self.uploads.claimed(path and str(path)) as file:
                opened = self.explorer.open(_identity(request), file)
        except EnlcaError as error:
            return [None, cards.problem(error), *[gr.skip()] * 7]
        return [
            None,
            cards.about(opened),
            cards.stage(opened, side=int(side)),
            gr.Column(visible=True),
            gr.ImageSlider(value=None, visible=False),
            gr.DownloadButton(value=None, visible=False),
            *("", "", ""),
        ]

    def point(self, request: gr.Request, event: gr.EventData, *choice: Any) -> str:
        """The quick maps of the pixel that was clicked on."""
        return self._maps(request, choice, point=(int(event.row), int(event.column)))

    def look(self, request: gr.Request, *choice: Any) -> str:
        """The quick maps of the pixel that was clicked on before."""
        return self._maps(request, choice)

    def redraw(self, request: gr.Request, *choice: Any) -> str:
        """The quick maps with another F."""
        self.explorer.visitors.of(_identity(request)).redraw += 1
        return self._maps(request, choice)

    def _maps(self, request: gr.Request, choice: Sequence[Any], point: tuple[int, int] | None = None) -> str:
        try:
            return self.explorer.look(_identity(request), self._choice(*choice), point=point)
        except EnlcaError as error:
            return cards.problem(error)

    def complete(self, request: gr.Request, *choice: Any) -> Any:
        """All maps; what is shown stays if it is something else by now."""
        try:
            panels = self.explorer.complete(_identity(request), self._choice(*choice))
        except EnlcaError as error:
            return cards.problem(error)
        return gr.skip() if panels is None else panels

    def settings(self, request: gr.Request, model: str, scale: int) -> list[Any]:
        """Scales, blocks and the network's own k, m and F."""
        self.explorer.visitors.of(_identity(request)).redraw = 0
        looks = self.page.settings_of(model, scale)
        kinds = (gr.Radio, gr.Radio, gr.Slider, gr.Slider)
        return [kind(**look) for kind, look in zip(kinds, looks, strict=True)]

    def enlarge(
        self, request: gr.Request, model: str, scale: int, progress: gr.Progress = PROGRESS
    ) -> list[Any]:
        """Both pictures side by side, the file, and what is to be said."""
        try:
            done = self.explorer.enlarge(_identity(request), model, scale, _told(progress))
        except Stopped as stopped:
            return [gr.skip(), gr.skip(), cards.hint(str(stopped))]
        except EnlcaError as error:
            return [gr.skip(), gr.skip(), cards.problem(error)]
        width, height = done.size
        text = "; ".join((f"{model} ×{scale}: {width} × {height}", *done.remarks))
        return [
            gr.ImageSlider(value=(str(done.before), str(done.after)), visible=True),
            gr.DownloadButton(value=str(done.file), visible=True),
            cards.hint(text),
        ]

    def attribute(
        self, request: gr.Request, side: int | float, progress: gr.Progress = PROGRESS, *choice: Any
    ) -> str:
        """What the square rests on."""
        try:
            return self.explorer.attribute(
                _identity(request), self._choice(*choice), int(side), _told(progress)
            )
        except Stopped as stopped:
            return cards.hint(str(stopped))
        except EnlcaError as error:
            return cards.problem(error)

    def leave(self, request: gr.Request) -> None:
        """The page was closed."""
        self.explorer.visitors.forget(_identity(request))

    def _choice(
        self, model: str, scale: int, block: int | None, k: int | float, m: int | float, second: str
    ) -> Choice:
        """What is chosen; k and m only where they are not the network's own."""
        own = sr_network(self.explorer.models.load(model, scale)).config
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
    """Tell each component what it does."""
    answers = Answers(page, explorer, uploads)
    look: dict[str, Any] = {"fn": answers.look, "inputs": page.choice, "outputs": page.panels, **QUICK}
    complete = {**look, "fn": answers.complete, **SLOW, **LAST, "show_progress": "hidden"}
    settings = [page.scale, page.block, page.amplification, page.features]
    with page.blocks:
        opened = page.drop.upload(
            answers.open,
            [page.drop, page.side],
            [
                *(page.drop, page.about, page.stage, page.looking, page.slider, page.download),
                *(page.status, page.panels, page.attribution),
            ],
            **QUICK,
        )
        opened.success(**look).success(**complete)
        gr.on(
            [page.model.input, page.scale.input, page.own.click],
            answers.settings,
            [page.model, page.scale],
            settings,
            queue=False,
        ).success(**look).success(**complete)
        page.stage.select(answers.point, page.choice, page.panels, **QUICK, **LAST).success(**complete)
        for component in (page.block, page.amplification, page.features, page.second):
            component.input(**look, **LAST).success(**complete)
        page.redraw.click(answers.redraw, page.choice, page.panels, **QUICK, **LAST).success(**complete)
        page.side.input(None, page.side, None, js=MOVE_SQUARE)
        _long(
            (page.enlarge, page.stop),
            (explorer, ENLARGING),
            answers.enlarge,
            [page.model, page.scale],
            [page.slider, page.download, page.status],
            show_progress_on=page.status,
        )
        _long(
            (page.attribute, page.stop_attribution),
            (explorer, ATTRIBUTING),
            answers.attribute,
            [page.side, *page.choice],
            [page.attribution],
        )
        page.blocks.unload(answers.leave)
    page.blocks.queue(max_size=MOST_WAITING)


def _long(
    buttons: tuple[gr.Button, gr.Button],
    what: tuple[Explorer, str],
    answer: Any,
    inputs: list[Any],
    outputs: list[Any],
    **settings: Any,
) -> None:
    """Something that takes long: its button gives way to Cancel until it has ended, however it does."""
    (start, stop), (explorer, kind) = buttons, what

    def begin(request: gr.Request) -> list[gr.Button]:
        explorer.visitors.of(_identity(request)).begin(kind)
        return [gr.Button(visible=False), gr.Button(visible=True)]

    def cancel(request: gr.Request) -> None:
        explorer.visitors.of(_identity(request)).stop(kind)

    start.click(begin, None, list(buttons), queue=False).then(
        answer, inputs, outputs, **LONG, **settings
    ).then(lambda: [gr.Button(visible=True), gr.Button(visible=False)], None, list(buttons), queue=False)
    stop.click(cancel, None, None, queue=False)


def _told(progress: gr.Progress) -> Report:
    return lambda share, text: progress(share, desc=text)


def _identity(request: gr.Request) -> str:
    """One for each open page. Raises NothingOpen: it says none, and must not share another's."""
    if not request.session_hash:
        raise NothingOpen("This question comes from no page.")
    return request.session_hash
