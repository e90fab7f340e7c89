"""
Rows in, rows out, in bounded memory
====================================

The result is that of the whole picture. Nothing here ever holds it.
"""

# sphinx_gallery_thumbnail_path = 'images/before_after.png'

import sys
from pathlib import Path

import numpy as np

import enlca
from enlca.image.files import open_image, write_rows

picture = Path(sys.argv[0]).parent / "../docs/images/astronaut_crop.png"
source = sys.argv[1] if len(sys.argv) > 1 else picture
target = sys.argv[2] if len(sys.argv) > 2 else "astronaut_x4.png"

up = enlca.Upscaler("enlcn-tiny", scale=4, mode="stream", max_memory=2 * 2**30)

# %%
# From file to file: rows are decoded, computed and encoded as they are needed.
write_rows(target, up.rows(open_image(source, max_bits=16)))
print(f"{Path(source).name} -> {target}")


# %%
# From and to anything else: bands of rows, as arrays. The height need not be known.


def camera():
    """A gradient that comes 16 rows at a time."""
    for top in range(0, 96, 16):
        rows = np.arange(top, top + 16, dtype=np.uint8)[:, None, None]
        yield np.broadcast_to(rows, (16, 64, 3)) + np.arange(64, dtype=np.uint8)[None, :, None]


n_rows = 0
for band in up.stream(camera()):
    n_rows += len(band)
print(f"96 rows in, {n_rows} rows out, {band.shape[1]} pixels wide, {band.dtype}")
