"""Rows of a picture from its bytes by libvips, upright and in RGB or grey.

`files.open_image` chooses between this, `pages`, `bmp` and `netpbm`.

Letters:  H height   W width   L layers: channels, then alpha
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np

from enlca.errors import PictureError
from enlca.image.metadata import GIF_MARK, MARK, dpi_of, exif_of_png, orientation_of
from enlca.image.rows import MAX_PIXELS, PictureRows, band_height, check_pixels, depth_error, stretch
from enlca.image.source import Source, field_of, libvips, open_with_vips, vips_errors

# Pictures with more bytes than this are rotated on disk instead of in memory.
ROTATE_IN_MEMORY = 1 << 26
# Pixels per metre that libvips assumes of a PNG that does not say.
_NO_PNG_RESOLUTION = 2834
# Pixels per inch beyond any print or scan: a file that says more is wrong, and formats could not hold it.
_MOST_DPI = 1e4

# Bytes that libvips takes for a pixel of formats that it decodes as a whole, of 8 bits.
PIXEL_BYTES = {"webp": 10, "heif": 16, "gif": 7}
# Blank pages of so many pixels exist, and files with so many pixels in each byte do not.
MOST_EMPTY, MOST_PIXELS_PER_BYTE = 100_000_000, 100_000


def rows_with_vips(
    source: Source, *, max_bits: int = 8, max_pixels: int = MAX_PIXELS, pages: int = 1, **settings: Any
) -> PictureRows:
    """Open a file that libvips reads: its first picture, or that of `page=`; the bands decode it.

    `pages`: the number of frames below one another, where `n=` asks for several.

    Raises:
        PictureError: as `files.open_image`.
    """
    image = open_with_vips(source, **settings)
    check_pixels(source, image.width, image.height, max_pixels)
    if image.format not in ("uchar", "ushort"):
        raise depth_error(source, f"{image.format} values", max_bits=max_bits)
    if image.format == "ushort" and max_bits < 16:
        raise depth_error(source, "16 bits per channel", max_bits=max_bits)
    needs = _decoder_bytes(source, image, pages)
    with vips_errors(source):
        return replace(_upright(source, image, pages), decoder_bytes=needs)


def _decoder_bytes(source: Source, image: Any, pages: int) -> int:
    """Return the bytes that the decoder of a picture takes for all of it; 0 where it works row by row.

    Measured for each pixel, and the bytes of the file for loaders that read it as a whole.

    Raises:
        PictureError: a file that is far too small for so many pixels.
    """
    loader = str(field_of(image, "vips-loader"))
    pixels, sample = image.width * image.height // pages, 2 if image.format == "ushort" else 1
    if (name := loader.partition("load")[0]) in PIXEL_BYTES:
        size = source.end()
        if pixels > MOST_EMPTY and pixels > MOST_PIXELS_PER_BYTE * size:
            raise PictureError(f"{source}: {image.width}x{image.height} pixels in {size} bytes: refused")
        # An animation has the frame before beside the present one.
        return pixels * PIXEL_BYTES[name] * sample * (1 if pages == 1 else 2) + size
    if not field_of(image, "interlaced"):
        return 0
    if loader.startswith("jpeg"):
        # Two bytes for a coefficient; of colours often a fourth is stored.
        small = str(field_of(image, "jpeg-chroma-subsample")) == "4:2:0"
        return pixels * (3 if small else 2 * image.bands)
    return pixels * image.bands * sample


def _upright(source: Source, image: Any, pages: int) -> PictureRows:
    """Convert CMYK to sRGB and apply the EXIF orientation."""
    remarks = []
    if image.interpretation == "cmyk":
        how = "its profile" if image.get_typeof("icc-profile-data") else "a common profile, it has none"
        remarks.append(f"CMYK converted to sRGB through {how}")
        depth = 16 if image.format == "ushort" else 8
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth).copy()
        image.remove("icc-profile-data")
    bands = {"b-w": (1, 2), "grey16": (1, 2), "srgb": (3, 4), "rgb": (3, 4), "rgb16": (3, 4)}
    if image.bands not in bands.get(str(image.interpretation), ()):
        kind = f"{image.bands} channels of {image.interpretation}"
        raise PictureError(f"{source}: holds {kind}; convert it to RGB or grey first")
    exif, loader = field_of(image, "exif-data"), str(field_of(image, "vips-loader"))
    orientation = int(field_of(image, "orientation") or 1)
    if exif is None and loader.startswith("png"):
        exif = exif_of_png(source.read_at)
        orientation = orientation_of(exif) if exif else orientation
    # The frames of an animation lie below one another, and are not turned.
    orientation = orientation if pages == 1 else 1
    width, height, inches = image.width, image.height // pages, _printed_size(image, loader, exif)
    if orientation >= 5:
        width, height, inches = height, width, inches and (inches[1], inches[0])
    n_bits = field_of(image, "bits-per-sample")
    deep_avif = image.format == "ushort" and loader.startswith("heif")
    icc = cast("bytes | None", field_of(image, "icc-profile-data"))
    if icc is not None and not _is_profile(icc):
        remarks.append("its colour profile is damaged and was left out")
        icc = None
    return PictureRows(
        width=width,
        height=height,
        channels=3 if image.bands >= 3 else 1,
        bits=16 if image.format == "ushort" else 8,
        bands=_bands(source, image, orientation, n_bits if deep_avif and n_bits != 16 else None),
        has_alpha=image.bands in (2, 4),
        icc=icc,
        exif=exif,
        xmp=field_of(image, "xmp-data"),
        remarks=tuple(remarks),
        pages=pages,
        inches=inches,
        upscaled=is_upscaled(source, image),
    )


def is_upscaled(source: Source, image: Any) -> bool:
    """Whether a file says that it is an upscaled picture of ours. Raises OSError."""
    loader = str(field_of(image, "vips-loader"))
    if loader.startswith("gif"):
        # libvips does not read comments.
        return source.read_at(max(0, source.end() - len(GIF_MARK))) == GIF_MARK
    name = "image-description" if loader.startswith("tiff") else "exif-ifd0-Software"
    # libvips appends the tag's type.
    return str(field_of(image, name)).partition(" (")[0] == MARK


def _printed_size(image: Any, loader: str, exif: bytes | None) -> tuple[float, float] | None:
    """Return the printed width and height in inches, as the file stores them; None if it does not say."""
    dpi = 25.4 * image.xres, 25.4 * image.yres
    if loader.startswith("png"):
        known = round(1000 * image.xres) != _NO_PNG_RESOLUTION
    elif loader.startswith(("jpeg", "tiff")):
        known = field_of(image, "resolution-unit") is not None
    else:
        dpi = (dpi_of(exif) if exif else None) or (0.0, 0.0)
        known = True
    known = known and min(dpi) > 0 and max(dpi) < _MOST_DPI
    return (image.width / dpi[0], image.height / dpi[1]) if known else None


def _is_profile(icc: bytes) -> bool:
    """Return whether bytes have the signature and the length of a colour profile. (ICC.1, 7.2)"""
    return len(icc) >= 128 and icc[36:40] == b"acsp" and int.from_bytes(icc[:4], "big") == len(icc)


def _turned(image: Any, orientation: int) -> Any:
    """Decode all pixels, to memory or disk, and turn them: that needs another order than the decoder's."""
    pyvips = libvips()
    if image.width * image.height * image.bands <= ROTATE_IN_MEMORY:
        image = image.copy_memory()
    else:
        # The file has no name while it is open, so nothing is left behind, however the process ends.
        spooled = pyvips.Image.new_temp_file("%s.v")
        image.write(spooled)
        image = spooled
    image = image.copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return image.autorot()


def _bands(source: Source, image: Any, orientation: int, n_bits: int | None) -> Iterator[np.ndarray]:
    """Decode band by band; `n_bits`: the depth of values that are stored in the upper bits of 16."""
    pyvips = libvips()
    kind = np.uint8 if image.format == "uchar" else np.uint16
    with vips_errors(source):
        if orientation != 1:
            image = _turned(image, orientation)
        region = pyvips.Region.new(image)
        step = band_height(image.width * image.bands * kind().itemsize)
        for top in range(0, image.height, step):
            n_rows = min(step, image.height - top)
            fetched = region.fetch(0, top, image.width, n_rows)
            band = np.frombuffer(fetched, kind).reshape(n_rows, image.width, image.bands)
            # 10 or 12 bits of an AVIF: white is not yet 65535.
            yield band if n_bits is None else stretch(band >> (16 - n_bits), 2**n_bits - 1)
