"""Connect the components of the page with the callbacks: which event calls what, in which order and queue."""

from typing import Any

import gradio as gr

from enlca.explorer.actions import ATTRIBUTING, BATCH, UPSCALING, Explorer
from enlca.explorer.callbacks import Callbacks, identity_of
from enlca.explorer.page import Page
from enlca.explorer.uploads import Uploads

# Long jobs of all visitors run one after the other; clicks wait neither for them nor for slow maps.
LONG: dict[str, Any] = {"concurrency_id": "long", "concurrency_limit": 1}
QUICK: dict[str, Any] = {"concurrency_id": "quick", "concurrency_limit": 2}
SLOW: dict[str, Any] = {"concurrency_id": "slow", "concurrency_limit": 1}
# Of the clicks during a computation only the last one counts.
LAST: dict[str, Any] = {"trigger_mode": "always_last"}
MAX_QUEUED = 200

MOVE_SQUARE = """(side) => {
  const stage = document.querySelector("#stage .stage");
  if (stage) { stage.dataset.side = side; stage.dispatchEvent(new Event("square", { bubbles: true })); }
}"""


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
        explorer.visitors.of(identity_of(request)).begin(kind)
        return [gr.Button(visible=False), gr.Button(visible=True)]

    def cancel(request: gr.Request) -> None:
        explorer.visitors.of(identity_of(request)).stop(kind)

    start.click(begin, None, list(buttons), queue=False).then(
        callback, inputs, outputs, **LONG, **settings
    ).then(lambda: [gr.Button(visible=True), gr.Button(visible=False)], None, list(buttons), queue=False)
    stop.click(cancel, None, None, queue=False)
