"""HTML beside Gradio's own components: the picture to click on, maps, numbers, a legend.

Nothing here is interactive by itself; `page.js` places marks and handles clicks.

Letters:  H, W height and width   L layers: channels, then alpha
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from html import escape

import numpy as np
import torch
from jaxtyping import UInt8

from enlca.analysis.attribution import Attribution
from enlca.analysis.correlation import Sparsity
from enlca.explorer import maps
from enlca.explorer.maps import AttentionMap
from enlca.explorer.session import OpenPicture
from enlca.explorer.words import MEANINGS, question
from enlca.image.picture import Picture
from enlca.image.resize import imresize
from enlca.image.rows import to_8_bits

# Longest side of the picture to click on, in pixels, and the most extreme aspect ratio that is kept.
LONGEST = 1024
MOST_EXTREME = 6.0


def flatten(picture: Picture) -> Picture:
    """Convert a picture to 8 bits and draw it over white where it is transparent."""
    pixels = to_8_bits(picture.pixels)
    if picture.alpha is None:
        return Picture(pixels, icc=picture.icc)
    alpha = to_8_bits(picture.alpha)[:, :, None].astype(np.uint32)
    flat: UInt8[np.ndarray, "H W L"] = ((pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return Picture(flat, icc=picture.icc)


def stage(picture: OpenPicture, *, side: int) -> str:
    """Return the picture to click on; `side` is that of the square around the point, in LR pixels."""
    width, height = picture.picture.size
    facts = {"width": width, "height": height, "row": height // 2, "column": width // 2, "side": side}
    data = " ".join(f'data-{name}="{value}"' for name, value in facts.items())
    label = f"{escape(picture.name)}: click a pixel, or move with the arrow keys"
    return (
        f'<div class="stage" tabindex="0" role="application" aria-label="{label}" {data} '
        f'style="{_shape(width, height)}">'
        f'<img src="{_preview(picture)}" alt="{escape(picture.name)}" draggable="false">'
        '<i class="square"></i><i class="dot"></i></div>'
    )


def _shape(width: int, height: int) -> str:
    shape = min(max(width / height, 1 / MOST_EXTREME), MOST_EXTREME)
    return f"aspect-ratio: {shape:.4f}; --shape: {shape:.4f}"


def _preview(picture: OpenPicture) -> str:
    """Return the address of the picture as a PNG in 8 bits, reduced to LONGEST."""
    from PIL import Image

    flat = flatten(picture.picture)
    pixels, longest = flat.pixels, max(flat.size)
    if longest > LONGEST:
        pixels = imresize(pixels, Fraction(LONGEST, longest))
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))
    return maps.data_uri(maps.encode_png(image, icc_profile=flat.icc))


def about(picture: OpenPicture) -> str:
    """Describe a picture: name, size, kind, and the remarks of reading it."""
    content = picture.picture
    width, height = content.size
    kind = "grey" if content.pixels.shape[2] == 1 else "RGB"
    kind += " with transparency" if content.alpha is not None else ""
    facts = f"{width} × {height}, {kind}, {content.bits} bits"
    remarks = "".join(f"<br>{escape(remark)}" for remark in content.remarks)
    return f'<p class="about"><b>{escape(picture.name)}</b> {facts}{remarks}</p>'


def panel(title: str, found: Iterable[AttentionMap], row: int, column: int) -> str:
    """Return the maps of one network, side by side."""
    cards = side_by_side(_card(one, row, column) for one in found)
    return f'<section class="panel"><h3>{escape(title)}</h3>{cards}</section>'


def side_by_side(figures: Iterable[str]) -> str:
    """Arrange figures in as many columns as fit."""
    return f'<div class="cards">{"".join(figures)}</div>'


def _card(found: AttentionMap, row: int, column: int) -> str:
    if found.sparsity is None:
        numbers = {"spread / weight": f"{float(found.weights.sum()):.0%}"}
    else:
        numbers = _numbers(found.sparsity)
    uri = maps.data_uri(maps.png(found.weights))
    return figure(found.name, found.about, uri, found.weights.shape, numbers, mark=(row, column))


def _numbers(sparsity: Sparsity) -> dict[str, str]:
    return {
        "entropy": f"{sparsity.entropy:.1f} bits",
        "top 1 % holds": f"{sparsity.top_share:.1%}",
        "effective N": f"{sparsity.effective:,.0f}".replace(",", "\u202f"),
    }


def figure(
    name: str,
    about: str,
    uri: str,
    size: Sequence[int],
    numbers: dict[str, str],
    *,
    mark: tuple[int, int] | None = None,
) -> str:
    """Return a map with its name and numbers; `mark` is the row and column of the point."""
    height, width = size
    dot = ""
    if mark is not None:
        top, left = 100 * (mark[0] + 0.5) / height, 100 * (mark[1] + 0.5) / width
        dot = f'<i class="dot" style="top: {top:.3f}%; left: {left:.3f}%"></i>'
    rows = "".join(
        f"<dt>{escape(term)}{_asked(term)}</dt><dd>{escape(value)}</dd>" for term, value in numbers.items()
    )
    return (
        '<figure><div class="frame">'
        f'<div class="map" style="{_shape(width, height)}">'
        f'<img src="{uri}" alt="{escape(name)}">{dot}</div></div>'
        f"<figcaption><b>{escape(name)}{_asked(name.removesuffix(maps.APPLIED))}</b><small>{escape(about)}</small><dl>{rows}</dl></figcaption></figure>"
    )


def _asked(word: str) -> str:
    """Return the question mark of a word that has a meaning on the page."""
    return question(word) if word in MEANINGS else ""


def attribution(title: str, found: Attribution, row: int, column: int) -> str:
    """Return the figure of a local attribution map."""
    weights = found.absolute.detach().cpu()
    weights = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    uri = maps.data_uri(maps.png(weights))
    numbers = {
        "diffusion index": f"{found.diffusion_index:.1f}",
        "incomplete by": f"{found.completeness:.1%}",
        "steps": f"{found.steps}",
    }
    return figure(title, "what the square depends on", uri, weights.shape, numbers, mark=(row, column))


def hint(text: str) -> str:
    """Return a plain sentence."""
    return f'<p class="hint">{escape(text)}</p>'


def problem(error: Exception) -> str:
    """Return the message of an error."""
    return f'<p class="hint problem" role="alert">{escape(str(error))}</p>'


def legend(point: str) -> str:
    """Return the colour scale; `point` says which point it is for."""
    ticks = "".join(
        f"<span>{text}</span>" for text in (f"1/{maps.REACH}", "1/10", "1", "10", f"{maps.REACH}")
    )
    return (
        f'<div class="legend"><div class="bar" style="background: {maps.gradient()}"></div>'
        f'<div class="ticks">{ticks}</div><small>times the average weight, for {escape(point)}</small></div>'
    )
