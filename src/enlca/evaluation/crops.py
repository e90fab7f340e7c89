"""Where two methods differ most: the images, and the place in each.

Letters:  H, W height and width of the HR image
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from enlca.data.pairs import read_hr
from enlca.errors import EvaluationError
from enlca.evaluation.compare import Comparison, gap
from enlca.evaluation.evaluate import Evaluation, Files
from enlca.evaluation.report import ImageScore
from enlca.image.picture import read_image
from enlca.metrics import luma

# Height and width of a crop, in HR pixels.
SIDE = 72


class Box(NamedTuple):
    """A part of an image, in HR pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Return the part of an image."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Row:
    """The same place of an image by several methods.

    Attributes:
        model: the method whose difference from the reference chose image and place.
        hr: the whole HR image.
        box: the place.
        crops: of HR, then of each method.
        scores: of each method, on the whole image.
    """

    model: str
    hr: UInt8[np.ndarray, "H W 3"]
    box: Box
    crops: Sequence[UInt8[np.ndarray, "h w 3"]]
    scores: Sequence[ImageScore]


def rows(comparison: Comparison, results: Sequence[Evaluation], *, per_method: int) -> list[Row]:
    """Return, for each method but the first, the images on which it differs most from it by PSNR, and where.

    Raises:
        EvaluationError: `results` have no SR images.
        PictureError: a file cannot be read again.
    """
    found = []
    for number, report in enumerate(comparison.reports[1:], start=1):
        gaps = [gap(*pair) for pair in comparison.pairs(report)]
        places = sorted((place for place, one in enumerate(gaps) if one), key=lambda place: -abs(gaps[place]))
        found += [_row(comparison, results, number, place) for place in places[:per_method]]
    return found


def _row(comparison: Comparison, results: Sequence[Evaluation], number: int, place: int) -> Row:
    scores = [report.images[place] for report in comparison.reports]
    scale, key = scores[0].scale, (scores[0].dataset, scores[0].image)
    hr = read_hr(results[0].files[key].hr, scale).rgb
    images = [_sr(result.files[key]) for result in results]
    box = most_different(images[0], images[number], hr, shave=scale)
    crops = [box.of(image) for image in (hr, *images)]
    return Row(comparison.names[number], hr, box, crops, scores)


def _sr(files: Files) -> UInt8[np.ndarray, "H W 3"]:
    if files.sr is None:
        raise EvaluationError(f"{files.hr}: its SR image was not kept; evaluate with save_images")
    return read_image(files.sr).rgb


def most_different(
    reference: UInt8[np.ndarray, "H W 3"],
    other: UInt8[np.ndarray, "H W 3"],
    hr: UInt8[np.ndarray, "H W 3"],
    *,
    shave: int,
    side: int = SIDE,
) -> Box:
    """Return the place with the largest difference of squared errors on luma, within what scores count.

    Of the sign that the whole image has: where the better of the two on the image is better by most.
    """
    target = luma(hr)
    gain = (luma(reference) - target) ** 2 - (luma(other) - target) ** 2
    gain = gain[shave : gain.shape[0] - shave, shave : gain.shape[1] - shave]
    height, width = (min(side, extent) for extent in gain.shape)
    sums = _window_sums(gain if gain.sum() >= 0 else -gain, height, width)
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return Box(int(top) + shave, int(left) + shave, height, width)


def _window_sums(values: Float[np.ndarray, "H W"], height: int, width: int) -> Float[np.ndarray, "y x"]:
    """Return the sum over each window of this size, by cumulative sums."""
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    total[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    down = total[height:] - total[:-height]
    return down[:, width:] - down[:, :-width]
