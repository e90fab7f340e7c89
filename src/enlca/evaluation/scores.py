"""Scores of images and their means over data sets; as JSON, CSV and a table."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from enlca.evaluation.protocol import Protocol


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """One picture's row; `seconds` is the time of the enlargement alone."""

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


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that an evaluation found."""

    protocol: Protocol
    model: dict[str, Any]
    images: Sequence[ImageScore]

    def datasets(self) -> dict[str, dict[str, float | int]]:
        """Means over the images of each data set, in the order in which they were scored."""
        names = dict.fromkeys(row.dataset for row in self.images)
        return {name: _mean([row for row in self.images if row.dataset == name]) for name in names}

    def to_json(self) -> str:
        """The contracted JSON object."""
        body = {
            "protocol": self.protocol.to_dict(),
            "model": self.model,
            "datasets": self.datasets(),
            "images": [asdict(row) for row in self.images],
        }
        return json.dumps(_finite(body), indent=2) + "\n"

    def to_csv(self) -> str:
        """A row per image, with the contracted columns."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(ImageScore)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.images)
        return text.getvalue()

    def to_markdown(self) -> str:
        """The means as a table."""
        lines = ["| data set | scale | model | PSNR-Y | SSIM-Y | images |", "|---|---|---|---|---|---|"]
        for name, mean in self.datasets().items():
            model = self.images[0].model
            lines.append(
                f"| {name} | x{self.protocol.scale} | {model} | {mean['psnr_y']:.3f} | {mean['ssim_y']:.4f}"
                f" | {mean['n']} |"
            )
        return "\n".join(lines) + "\n"


def _mean(rows: Sequence[ImageScore]) -> dict[str, float | int]:
    n = len(rows)
    psnr, ssim = (math.fsum(values) / n for values in zip(*((r.psnr_y, r.ssim_y) for r in rows), strict=True))
    return {"psnr_y": psnr, "ssim_y": ssim, "n": n}


def _finite(value: Any) -> Any:
    """JSON has no infinity: the PSNR of equal pictures is written as the string "inf"."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
