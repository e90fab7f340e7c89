"""The layout of the page; `callbacks` connects its components with the actions."""

from pathlib import Path
from typing import Any

import gradio as gr

from enlca.explorer import html
from enlca.explorer.maps import has_amplification
from enlca.explorer.session import Models, config_of, count_blocks

HERE = Path(__file__).parent
# Seconds after which files are deleted although their page is open, and seconds between two checks.
KEPT, SWEPT = 3600, 600
LARGEST_K, LARGEST_M = 20.0, 512

WELCOME = (
    "PNG, JPEG, WebP, TIFF, AVIF, GIF, BMP or PPM, up to {:g} megapixels. It stays on the machine that "
    "serves this page, and is deleted when you close it."
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
            with gr.Row(elem_id="start"):
                self.drop = gr.File(label="Drop a picture", elem_id="drop", height=150, scale=1)
                with gr.Column(scale=1, min_width=280):
                    with gr.Row():
                        self.model = gr.Dropdown(
                            models.names, value=models.default, label="Model", elem_id="model", min_width=140
                        )
                        self.scale = gr.Radio(**scale, label="Scale", elem_id="scale", min_width=140)
                    with gr.Row():
                        self.upscale = gr.Button("Upscale", variant="primary", elem_id="upscale")
                        self.stop = gr.Button("Cancel", variant="stop", visible=False, elem_id="stop")
                        self.download = gr.DownloadButton("Download PNG", visible=False, elem_id="download")
            self.about = gr.HTML(html.hint(WELCOME.format(max_megapixels)), elem_id="about")
            self.status = gr.HTML(elem_id="status")
            self.slider = gr.ImageSlider(
                label="Bicubic | upscaled",
                visible=False,
                interactive=False,
                buttons=["fullscreen"],
                max_height=640,
                elem_id="slider",
            )
            with gr.Column(visible=False, elem_id="looking") as self.looking:
                gr.HTML("<h2>Where does it look?</h2>")
                with gr.Row():
                    with gr.Column(scale=2, min_width=300, elem_id="asking"):
                        self.stage = gr.HTML(
                            js_on_load=(HERE / "page.js").read_text("utf-8"), elem_id="stage"
                        )
                        self.block = gr.Radio(**block, label="Attention block", elem_id="block")
                        self.amplification = gr.Slider(
                            **amplification, label="k, amplification", elem_id="k", step=0.1
                        )
                        self.features = gr.Slider(**features, label="m, random features", elem_id="m", step=1)
                        with gr.Row():
                            self.redraw = gr.Button("Redraw F", size="sm", elem_id="redraw", min_width=100)
                            self.own = gr.Button("The network's own", size="sm", elem_id="own", min_width=100)
                        self.second = gr.Dropdown(
                            self._comparable(), value="", label="Compare with", elem_id="second"
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

    def _comparable(self) -> list[tuple[str, str]]:
        known = [(name, scale) for name in self.models.names for scale in self.models.scales(name)]
        return [("nothing", ""), *((f"{name} ×{scale}", f"{scale} {name}") for name, scale in known)]
