"""Ringing at the edges of text and line drawings, as a number and as a strip of pictures.

A halo is by how many levels the paper of SR is brighter than paper; darker, where ink and paper are
exchanged. Both are greys, so that nothing is clipped. Strokes that are darker than ink are no halo.

Letters:  H, W height and width of HR
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from experiments.contenders import CLEAN, CONDITIONS, Contender, degraded
from experiments.panels import grid
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from enlca.metrics import luma

# Of a chart, and how many times larger it is drawn, for smooth edges.
SIDE, FINER = 320, 4
INK, PAPER = 40, 215
# What LR went through, and the part of each chart that is shown.
SHOWN, CROP = (CLEAN, "JPEG 50"), 160
# Of the lines of text, in pixels.
SIZES = (44, 36, 28, 22, 22, 28, 36, 44)
WORDS = "The quick brown fox jumps over the lazy dog. 0123456789"


class Halo(NamedTuple):
    """Halos of a method on a chart, in levels of luma: their mean, and what one pixel in 100 exceeds."""

    chart: str
    condition: str
    model: str
    mean: float
    strong: float


def halo(sr: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    """Return by how many levels the luma of an upscaled chart is beyond its paper, away from ink."""
    ink, paper = luma(np.array([[[INK] * 3, [PAPER] * 3]], dtype=np.uint8))[0]
    half, made = len(sr) // 2, luma(sr)
    return np.concatenate([np.maximum(made[:half] - paper, 0), np.maximum(ink - made[half:], 0)])


def text(draw: ImageDraw.ImageDraw, ink: int) -> None:
    """Lines of text."""
    top = 4
    for size in SIZES:
        draw.text((6 * FINER, top * FINER), WORDS, fill=ink, font=ImageFont.load_default(size * FINER))
        top += round(1.25 * size)


def lines(draw: ImageDraw.ImageDraw, ink: int) -> None:
    """Spokes, rings and hatching, 2 to 10 pixels wide."""
    middle = SIDE * FINER / 2
    for spoke in range(16):
        angle, width = np.pi * spoke / 16, (2 + 2 * (spoke % 5)) * FINER
        away = 0.48 * SIDE * FINER * np.array([np.cos(angle), np.sin(angle)])
        draw.line([*(middle - away), *(middle + away)], fill=ink, width=width)
    for ring in range(1, 6):
        draw.circle((middle, middle), ring * SIDE * FINER / 11, outline=ink, width=2 * ring * FINER)
    for step in range(8):
        side = 14 * step * FINER
        draw.line([0, side, side, 0], fill=ink, width=2 * FINER + step * FINER // 2)


CHARTS: dict[str, Callable[[ImageDraw.ImageDraw, int], None]] = {"text": text, "line drawing": lines}


def chart(name: str) -> UInt8[np.ndarray, "H W 3"]:
    """Return a chart; below its middle ink and paper are exchanged."""
    large = (SIDE * FINER, SIDE * FINER)
    sides = []
    for ink, paper in ((INK, PAPER), (PAPER, INK)):
        image = Image.new("L", large, paper)
        CHARTS[name](ImageDraw.Draw(image), ink)
        sides.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)))
    half = SIDE // 2
    grey = np.concatenate([sides[0][:half], sides[1][half:]])
    return np.repeat(grey[..., None], 3, axis=2)


def measured(them: Sequence[Contender]) -> tuple[list[Halo], Image.Image]:
    """Return the halos of every method on every chart, and a strip of crops: LR ways below each other."""
    found, panels = [], []
    for name in CHARTS:
        hr = chart(name)
        top, left = SIDE // 2 - CROP // 2, SIDE // 2 - CROP // 2
        part = (slice(top, top + CROP), slice(left, left + CROP))
        for condition in SHOWN:
            lr = degraded(hr, name, CONDITIONS[condition], scale=them[0].scale)
            for who in them:
                sr = who.upscale(lr)
                beyond = halo(sr)
                strong = float(np.quantile(beyond, 0.99))
                found.append(Halo(name, condition, who.name, float(beyond.mean()), strong))
                panels.append((f"{who.name}, {condition}", sr[part]))
            panels.append(("original", hr[part]))
    return found, grid(panels, columns=len(them) + 1)
