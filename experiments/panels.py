"""Sheets of pictures beside each other, pixel by pixel, each below its title."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

# Pixels between panels, and of a line of text.
GAP, TITLE = 6, 18


def grid(
    panels: Sequence[tuple[str, UInt8[np.ndarray, "_ _ 3"]]], *, columns: int, zoom: int = 1
) -> Image.Image:
    """Return panels of one size in rows of `columns`, each pixel drawn `zoom` times as large."""
    tallest, widest = (max(pixels.shape[axis] for _, pixels in panels) for axis in (0, 1))
    width, height = zoom * widest + GAP, zoom * tallest + TITLE + GAP
    sheet = Image.new(
        "RGB", (min(columns, len(panels)) * width, -(-len(panels) // columns) * height), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (title, pixels) in enumerate(panels):
        x, y = number % columns * width + GAP // 2, number // columns * height + GAP // 2
        draw.text((x, y), title, fill="black", font=font)
        size = (zoom * pixels.shape[1], zoom * pixels.shape[0])
        sheet.paste(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST), (x, y + TITLE))
    return sheet
