"""Signs that a picture was compressed or is noisy: the quantisation table of its JPEG, and its noise.

Letters:  H height   W width
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

# The luminance table of the JPEG standard (Annex K), which libjpeg scales for a quality; in zigzag order.
STANDARD = (
    *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40),
    *(26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51),
    *(56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87),
    *(95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99),
)
# Pictures beyond them are called compressed or noisy: JPEG quality, and levels of noise.
POOR_QUALITY, NOISY = 85, 3.0
# Of the middle of a picture, where noise is measured; and of the blocks in it.
CROP, BLOCK = 512, 16
# Quantile over the blocks, and what it is for blocks of noise alone whose sigma is 1 (measured).
SMOOTHEST, BIAS = 0.05, 0.866
# Largest picture that is decoded for it.
MOST_PIXELS = 1 << 25


def jpeg_quality(table: Sequence[int]) -> float:
    """Return the quality from 1 to 100 at which libjpeg has a luminance table like `table`, in any order.

    Raises:
        ValueError: it has not 64 entries above zero.
    """
    if len(table) != 64 or min(table) < 1:
        raise ValueError(f"a quantisation table has 64 entries above 0, got {len(table)}")
    # Sums, since cameras round their tables in their own ways; without entries that no table can exceed.
    pairs = [pair for pair in zip(sorted(table), sorted(STANDARD), strict=True) if pair[0] < 255]
    own, standard = (sum(side) for side in zip(*pairs, strict=True)) if pairs else (255, 10)
    percent = 100 * own / standard
    return float(np.clip(100 - percent / 2 if percent <= 100 else 5000 / percent, 1, 100))


def noise_sigma(grey: UInt8[np.ndarray, "H W"]) -> float:
    """Estimate the standard deviation of noise, in levels, from the smoothest parts of a picture.

    Blocks of 16x16 pixels are estimated by Immerkaer's mask (1996, *Fast Noise Variance Estimation*), which
    is zero on planes. It takes texture for noise, so a low quantile over the blocks counts. Blocks with
    clipped pixels, where noise is cut off, do not. 0 without any block.
    """
    x = grey.astype(np.float64)
    rows = x[:-2] - 2 * x[1:-1] + x[2:]
    mask = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])
    clipped = ((grey == 0) | (grey == 255))[1:-1, 1:-1]
    height, width = (side // BLOCK for side in mask.shape)
    if height < 1 or width < 1:
        return 0.0

    def blocks(plane: np.ndarray) -> np.ndarray:
        cut = plane[: height * BLOCK, : width * BLOCK]
        return cut.reshape(height, BLOCK, width, BLOCK).mean(axis=(1, 3))

    # The mask's values have 6 times the standard deviation of the noise, and E|n| = sqrt(2 / pi) sigma.
    sigmas = (blocks(mask) * np.sqrt(np.pi / 2) / 6)[blocks(clipped) == 0]
    return float(np.quantile(sigmas, SMOOTHEST)) / BIAS if sigmas.size else 0.0


def signs_of_wear(path: Path) -> str | None:
    """Return what is wrong with a picture file, in words, or None: for hints only, so unreadable is None."""
    from PIL import Image

    try:
        # Pillow maps files that it opens itself, and the process ends if one becomes shorter meanwhile.
        with path.open("rb") as file, warnings.catch_warnings():
            # The header is read, and a large picture not decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file)
            tables = getattr(image, "quantization", None)
            if tables:
                quality = jpeg_quality(list(tables[0]))
                if quality < POOR_QUALITY:
                    return f"compressed (JPEG of quality {quality:.0f})"
            width, height = image.size
            if width * height > MOST_PIXELS or image.mode not in ("L", "RGB"):
                return None
            left, top = max(0, (width - CROP) // 2), max(0, (height - CROP) // 2)
            box = (left, top, min(width, left + CROP), min(height, top + CROP))
            sigma = noise_sigma(np.asarray(image.crop(box).convert("L")))
    # A hint must not fail where the work would not: Pillow raises what it likes for damaged files.
    except Exception:
        return None
    return f"noisy (about {sigma:.0f} levels)" if sigma >= NOISY else None
