"""The released code's `--chop`: a network fed with 4 overlapping quadrants instead of the whole picture.

It changes results: attention never sees the whole. Kept to compare with numbers that were made this way.

Letters:  B batch   H, W height and width   S scale
"""

from jaxtyping import Float
from torch import Tensor

from enlca.inference.ensemble import Forward

SHAVE = 10
LARGEST = 120_000


def quadrant(height: int, width: int) -> tuple[int, int]:
    """Height and width of each quadrant: half plus 10, then up to the next multiple of 4 and 8.

    Where it already is a multiple a full step is added, as in the released code.
    NOTE(released): on pictures too small for that their slices wrap around; ours end at the picture.
    """
    tall, wide = height // 2 + SHAVE, width // 2 + SHAVE
    return min(tall + 4 - tall % 4, height), min(wide + 8 - wide % 8, width)


def chopped(forward: Forward, *, scale: int) -> Forward:
    """`forward` on quadrants, recursively until a quadrant has under 120,000 pixels; no blending."""

    def run(lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        height, width = lr.shape[-2:]
        tall, wide = quadrant(height, width)
        step = forward if tall * wide < LARGEST else run
        sr = lr.new_empty(len(lr), 3, scale * height, scale * width)
        # Along each axis: where the quadrant starts, and which part of the output it owns.
        rows = ((0, 0, height // 2), (height - tall, height // 2, height))
        columns = ((0, 0, width // 2), (width - wide, width // 2, width))
        for top, first_row, last_row in rows:
            for left, first_column, last_column in columns:
                part = step(lr[..., top : top + tall, left : left + wide])
                own_rows = slice(scale * (first_row - top), scale * (last_row - top))
                own_columns = slice(scale * (first_column - left), scale * (last_column - left))
                sr[
                    ...,
                    scale * first_row : scale * last_row,
                    scale * first_column : scale * last_column,
                ] = part[..., own_rows, own_columns]
        return sr

    return run
