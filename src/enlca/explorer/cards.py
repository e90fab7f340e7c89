"""What the page shows beside Gradio's own components: the picture to click on, maps, numbers, a legend.

Nothing here is interactive by itself; `page.js` places marks and hears clicks.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from html import escape

import numpy as np
import torch

from enlca.analysis.attribution import Attribution
from enlca.analysis.correlation import Sparsity
from enlca.explorer import maps
from enlca.explorer.enlarging import shown
from enlca.explorer.looking import Map
from enlca.explorer.session import Opened
from enlca.image.resize import imresize

# Longest side of the picture to click on, and the narrowest shape that is shown as it is.
LONGEST = 1024
SLIMMEST = 6.0


def stage(opened: Opened, *, side: int) -> str:
    """The picture, to be clicked on; `side` is that of the square around the point."""
    width, height = opened.picture.size
    facts = {"width": width, "height": height, "row": height // 2, "column": width // 2, "side": side}
    data = " ".join(f'data-{name}="{value}"' for name, value in facts.items())
    label = f"{escape(opened.name)}: click a pixel, or move with the arrow keys"
    return (
        f'<div class="stage" tabindex="0" role="application" aria-label="{label}" {data} '
        f'style="{_shape(width, height)}">'
        f'<img src="{_preview(opened)}" alt="{escape(opened.name)}" draggable="false">'
        '<i class="square"></i><i class="dot"></i></div>'
    )


def _shape(width: int, height: int) -> str:
    shape = min(max(width / height, 1 / SLIMMEST), SLIMMEST)
    return f"aspect-ratio: {shape:.4f}; --shape: {shape:.4f}"


def _preview(opened: Opened) -> str:
    """The picture as a PNG that a browser shows, not larger than need be."""
    from PIL import Image

    picture = shown(opened.picture)
    pixels = picture.pixels
    longest = max(picture.size)
    if longest > LONGEST:
        pixels = imresize(pixels, Fraction(LONGEST, longest))
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))
    return maps.data_uri(maps.encoded(image, icc_profile=picture.icc))


def about(opened: Opened) -> str:
    """Name, size and kind, and what reading it changed."""
    picture = opened.picture
    width, height = picture.size
    kind = "grey" if picture.pixels.shape[2] == 1 else "RGB"
    kind += " with transparency" if picture.alpha is not None else ""
    facts = f"{width} × {height}, {kind}, {picture.bits} bits"
    remarks = "".join(f"<br>{escape(remark)}" for remark in picture.remarks)
    return f'<p class="about"><b>{escape(opened.name)}</b> {facts}{remarks}</p>'


def panel(title: str, found: Iterable[Map], row: int, column: int) -> str:
    """The maps of one network, side by side."""
    cards = side_by_side(_card(one, row, column) for one in found)
    return f'<section class="panel"><h3>{escape(title)}</h3>{cards}</section>'


def side_by_side(figures: Iterable[str]) -> str:
    """Figures in as many columns as there is room for."""
    return f'<div class="cards">{"".join(figures)}</div>'


def _card(found: Map, row: int, column: int) -> str:
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
    """A map with its name and numbers; `mark` is the row and column of the point."""
    height, width = size
    dot = ""
    if mark is not None:
        top, left = 100 * (mark[0] + 0.5) / height, 100 * (mark[1] + 0.5) / width
        dot = f'<i class="dot" style="top: {top:.3f}%; left: {left:.3f}%"></i>'
    rows = "".join(f"<dt>{escape(term)}</dt><dd>{escape(value)}</dd>" for term, value in numbers.items())
    return (
        '<figure><div class="frame">'
        f'<div class="map" style="{_shape(width, height)}">'
        f'<img src="{uri}" alt="{escape(name)}">{dot}</div></div>'
        f"<figcaption><b>{escape(name)}</b><small>{escape(about)}</small><dl>{rows}</dl></figcaption></figure>"
    )


def attribution(title: str, found: Attribution, row: int, column: int) -> str:
    """A local attribution map."""
    weights = found.absolute.detach().cpu()
    weights = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    uri = maps.data_uri(maps.png(weights))
    numbers = {
        "diffusion index": f"{found.diffusion_index:.1f}",
        "incomplete by": f"{found.completeness:.1%}",
        "steps": f"{found.steps}",
    }
    return figure(title, "what the square rests on", uri, weights.shape, numbers, mark=(row, column))


def hint(text: str) -> str:
    """A sentence in the place of what is not there."""
    return f'<p class="hint">{escape(text)}</p>'


def problem(error: Exception) -> str:
    """What went wrong."""
    return f'<p class="hint problem" role="alert">{escape(str(error))}</p>'


def legend(point: str) -> str:
    """What the colours mean, and which point it is."""
    ticks = "".join(
        f"<span>{text}</span>" for text in (f"1/{maps.REACH}", "1/10", "1", "10", f"{maps.REACH}")
    )
    return (
        f'<div class="legend"><div class="bar" style="background: {maps.gradient()}"></div>'
        f'<div class="ticks">{ticks}</div><small>times the average weight, for {escape(point)}</small></div>'
    )
