"""BMP files, by Pillow: libvips' wheel does not read them."""

import io
import warnings

import numpy as np

from enlca.errors import PictureError
from enlca.image.decoding import Source
from enlca.image.rows import MAX_PIXELS, PictureRows, check_pixels, damage_error, rows_of_array


def decode(source: Source, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS) -> PictureRows:
    """Decode a BMP file. Raises PictureError, and OSError: its bytes cannot be read."""
    from PIL import Image

    data = io.BytesIO(source.read_at(0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(data, formats=("BMP",))
        with image:
            check_pixels(source, *image.size, max_pixels)
            layers = np.array(image.convert({"1": "L", "L": "L", "RGBA": "RGBA"}.get(image.mode, "RGB")))
    except Image.DecompressionBombError as error:
        raise PictureError(f"{source}: too many pixels for a BMP; save it as PNG or TIFF first") from error
    except (OSError, SyntaxError, ValueError, OverflowError) as error:
        raise damage_error(source, " ".join(str(error).split()) or type(error).__name__) from error
    return rows_of_array(layers.reshape(*layers.shape[:2], -1))
