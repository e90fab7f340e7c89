"""Writers of picture files, down to the byte, of kinds that ordinary libraries do not write.

Letters:  H height   W width   L layers: 1 (grey), 2 (grey, alpha), 3 (red, green, blue) or 4 (and alpha)
"""

import functools
import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from PIL import Image, ImageCms

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
# Colour type of a PNG -> values per pixel.
_PNG_LAYERS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
# First row and column, and steps, of the seven passes of an interlaced PNG.
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_SPACES = {(1, 8): "b-w", (1, 16): "grey16", (3, 8): "srgb", (3, 16): "rgb16"}


def smooth(height: int, width: int, n_layers: int, *, bits: int = 8) -> np.ndarray:
    """H W L: a slope per layer, and a bright patch in one corner, so that no turn looks like another."""
    row, column, layer = np.indices((height, width, n_layers))
    # Alpha comes last and reaches both ends, so that there is something wholly hidden and wholly shown.
    values = 0.2 + 0.4 * row / max(height, 2) + 0.25 * column / max(width, 2) + 0.05 * layer
    values[: height // 3, : width // 4] += 0.1
    if n_layers in (2, 4):
        values[..., -1] = (1.6 * column[..., 0] / max(width - 1, 1) - 0.3).clip(0, 1)
    return np.rint(values * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def levels(values: np.ndarray, bits: int) -> np.ndarray:
    """Values of few bits on the whole range of 8."""
    return (values.astype(int) * 255 // (2**bits - 1)).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows H N of values as a PNG or BMP stores them: several to a byte, or the larger half first."""
    if bits >= 8:
        return values.astype(f">u{bits // 8}").tobytes()
    apart = np.unpackbits(values.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
    return np.packbits(apart.reshape(len(values), -1), axis=1).tobytes()


def png(
    values: np.ndarray,
    *,
    bits: int = 8,
    colour: int | None = None,
    interlaced: bool = False,
    palette: np.ndarray | None = None,
    transparent: bytes | None = None,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
    piece: int = 1 << 20,
) -> bytes:
    """A PNG of H W L (or indices H W 1): `transparent` is its tRNS, `piece` the largest IDAT."""
    height, width, n_layers = values.shape
    if colour is None:
        colour = PALETTE if palette is not None else {1: GREY, 2: GREY_ALPHA, 3: RGB, 4: RGBA}[n_layers]
    assert n_layers == _PNG_LAYERS[colour]
    passes = [values]
    if interlaced:
        passes = [values[top::down, left::right] for top, left, down, right in _ADAM7]
    raw = b"".join(b"\0" + packed(row.reshape(1, -1), bits) for part in passes if part.size for row in part)
    data = zlib.compress(raw)
    out = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced)))]
    out += [chunk(*one) for one in before]
    if palette is not None:
        out.append(chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    if transparent is not None:
        out.append(chunk(b"tRNS", transparent))
    out += [chunk(b"IDAT", data[at : at + piece]) for at in range(0, len(data), piece)]
    out += [chunk(*one) for one in after]
    return b"\x89PNG\r\n\x1a\n" + b"".join(out) + chunk(b"IEND", b"")


def profile_chunk(profile: bytes) -> tuple[bytes, bytes]:
    """A colour profile for `before`."""
    return b"iCCP", b"profile\0\0" + zlib.compress(profile)


def bmp(
    values: np.ndarray,
    *,
    bits: int,
    palette: np.ndarray | None = None,
    masks: Sequence[int] = (),
    top_down: bool = False,
    data: bytes | None = None,
    method: int = 0,
) -> bytes:
    """A BMP of H W L in red, green, blue (, alpha), of indices H W 1, or of H W 1 words with `masks`."""
    height, width, n_layers = values.shape
    rows = values if top_down else values[::-1]
    if data is None:
        if n_layers >= 3:
            rows = rows[:, :, [2, 1, 0, 3][:n_layers]]
        words = rows.reshape(height, -1)
        lines = [words.astype("<u2").tobytes()] if bits == 16 else [packed(words, min(bits, 8))]
        stride = len(lines[0]) // height
        data = b"".join(
            lines[0][at : at + stride] + bytes(-stride % 4) for at in range(0, height * stride, stride)
        )
    colours = [] if palette is None else palette.tolist()
    table = b"".join(struct.pack("<BBBx", blue, green, red) for red, green, blue in colours)
    size = 108 if masks else 40
    method = 3 if masks else method
    signed = -height if top_down else height
    header = struct.pack(
        "<IiiHHIIiiII", size, width, signed, 1, bits, method, len(data), 2835, 2835, len(colours), 0
    )
    if masks:
        header += struct.pack("<IIII", *masks, *[0] * (4 - len(masks))) + b"BGRs" + bytes(48)
    start = 14 + len(header) + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + table + data


def pnm(values: np.ndarray, *, kind: int, peak: int = 255, comment: str = "") -> bytes:
    """A file `P1` to `P6` of H W L; in a bitmap (`P1`, `P4`) 1 is ink."""
    height, width, _ = values.shape
    header = f"P{kind}\n{comment}{width} {height}\n" + ("" if kind in (1, 4) else f"{peak}\n")
    if kind < 4:
        return (header + "\n".join(" ".join(map(str, row.ravel())) for row in values) + "\n").encode()
    if kind == 4:
        return header.encode() + packed(values[:, :, 0], 1)
    return header.encode() + values.astype(">u2" if peak > 255 else "u1").tobytes()


def vips(values: np.ndarray, space: str | None = None) -> Any:
    """H W L as a picture of libvips, which can save what Pillow cannot."""
    n_colours = 3 if values.shape[2] >= 3 else 1
    space = space or _SPACES[n_colours, 8 * values.dtype.itemsize]
    return pyvips.Image.new_from_array(np.ascontiguousarray(values)).copy(interpretation=space)


def pillow(values: np.ndarray, *, mode: str | None = None, format: str, **settings: Any) -> bytes:
    """H W L of 8 bits as Pillow writes it."""
    image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values, mode=mode)
    out = io.BytesIO()
    image.save(out, format=format, **settings)
    return out.getvalue()


@functools.cache
def profile(name: str) -> bytes:
    """A colour profile: "srgb", "p3" (a wider gamut), "cmyk", or one for "grey"."""
    if name == "srgb":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if name != "grey":
        return bytes(pyvips.Operation.call("profile_load", name))
    text = b"grey\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061),
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, 0x0233),
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"\0\0\0\0", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    return head + struct.pack(">iii", 63190, 65536, 54061) + bytes(128 - len(head) - 12) + table + body


def seen(path: Path) -> np.ndarray:
    """H W L of a file that was made: by Pillow, or where that would cut 16 bits, by libvips or by hand."""
    data = path.read_bytes()
    if path.suffix == ".ppm":
        kind, width, height, peak, values = data.split(maxsplit=4)
        dtype = ">u2" if int(peak) > 255 else "u1"
        # Values may look like white space: what the header left is found from behind.
        n_values = int(width) * int(height) * (3 if kind == b"P6" else 1)
        values = np.frombuffer(data, dtype, offset=len(data) - n_values * np.dtype(dtype).itemsize)
        return values.reshape(int(height), int(width), -1).astype(dtype.replace(">", "="))
    if path.suffix in (".png", ".tif"):
        # From memory: of a name libvips remembers what it stood for.
        deep = pyvips.Image.new_from_buffer(data, "")
        if deep.format == "ushort":
            return deep.numpy().reshape(deep.height, deep.width, deep.bands)
    with Image.open(path) as image:
        return np.asarray(image).reshape(image.height, image.width, -1)


def composite(layers: np.ndarray, ground: int) -> np.ndarray:
    """What one sees of layers with alpha over black (0) or white (1): H W 1 or H W 3, from 0 to 1."""
    layers = layers / np.iinfo(layers.dtype).max
    return layers[..., :-1] * layers[..., -1:] + ground * (1 - layers[..., -1:])


def exif(orientation: int, width: int, height: int) -> bytes:
    """A TIFF structure with an orientation, a maker, the picture's size, and a comment."""
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "Maker"
    tags.get_ifd(0x8769).update({0xA002: width, 0xA003: height, 0x8827: 200, 0x9286: b"ASCII\0\0\0note"})
    return tags.tobytes().removeprefix(b"Exif\0\0")


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """H W L as it has to be stored so that this EXIF orientation shows it as it is."""
    stored = {
        1: values,
        2: values[:, ::-1],
        3: values[::-1, ::-1],
        4: values[::-1],
        5: values.swapaxes(0, 1),
        6: np.rot90(values),
        7: values[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(values, -1),
    }
    return np.ascontiguousarray(stored[orientation])


def ycck(inks: np.ndarray) -> bytes:
    """A JPEG of inks H W 4 whose first three are stored as luma and chroma.

    Pillow stores four channels as they are, and turned over as Adobe does: so they are converted before, and
    the flag that tells what they are is set afterwards.
    """
    converted = np.asarray(Image.fromarray(np.ascontiguousarray(inks[:, :, :3])).convert("YCbCr"))
    stored = np.concatenate([255 - converted, inks[:, :, 3:]], axis=2)
    data = bytearray(pillow(stored, mode="CMYK", format="JPEG", quality=100, subsampling=0))
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    data[at] = 2
    return bytes(data)
