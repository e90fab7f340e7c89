"""A comparison as one HTML file: table, scatter plots, crops, every image's scores."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from enlca.evaluation.compare import METRICS, Comparison, Difference, gap
from enlca.evaluation.crops import Row
from enlca.evaluation.report import ImageScore
from enlca.evaluation.scatter import COLOURS, Point, scatter

# How many screen pixels show a pixel of a crop, and the longest side of the whole image beside them.
ZOOM = 3
OVERVIEW = 240
STYLE = Path(__file__).with_name("page.css")


def page(comparison: Comparison, crops: Sequence[Row], *, made_by: str) -> str:
    """Return the HTML document; `made_by` names program, version and date at its end."""
    names, datasets = comparison.names, comparison.datasets
    scale = comparison.reports[0].protocol.scale
    title = f"{' · '.join(names)} on {', '.join(datasets)}, x{scale}"
    gaps = comparison.differences()
    body = [
        f"<h1>{escape(title)}</h1>",
        _table(comparison, gaps),
        f"<p>Differences are to <b>{escape(names[0])}</b>, image by image; positive ones are in favour of the"
        " other method. In brackets: the 95 % confidence interval of their mean (Student's t over the images"
        " of a data set). A method is called better or worse where its interval of PSNR excludes zero; of"
        " twenty such intervals one excludes it by chance where there is no difference. What another training"
        " run would give is not in them.</p>",
        *(
            _plot(comparison, number, gaps) + _crops(names, [row for row in crops if row.model == name])
            for number, name in enumerate(names[1:], start=1)
        ),
        _every_image(comparison),
        _protocols(comparison),
        f"<p><small>{escape(made_by)}</small></p>",
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE.read_text()}</style>"
    )
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(body)}</body></html>\n"


def _table(comparison: Comparison, gaps: Sequence[Difference]) -> str:
    heads = (
        "data set",
        "method",
        "images",
        "PSNR-Y, dB",
        "SSIM-Y",
        "PSNR difference",
        "SSIM difference",
        "better in",
    )
    lines = [_cells(heads, "th")]
    found = {(one.dataset, one.model): one for one in gaps}
    for dataset in comparison.datasets:
        for report, name in zip(comparison.reports, comparison.names, strict=True):
            mean, one = report.datasets()[dataset], found.get((dataset, name))
            cells = [dataset, name, str(mean["n"]), f"{mean['psnr_y']:.3f}", f"{mean['ssim_y']:.4f}"]
            if one is None:
                lines.append(_cells([*cells, "", "", ""]))
                continue
            ssim = f"{one.ssim_y.mean:+.4f} [{one.ssim_y.low:+.4f}, {one.ssim_y.high:+.4f}]"
            cells += [f"{one.psnr_y} {one.verdict}", ssim, f"{one.better} of {one.n}"]
            lines.append(_cells(cells, kind=one.verdict if one.psnr_y.decided else ""))
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _plot(comparison: Comparison, number: int, gaps: Sequence[Difference]) -> str:
    datasets, (reference, name) = comparison.datasets, (comparison.names[0], comparison.names[number])
    points = [
        Point(base.psnr_y, gap(base, row), f"{row.dataset}/{row.image}", datasets.index(row.dataset))
        for base, row in comparison.pairs(comparison.reports[number])
    ]
    bands = [(datasets.index(one.dataset), one.psnr_y) for one in gaps if one.model == name]
    drawn = scatter(
        points, bands, x_label=f"PSNR-Y of {reference}, dB", y_label=f"{name} minus {reference}, dB"
    )
    colours = [COLOURS[group % len(COLOURS)] for group in range(len(datasets))]
    key = [
        f'<i style="background: {colour}"></i>{escape(one)}'
        for colour, one in zip(colours, datasets, strict=True)
    ]
    return (
        f"<h2>{escape(name)} against {escape(reference)}</h2>{drawn}"
        f'<p class="key soft">A point is an image; dashed: the mean, with its interval.{"".join(key)}</p>'
    )


def _crops(names: Sequence[str], rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    parts = [
        "<p class=soft>The images with the largest differences of PSNR, and in each the place that adds most"
        " to it. Scores are those of the whole image; the best is bold.</p>"
    ]
    for row in rows:
        base, chosen = row.scores[0], row.scores[names.index(row.model)]
        top = max(score.psnr_y for score in row.scores)
        what = f"{base.dataset}/{base.image}: {row.model} {gap(base, chosen):+.2f} dB"
        figures = [_overview(row), _figure(row.crops[0], "HR", "")]
        for name, crop, score in zip(names, row.crops[1:], row.scores, strict=True):
            numbers = f"{score.psnr_y:.2f} dB / {score.ssim_y:.4f}"
            figures.append(_figure(crop, name, f"<b>{numbers}</b>" if score.psnr_y == top else numbers))
        parts.append(f'<h3>{escape(what)}</h3><div class="crops">{"".join(figures)}</div>')
    return "".join(parts)


def _figure(crop: UInt8[np.ndarray, "h w 3"], name: str, caption: str) -> str:
    height, width = crop.shape[:2]
    size = f'width="{ZOOM * width}" height="{ZOOM * height}"'
    return (
        f'<figure><img class="pixels" {size} src="{_uri(crop, "PNG")}" alt="{escape(name)}">'
        f"<figcaption>{escape(name)}<br>{caption}</figcaption></figure>"
    )


def _overview(row: Row) -> str:
    """Return the whole image, reduced, with the place marked."""
    from PIL import Image

    height, width = row.hr.shape[:2]
    image = Image.fromarray(row.hr)
    image.thumbnail((OVERVIEW, OVERVIEW))
    top, tall = (100 * value / height for value in (row.box.top, row.box.height))
    left, wide = (100 * value / width for value in (row.box.left, row.box.width))
    place = f"top: {top:.2f}%; left: {left:.2f}%; height: {tall:.2f}%; width: {wide:.2f}%"
    uri = _uri(np.asarray(image), "JPEG")
    return (
        f'<figure><div class="whole"><img src="{uri}" alt="the whole image"><i style="{place}"></i></div>'
        f"<figcaption>{width} x {height}</figcaption></figure>"
    )


def _uri(pixels: UInt8[np.ndarray, "h w 3"], kind: str) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _every_image(comparison: Comparison) -> str:
    names = comparison.names
    heads = ["data set", "image", *names, *(f"{name}, difference" for name in names[1:])]
    lines = [_cells(heads, "th")]
    for rows in zip(*(report.images for report in comparison.reports), strict=True):
        base: ImageScore = rows[0]
        scores = [f"{row.psnr_y:.3f} / {row.ssim_y:.4f}" for row in rows]
        gaps = [" / ".join(_signed(base, row)) for row in rows[1:]]
        lines.append(_cells([base.dataset, base.image, *scores, *gaps]))
    table = f'<div class="wide"><table>{"".join(lines)}</table></div>'
    return f"<h2>Every image</h2><details><summary>PSNR-Y in dB / SSIM-Y</summary>{table}</details>"


def _signed(base: ImageScore, row: ImageScore) -> list[str]:
    digits = (3, 4)
    return [f"{gap(base, row, metric):+.{n}f}" for metric, n in zip(METRICS, digits, strict=True)]


def _protocols(comparison: Comparison) -> str:
    """Return every convention that the numbers depend on; what differs between methods, for each of them."""
    protocols = [report.protocol.to_dict() for report in comparison.reports]
    lines = []
    for key in protocols[0]:
        values = [_plain(protocol[key]) for protocol in protocols]
        if len(set(values)) > 1:
            values = [f"{name}: {value}" for name, value in zip(comparison.names, values, strict=True)]
        else:
            values = values[:1]
        lines.append(f"<tr><td>{escape(key)}</td><td>{escape('; '.join(values))}</td></tr>")
    table = f'<div class="wide"><table>{"".join(lines)}</table></div>'
    return f"<h2>Protocol</h2><details><summary>what the numbers depend on</summary>{table}</details>"


def _plain(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _cells(values: Sequence[str], tag: str = "td", *, kind: str = "") -> str:
    row = "".join(f"<{tag}>{escape(value)}</{tag}>" for value in values)
    return f'<tr class="{kind}">{row}</tr>' if kind else f"<tr>{row}</tr>"
