"""Odd pictures, continued: TIFF, and all of them together."""

import io
from typing import Any

import numpy as np
import tifffile
from odd import levels, smooth, vips
from odd_cases import H, Odd, W, indices, jpegs, others, pngs, seen_by_pillow, webps
from PIL import Image


def tiffs() -> dict[str, Odd]:
    made: dict[str, Odd] = {}

    def add(name: str, data: bytes, shown: np.ndarray, **about: Any) -> None:
        made[f"tiff {name}"] = Odd(data=data, suffix=".tif", shown=shown, **about)

    rgb, grey = smooth(H, W, 3), smooth(H, W, 1)
    ways: dict[str, dict[str, Any]] = {
        "strips": {},
        "tiles": {"tile": True, "tile_width": 16, "tile_height": 16},
        "bigtiff": {"bigtiff": True},
        "lzw with a predictor": {"compression": "lzw", "predictor": "horizontal"},
        "deflate": {"compression": "deflate"},
        "packbits": {"compression": "packbits"},
        "tiles in deflate": {"compression": "deflate", "tile": True, "tile_width": 16, "tile_height": 16},
    }
    for name, settings in ways.items():
        for values in (rgb, grey, smooth(H, W, 4), smooth(H, W, 3, bits=16), smooth(H, W, 2, bits=16)):
            kind = f"{values.shape[2]}x{8 * values.itemsize}"
            add(f"{kind} {name}", vips(values).tiffsave_buffer(**settings), values)
    data = vips(rgb).tiffsave_buffer(compression="jpeg", Q=95)
    add("jpeg", data, seen_by_pillow(data, "RGB"), off=2)
    for bits in (1, 2, 4):
        for turned_over in (False, True):
            few = levels(smooth(H, W, 1, bits=bits), bits)
            data = vips(few).tiffsave_buffer(bitdepth=bits, miniswhite=turned_over)
            # Seen by Pillow, for libvips writes the last of an odd number of half bytes wrong.
            name = f"grey {bits} bit{' white is 0' if turned_over else ''}"
            add(name, data, seen_by_pillow(data, "L"))
    few = levels(smooth(H, W, 1, bits=1), 1)
    add("fax", vips(few).tiffsave_buffer(compression="ccittfax4", bitdepth=1), few)
    add("grey white is 0", vips(grey).tiffsave_buffer(miniswhite=True), grey)

    def written(values: np.ndarray, **settings: Any) -> bytes:
        out = io.BytesIO()
        tifffile.imwrite(out, values, metadata=None, **settings)
        return out.getvalue()

    for values in (rgb, smooth(H, W, 3, bits=16)):
        planes, n_bits = np.moveaxis(values, 2, 0), 8 * values.itemsize
        apart = {"photometric": "rgb", "planarconfig": "separate"}
        add(f"planes {n_bits} bit", written(planes, **apart), values)
        add(f"big-endian {n_bits} bit", written(values, photometric="rgb", byteorder=">"), values)
        add(f"rows one by one {n_bits} bit", written(values, photometric="rgb", rowsperstrip=1), values)
    white = 65535 - smooth(H, W, 1, bits=16)
    add("grey 16 bit white is 0", written(white[..., 0], photometric="miniswhite"), 65535 - white)
    which, palette = indices(200)
    image = Image.fromarray(which[..., 0], "P")
    image.putpalette(palette.tobytes())
    out = io.BytesIO()
    image.save(out, "TIFF")
    add("palette", out.getvalue(), palette[which[..., 0]])
    for bits in (8, 16):
        values = smooth(H, W, 4, bits=bits)
        top = 2**bits - 1
        weighed = values.copy()
        weighed[..., :3] = np.rint(values[..., :3] * (values[..., 3:] / top))
        data = written(weighed, photometric="rgb", extrasamples=["assocalpha"])
        add(f"premultiplied {bits} bit", data, values, off=2)
    return made


MATRIX = {**pngs(), **jpegs(), **webps(), **tiffs(), **others()}
