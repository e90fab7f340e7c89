"""What an evaluation found, and the protocol that its numbers depend on; as JSON, CSV and a table.

Letters:  H height   W width
"""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

Lr = Literal["uint8", "float"]
# The protocol of SR images that exist already, and the origin of their LR images.
GIVEN = "given"
LR_TYPES = {
    "uint8": "MATLAB imresize(uint8, 1/scale, 'bicubic'), rounded to uint8 after each axis, rows first",
    "float": "MATLAB imresize(double, 1/scale, 'bicubic') of the HR image: neither rounded nor clipped",
}

Rgb = UInt8[np.ndarray, "H W 3"]
# Of SR and HR, and the border of pixels to drop, which MS-SSIM drops as SSIM does; the others see all.
Compute = Callable[[Rgb, Rgb, int], float]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A further column.

    Attributes:
        column: its name in CSV and JSON.
        title: its name in tables.
        compute: its value for an SR image.
        about: the convention, for the protocol of result files.
        higher_is_better: False for distances.
        files: SHA-256 of each file of weights, by the file's name.
    """

    column: str
    title: str
    compute: Compute
    about: str
    higher_is_better: bool = True
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The evaluation protocol; written into every result file.

    Attributes:
        name: how the network sees an image: "whole", "chop" (the released code's quadrants), or "given" for
            SR images that exist already.
        scale: the upscaling factor; also the pixels that are dropped at each border.
        lr_source: origin of the LR images: "files", "matlab-bicubic" (made here), or "given".
        ensemble: whether 8 views of each image were averaged, before rounding.
        lr_type: "uint8", as LR files are; or "float": made here without rounding. It spares the network the
            rounding error, which a method cannot tell from detail, and gives 0.01 to 0.03 dB.
    """

    name: str
    scale: int
    lr_source: str
    ensemble: bool = False
    lr_type: Lr = "uint8"

    @property
    def label(self) -> str:
        """The name in tables: "whole", "chop+ensemble", "whole+float-lr"."""
        parts = [
            self.name,
            "ensemble" if self.ensemble else "",
            "float-lr" if self.lr_type == "float" else "",
        ]
        return "+".join(filter(None, parts))

    def to_dict(self) -> dict[str, Any]:
        """Return every convention that a number depends on."""
        return {
            **asdict(self),
            "hr": "mod-cropped to the scale",
            "lr": "not known" if self.lr_source == GIVEN else LR_TYPES[self.lr_type],
            "sr": "clipped to [0, 1], scaled to 255, rounded to uint8",
            "luma": "BT.601, 16 + (65.481 R + 128.553 G + 24.966 B) / 255, float64, not rounded",
            "shave": self.scale,
            "psnr": "peak 255, per image, then the mean over images",
            "ssim": "Gaussian 11x11, sigma 1.5, valid region, K = (0.01, 0.03), L = 255, then as psnr",
        }


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """One image's row; `seconds` is the time of upscaling alone, `height` and `width` are those of HR.

    `more` has the further columns that were asked for (see `perceptual`).
    """

    dataset: str
    image: str
    scale: int
    model: str
    protocol: str
    psnr_y: float
    ssim_y: float
    seconds: float
    height: int
    width: int
    more: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return every column by its name."""
        row = asdict(self)
        return {**{name: value for name, value in row.items() if name != "more"}, **row["more"]}


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of an evaluation: protocol, model, and a score for each image."""

    protocol: Protocol
    model: dict[str, Any]
    images: Sequence[ImageScore]
    metrics: Sequence[Metric] = ()

    def datasets(self) -> dict[str, dict[str, float | int]]:
        """Return the means over the images of each data set, in the order in which they were scored."""
        names = dict.fromkeys(row.dataset for row in self.images)
        columns = ("psnr_y", "ssim_y", *(metric.column for metric in self.metrics))
        return {name: _mean([row for row in self.images if row.dataset == name], columns) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return the object of the command's contract."""
        return {
            "protocol": self.protocol.to_dict() | self._conventions(),
            "model": self.model,
            "datasets": self.datasets(),
            "images": [row.to_dict() for row in self.images],
        }

    def _conventions(self) -> dict[str, Any]:
        """Return what the numbers of further columns depend on."""
        return {
            metric.column: metric.about
            + "".join(f"; {name} sha256 {sha}" for name, sha in metric.files.items())
            for metric in self.metrics
        }

    def to_json(self) -> str:
        """Return the JSON object of the command's contract."""
        return dumps(self.to_dict())

    def to_csv(self) -> str:
        """Return a row per image, with the columns of the command's contract."""
        return to_csv([self])

    def to_markdown(self) -> str:
        """Return the means as a table."""
        return to_markdown([self])


def to_json(reports: Sequence[Report]) -> str:
    """Return the JSON object of one report, or of several in a list under "results"."""
    bodies = [report.to_dict() for report in reports]
    return dumps(bodies[0] if len(bodies) == 1 else {"results": bodies})


def to_csv(reports: Sequence[Report]) -> str:
    """Return a row for each image of each report."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(reports), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.to_dict() for report in reports for row in report.images)
    return text.getvalue()


def columns_of(reports: Sequence[Report]) -> list[str]:
    """Return the columns of `ImageScore.to_dict`; all reports have the same metrics."""
    own = [one.name for one in fields(ImageScore) if one.name != "more"]
    return [*own, *(metric.column for metric in reports[0].metrics)]


def cells_of(mean: Mapping[str, float], metrics: Sequence[Metric]) -> list[str]:
    """Return the means of a data set as they are printed: PSNR, SSIM, further metrics."""
    return [f"{mean['psnr_y']:.3f}", f"{mean['ssim_y']:.4f}", *(f"{mean[m.column]:.4f}" for m in metrics)]


def titles_of(metrics: Sequence[Metric]) -> list[str]:
    """Return the titles of `cells_of`, with an arrow down for distances."""
    return ["PSNR-Y", "SSIM-Y", *(m.title + ("" if m.higher_is_better else " ↓") for m in metrics)]


def to_markdown(reports: Sequence[Report]) -> str:
    """Return the means as one table: the models of a data set below each other."""
    metrics = reports[0].metrics
    titles = " | ".join(titles_of(metrics))
    lines = [
        f"| data set | scale | model | {titles} | images |",
        "|---|---|---|---|---|---|" + "---|" * len(metrics),
    ]
    for name in dict.fromkeys(name for report in reports for name in report.datasets()):
        for report in reports:
            if mean := report.datasets().get(name):
                scores = " | ".join([*cells_of(mean, metrics), str(mean["n"])])
                lines.append(f"| {name} | x{report.protocol.scale} | {report.images[0].model} | {scores} |")
    return "\n".join(lines) + "\n"


def dumps(body: Any) -> str:
    """Return JSON in which infinity, which JSON lacks, is the string "inf"."""
    return json.dumps(_finite(body), indent=2) + "\n"


def _mean(rows: Sequence[ImageScore], columns: Sequence[str]) -> dict[str, float | int]:
    table = [row.to_dict() for row in rows]
    means = {column: math.fsum(row[column] for row in table) / len(rows) for column in columns}
    return {**means, "n": len(rows)}


def _finite(value: Any) -> Any:
    """Replace infinity, which JSON lacks, by the string "inf": the PSNR of equal images."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
