"""The nodes, for version 0.0.2 of ComfyUI's API ("V3 schema"). Importable inside ComfyUI only.

A batch is upscaled one image after the other, each whole if that fits into memory and otherwise streamed,
with the same result; so a large batch of large images needs no more memory than one image and the result.

Letters:  B batch   H, W height and width   C channels: red, green, blue, then alpha if there is any   S scale
"""

from typing import Any

import comfy.model_management  # pyright: ignore[reportMissingImports]
import folder_paths  # pyright: ignore[reportMissingImports]
import torch
from comfy_api.v0_0_2 import ComfyAPISync, ComfyExtension, io  # pyright: ignore[reportMissingImports]
from jaxtyping import Float
from torch import Tensor

from enlca.checkpoint.store import bundled
from enlca.inference.upscaler import Upscaler

# The folder of ComfyUI that its own nodes take upscaling models from.
FOLDER = "upscale_models"
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
CATEGORY = "image/upscaling/enlca"
UpscalerType = io.Custom("ENLCA_UPSCALER")


class LoadModel(io.ComfyNode):
    """Load bundled weights, or a file of any kind that enlca knows from ComfyUI's `upscale_models`."""

    @classmethod
    def define_schema(cls) -> Any:
        """Describe the node; ComfyUI asks again whenever files may have been added."""
        names = [f"{item.name} x{item.scale}" for item in bundled()]
        return io.Schema(
            node_id="EnlcaLoadModel",
            display_name="Load enlca model",
            category=CATEGORY,
            description="Bundled weights, or a file in models/upscale_models of any kind that enlca knows.",
            inputs=[
                io.Combo.Input("model", options=[*names, *folder_paths.get_filename_list(FOLDER)]),
                io.Combo.Input(
                    "precision",
                    options=[*PRECISIONS],
                    default="auto",
                    tooltip="auto: bfloat16 where the processor is faster with it, else float32",
                ),
            ],
            outputs=[UpscalerType.Output(display_name="upscaler")],
        )

    @classmethod
    def execute(cls, model: str, precision: str) -> Any:
        """Return an `Upscaler` on ComfyUI's device. Raises CheckpointError, DeviceError, MissingExtra."""
        paths = {f"{item.name} x{item.scale}": item.path for item in bundled()}
        path = paths.get(model) or folder_paths.get_full_path_or_raise(FOLDER, model)
        device = str(comfy.model_management.get_torch_device())
        return io.NodeOutput(Upscaler(path, device=device, precision=precision))


class Upscale(io.ComfyNode):
    """Upscale a batch of images; alpha is kept."""

    @classmethod
    def define_schema(cls) -> Any:
        """Describe the node."""
        return io.Schema(
            node_id="EnlcaUpscale",
            display_name="Upscale with enlca",
            category=CATEGORY,
            description="Any size: an image that does not fit into memory is streamed, with the same result.",
            inputs=[UpscalerType.Input("upscaler"), io.Image.Input("image")],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, upscaler: Upscaler, image: Float[Tensor, "B H W C"]) -> Any:
        """Return the images `B SH SW C`, in float32 on the processor.

        Raises:
            InterruptProcessingException: ComfyUI's, when the user cancels.
            TooLarge, NotFinite, StoreError: see `Upscaler.rows`.
            ValueError: an image that is not finite.
        """
        n, height, width, channels = image.shape
        # The loader's factors are those of networks.
        scale = upscaler.network.scale
        larger = torch.empty(n, scale * height, scale * width, channels)
        api = ComfyAPISync()
        for number in range(n):

            def show(what: str, done: int | float, total: int | float, number: int = number) -> None:
                comfy.model_management.throw_exception_if_processing_interrupted()
                api.execution.set_progress(value=number * total + done, max_value=n * total)

            # Sampling overshoots a little, and files are clipped by ComfyUI, too.
            picture = image[number].float().clamp(0, 1).cpu().numpy()
            top = 0
            for band in upscaler.bands(picture, progress=show):
                comfy.model_management.throw_exception_if_processing_interrupted()
                larger[number, top : top + len(band)] = torch.from_numpy(band)
                top += len(band)
        return io.NodeOutput(larger)


class EnlcaExtension(ComfyExtension):
    """What ComfyUI takes from this package."""

    async def get_node_list(self) -> list[type]:
        """Return the nodes."""
        return [LoadModel, Upscale]
