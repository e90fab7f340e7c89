"""Animated PNG: the frames of a file, composed, and a file of frames. (PNG, third edition, 11.3.4.3)

A frame is the picture data of an ordinary PNG inside chunks of another name, so both directions only move
chunks: libvips decodes and encodes each frame as a file of its own.

Letters:  H, W height and width   L layers: 1 or 3 channels, then alpha if there is any
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Shaped

from enlca.image.decoding import rows_with_vips
from enlca.image.metadata import png_chunks
from enlca.image.rows import PictureRows, check_pixels, count_colours, damage_error, stack_bands
from enlca.image.source import Source

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What becomes of a frame's place before the next one, and how a frame is put there.
KEEP, CLEAR, RESTORE = 0, 1, 2
REPLACE, OVER = 0, 1
# Width, height, left, top, delay (numerator, denominator), dispose, blend.
_CONTROL = ">IIIIHHBB"
# Chunks that end the header, and those in it that decide how pixels are decoded.
_PIXELS = (b"IDAT", b"IEND")
_NEEDED = (b"PLTE", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"sBIT")


class Frame(NamedTuple):
    """A frame: its place on the canvas, milliseconds, what becomes of it, and its chunks of picture data."""

    width: int
    height: int
    left: int
    top: int
    delay: int
    dispose: int
    blend: int
    first: int


def open_frames(
    source: Source, n_frames: int, *, max_bits: int, max_pixels: int, salvage: bool = False
) -> PictureRows:
    """Open the frames as they are shown, one below the other; each is decoded when it is iterated over.

    `salvage`: takes the frames that there are, and what decodes of them.

    Raises:
        PictureError: as `files.open_image`.
        OSError: the file cannot be read.
    """
    width, height = struct.unpack(">II", source.read_at(16, 8))
    check_pixels(source, width, height * n_frames, max_pixels)
    frames, loop = _frames(source, n_frames, width, height, salvage=salvage)
    limits = {"max_bits": max_bits, "max_pixels": max_pixels}
    still = rows_with_vips(source, salvage=salvage, **limits)
    # The canvas is transparent before the first frame; after it, what the frame says.
    first = frames[0]
    is_bare = (first.width, first.height) != (width, height) or first.dispose == RESTORE
    has_alpha = still.has_alpha or is_bare or any(frame.dispose == CLEAR for frame in frames)

    def bands() -> Iterator[np.ndarray]:
        canvas = np.zeros((height, width, still.channels + 1), still.dtype)
        for frame in frames:
            place = canvas[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width]
            before = place.copy()
            _put(place, _decoded(source, frame, max_bits, salvage=salvage), frame.blend)
            yield canvas.copy() if has_alpha else canvas[:, :, :-1].copy()
            if frame.dispose != KEEP:
                place[:] = before if frame.dispose == RESTORE else 0

    return replace(
        still,
        # An orientation would turn the canvas, which is not done to animations.
        width=width,
        height=height,
        bands=bands(),
        has_alpha=has_alpha,
        alpha_is_visible=True,
        pages=len(frames),
        delays=tuple(frame.delay for frame in frames),
        loop=loop,
    )


def _frames(
    source: Source, n_frames: int, width: int, height: int, *, salvage: bool
) -> tuple[list[Frame], int]:
    """Return all frames, and how many times they are shown."""
    frames: list[Frame] = []
    loop, head = 0, None
    for kind, at, size in png_chunks(source.read_at):
        if kind == b"acTL" and size == 8:
            loop = struct.unpack(">I", source.read_at(at + 4, 4))[0]
        elif kind == b"fcTL" and size == 26:
            head = struct.unpack(_CONTROL, source.read_at(at + 4, 22))
        elif kind in (b"IDAT", b"fdAT") and head is not None:
            wide, high, left, top, above, below, dispose, blend = head
            if not (0 < wide <= width - left and 0 < high <= height - top) or dispose > 2 or blend > 1:
                raise damage_error(source, f"frame {len(frames) + 1} does not fit into the picture")
            delay = round(1000 * above / (below or 100))
            frames.append(Frame(wide, high, left, top, delay, dispose, blend, at - 8))
            head = None
            if len(frames) == n_frames:
                return frames, loop
    if salvage and frames:
        return frames, loop
    raise damage_error(source, f"{len(frames)} of {n_frames} frames")


def _decoded(source: Source, frame: Frame, max_bits: int, *, salvage: bool) -> Shaped[np.ndarray, "h w L"]:
    """Decode a frame as a file of its own."""
    head, data = [], []
    for kind, at, size in png_chunks(source.read_at):
        if kind in _PIXELS:
            break
        if kind == b"IHDR":
            rest = source.read_at(at + 8, 5)
            head.append(chunk_of(kind, struct.pack(">II", frame.width, frame.height) + rest))
        elif kind in _NEEDED:
            head.append(chunk_of(kind, source.read_at(at, size)))
    for kind, at, size in png_chunks(source.read_at, frame.first):
        if kind == b"IDAT":
            data.append(source.read_at(at, size))
        elif kind == b"fdAT" and size >= 4:
            data.append(source.read_at(at + 4, size - 4))
        else:
            break
    whole = SIGNATURE + b"".join(head) + chunk_of(b"IDAT", b"".join(data)) + chunk_of(b"IEND", b"")
    rows = rows_with_vips(Source.of(whole, name=str(source)), max_bits=max_bits, salvage=salvage)
    return stack_bands(rows.bands, (rows.height, rows.width, rows.layers), rows.dtype)


def _put(place: Shaped[np.ndarray, "h w L"], pixels: Shaped[np.ndarray, "h w l"], blend: int) -> None:
    """Put a frame into its place, whose last layer is alpha; colours are not premultiplied."""
    peak = np.iinfo(place.dtype).max
    n_colours = count_colours(pixels.shape[2])
    colours = pixels[:, :, :n_colours]
    if pixels.shape[2] == n_colours or blend == REPLACE:
        place[:, :, :-1] = colours
        place[:, :, -1] = pixels[:, :, -1] if pixels.shape[2] > n_colours else peak
        return
    above, below = (layers[:, :, -1:] / peak for layers in (pixels, place))
    alpha = above + below * (1 - above)
    mixed = colours * above + place[:, :, :-1] * below * (1 - above)
    place[:, :, :-1] = np.rint(mixed / np.maximum(alpha, 1e-9))
    place[:, :, -1:] = np.rint(alpha * peak)


def write(file: BinaryIO, stills: Iterable[bytes], *, delays: Sequence[int], loop: int) -> None:
    """Write an animation of PNG files of one size and kind, with the metadata of the first."""
    sequence, after = 0, b""
    for number, (still, delay) in enumerate(zip(stills, delays, strict=True)):
        chunks = [*png_chunks(Source.of(still).read_at)]
        width, height = struct.unpack(">II", still[16:24])
        # 16 bits each: what is longer than 65 s loses its milliseconds.
        part = (delay, 1000) if delay < 1 << 16 else (min(delay // 1000, 0xFFFF), 1)
        control = struct.pack(">I", sequence)
        control += struct.pack(_CONTROL, width, height, 0, 0, *part, KEEP, REPLACE)
        sequence += 1
        data = [still[at : at + size] for kind, at, size in chunks if kind == b"IDAT"]
        if number == 0:
            first = next(at for kind, at, _ in chunks if kind == b"IDAT")
            others = [(at, still[at - 8 : at + size + 4]) for kind, at, size in chunks if kind not in _PIXELS]
            head, *early = (whole for at, whole in others if at < first)
            file.write(SIGNATURE + head)
            file.write(chunk_of(b"acTL", struct.pack(">II", len(delays), loop)))
            file.writelines(early)
            after = b"".join(whole for at, whole in others if at > first)
            file.write(chunk_of(b"fcTL", control))
            file.writelines(chunk_of(b"IDAT", part) for part in data)
            continue
        file.write(chunk_of(b"fcTL", control))
        for piece in data:
            file.write(chunk_of(b"fdAT", struct.pack(">I", sequence) + piece))
            sequence += 1
    file.write(after + chunk_of(b"IEND", b""))


def chunk_of(kind: bytes, data: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
