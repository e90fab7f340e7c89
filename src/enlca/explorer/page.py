"""The layout of the page; `wiring` connects its components with the callbacks."""

from pathlib import Path
from typing import Any

import gradio as gr

from enlca.explorer import html
from enlca.explorer.actions import BATCH_PIXELS
from enlca.explorer.maps import has_amplification
from enlca.explorer.models import Models, config_of, count_blocks
from enlca.explorer.uploads import BYTES_OF_METADATA, BYTES_OF_PIXEL, MAX_FILES
from enlca.explorer.words import questions

HERE = Path(__file__).parent
# Seconds after which files are deleted although their page is open, and seconds between two checks.
KEPT, SWEPT = 3600, 600
LARGEST_K, LARGEST_M = 20.0, 512
# Models beside the first that a picture is upscaled by in one go.
MORE = 3

WELCOME = (
    "PNG, JPEG, WebP, TIFF, AVIF, GIF, BMP or PPM, up to {:g} megapixels. It stays on the machine that "
    "serves this page, and is deleted when you close it."
)
MANY = (
    "Up to {} pictures of up to {:g} megapixels each, {:.0f} MB in one drop. The results come in one zip, "
    "and are deleted when you close the page."
)
HEADER = """<header><h1>enlca <span>explorer</span></h1>
<button type="button" aria-label="light or dark" title="light or dark">◐</button></header>"""
TOGGLE = """element.querySelector("button").addEventListener("click",
  () => document.body.classList.toggle("dark"));"""


class Page:
    """All components, from top to bottom."""

    def __init__(self, models: Models, *, max_megapixels: float):
        self.models = models
        scale, block, amplification, features = self.settings_of(models.default, None)
        self.blocks = gr.Blocks(title="enlca explorer", analytics_enabled=False, delete_cache=(SWEPT, KEPT))
        with self.blocks:
            gr.HTML(HEADER, js_on_load=TOGGLE, elem_id="top")
            with gr.Tabs():
                with gr.Tab("Look", id="look"):
                    self._start(scale, max_megapixels)
                    self._looking(block, amplification, features)
                with gr.Tab("Batch", id="batch"):
                    self._batch(max_megapixels)

    def _start(self, scale: dict[str, Any], max_megapixels: float) -> None:
        """Lay out the picture, the models, and the comparison of results."""
        with gr.Row(elem_id="start"):
            with gr.Column(scale=1, min_width=280):
                self.drop = gr.File(label="Drop a picture", elem_id="drop", height=150)
                self.sample = gr.Button("or take a sample", size="sm", elem_id="sample")
            with gr.Column(scale=1, min_width=280):
                with gr.Row():
                    self.model = gr.Dropdown(
                        self.models.names,
                        value=self.models.default,
                        label="Model",
                        elem_id="model",
                        min_width=140,
                    )
                    self.scale = gr.Radio(**scale, label="Scale", elem_id="scale", min_width=140)
                self.also = gr.Dropdown(
                    self.models.names, multiselect=True, label="Also with", elem_id="also", max_choices=MORE
                )
                self.strength = gr.Slider(
                    minimum=0,
                    maximum=1,
                    value=1,
                    step=0.05,
                    label="Strength of repair",
                    elem_id="strength",
                    visible=self.models.has_strength(self.models.default, scale["value"]),
                )
                with gr.Row():
                    self.upscale = gr.Button("Upscale", variant="primary", elem_id="upscale")
                    self.stop = gr.Button("Cancel", variant="stop", visible=False, elem_id="stop")
                    self.download = gr.DownloadButton("Download PNG", visible=False, elem_id="download")
        self.about = gr.HTML(html.hint(WELCOME.format(max_megapixels)), elem_id="about")
        self.status = gr.HTML(elem_id="status")
        with gr.Row():
            self.left = gr.Radio([], label="Left", visible=False, elem_id="left")
            self.right = gr.Radio([], label="Right", visible=False, elem_id="right")
        self.slider = gr.ImageSlider(
            label="Before | after",
            visible=False,
            interactive=False,
            buttons=["fullscreen"],
            max_height=640,
            elem_id="slider",
        )

    def _looking(
        self, block: dict[str, Any], amplification: dict[str, Any], features: dict[str, Any]
    ) -> None:
        """Lay out the maps of attention and of attribution."""
        with gr.Column(visible=False, elem_id="looking") as self.looking:
            gr.HTML("<h2>Where does it look?</h2>")
            with gr.Row():
                with gr.Column(scale=2, min_width=300, elem_id="asking"):
                    self.stage = gr.HTML(js_on_load=(HERE / "page.js").read_text("utf-8"), elem_id="stage")
                    self.block = gr.Radio(**block, label="Attention block", elem_id="block")
                    gr.HTML(questions("k", "m", "F"), elem_id="words")
                    self.amplification = gr.Slider(
                        **amplification, label="k, amplification", elem_id="k", step=0.1
                    )
                    self.features = gr.Slider(**features, label="m, random features", elem_id="m", step=1)
                    with gr.Row():
                        self.redraw = gr.Button("Redraw F", size="sm", elem_id="redraw", min_width=100)
                        self.own = gr.Button("The network's own", size="sm", elem_id="own", min_width=100)
                    self.second = gr.Dropdown(
                        [("nothing", ""), *self._known()], value="", label="Compare with", elem_id="second"
                    )
                with gr.Column(scale=3, min_width=300):
                    self.panels = gr.HTML(elem_id="panels")
            gr.HTML("<h2>What does a square depend on?</h2>")
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    self.side = gr.Slider(
                        label="Side of the square, in LR pixels",
                        elem_id="side",
                        minimum=1,
                        maximum=64,
                        value=8,
                        step=1,
                    )
                    with gr.Row():
                        self.attribute = gr.Button("Attribute", elem_id="attribute")
                        self.stop_attribution = gr.Button(
                            "Cancel", variant="stop", visible=False, elem_id="stop-attribution"
                        )
                with gr.Column(scale=3, min_width=300):
                    self.attribution = gr.HTML(elem_id="attribution")

    def _batch(self, max_megapixels: float) -> None:
        """Lay out many pictures in, one zip out."""
        largest = (BYTES_OF_METADATA + BYTES_OF_PIXEL * 1e6 * max_megapixels) / 1e6
        with gr.Row():
            self.many = gr.File(
                label="Drop pictures", file_count="multiple", elem_id="many", height=180, scale=1
            )
            with gr.Column(scale=1, min_width=280):
                known = self._known()
                default = f"{self.models.scales(self.models.default)[-1]} {self.models.default}"
                self.many_model = gr.Dropdown(known, value=default, label="Model", elem_id="many-model")
                with gr.Row():
                    self.many_upscale = gr.Button("Upscale all", variant="primary", elem_id="many-upscale")
                    self.many_stop = gr.Button("Cancel", variant="stop", visible=False, elem_id="many-stop")
                    self.zip = gr.DownloadButton("Download zip", visible=False, elem_id="zip")
        gr.HTML(html.hint(MANY.format(MAX_FILES, BATCH_PIXELS * max_megapixels, largest)))
        self.many_status = gr.HTML(elem_id="many-status")

    @property
    def choice(self) -> list[Any]:
        """The components that make an `actions.Choice`."""
        return [self.model, self.scale, self.block, self.amplification, self.features, self.second]

    def settings_of(self, name: str, scale: int | None) -> list[dict[str, Any]]:
        """Return the arguments of the components for scale, block, k and m, with the network's own values."""
        scales = self.models.scales(name)
        scale = scale if scale in scales else scales[-1]
        upscaler = self.models.load(name, scale)
        config, n_blocks = config_of(upscaler), count_blocks(upscaler)
        k, m = config.amplification, config.n_features
        return [
            {"choices": [(f"×{one}", one) for one in scales], "value": scale},
            {"choices": [(str(one + 1), one) for one in range(n_blocks)], "value": 0 if n_blocks else None},
            {
                "minimum": min(0.1, k),
                "maximum": max(LARGEST_K, k),
                "value": k,
                "interactive": has_amplification(config),
            },
            {"minimum": min(4, m), "maximum": max(LARGEST_M, m), "value": m, "interactive": n_blocks > 0},
        ]

    def _known(self) -> list[tuple[str, str]]:
        """Return all models and scales: how they are shown, and their values."""
        known = [(name, scale) for name in self.models.names for scale in self.models.scales(name)]
        return [(f"{name} ×{scale}", f"{scale} {name}") for name, scale in known]
