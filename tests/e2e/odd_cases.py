"""The matrix of odd pictures: each file beside the pixels that it shows, known before it was written."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from odd import (
    bmp,
    levels,
    pillow,
    png,
    pnm,
    profile,
    smooth,
    vips,
    ycck,
)
from PIL import Image, ImageCms

H, W = 13, 19


@dataclass(frozen=True, eq=False, kw_only=True)
class Odd:
    """A file and what becomes of it.

    Attributes:
        data: the file.
        suffix: of its name.
        shown: upright, H W L with alpha last; 8 bits, or 16.
        off: how many levels of 255 a decoder may differ; 0 where nothing is lost.
        said: what the command has to say about it.
    """

    data: bytes
    suffix: str
    shown: np.ndarray
    off: int = 0
    said: str = ""


def seen_by_pillow(data: bytes, mode: str) -> np.ndarray:
    """What an independent reader sees, H W L."""
    with Image.open(io.BytesIO(data)) as image:
        layers = np.asarray(image.convert(mode))
    return layers.reshape(*layers.shape[:2], -1)


def with_key(shown: np.ndarray, key: Any) -> np.ndarray:
    """The colour that counts as transparent turned into alpha."""
    alpha = np.where((shown == key).all(axis=2, keepdims=True), 0, np.iinfo(shown.dtype).max)
    return np.concatenate([shown, alpha.astype(shown.dtype)], axis=2)


def indices(n_colours: int) -> tuple[np.ndarray, np.ndarray]:
    """H W 1 and a palette without any grey."""
    row, column = np.indices((H, W))
    palette = np.random.default_rng(n_colours).integers(0, 256, (n_colours, 3), dtype=np.uint8)
    palette[:, 0] = palette[:, 1] // 2
    return ((row // 2 + column) % n_colours)[..., None].astype(np.uint8), palette


def pngs() -> dict[str, Odd]:
    made: dict[str, Odd] = {}

    def add(name: str, shown: np.ndarray, values: np.ndarray, **settings: Any) -> None:
        for how in ("", " interlaced"):
            data = png(values, interlaced=bool(how), **settings)
            made[f"png {name}{how}"] = Odd(data=data, suffix=".png", shown=shown)

    for bits in (1, 2, 4):
        few = smooth(H, W, 1, bits=bits)
        add(f"grey {bits} bit", levels(few, bits), few, bits=bits)
        which, palette = indices(2**bits)
        add(f"palette {bits} bit", palette[which[..., 0]], which, bits=bits, palette=palette)
    few = smooth(H, W, 1, bits=4)
    key = with_key(levels(few, 4), levels(few[5, 5], 4))
    add("grey 4 bit with a key", key, few, bits=4, transparent=bytes([0, few[5, 5, 0]]))
    which, palette = indices(200)
    opacity = np.linspace(0, 255, 150).astype(np.uint8)
    alpha = np.append(opacity, np.full(50, 255, np.uint8))[which]
    colours = palette[which[..., 0]]
    add("palette 8 bit", colours, which, palette=palette)
    shown = np.concatenate([colours, alpha], axis=2)
    add("palette with transparency", shown, which, palette=palette, transparent=opacity.tobytes())
    for bits in (8, 16):
        for n_layers, name in enumerate(("grey", "grey alpha", "rgb", "rgba"), 1):
            values = smooth(H, W, n_layers, bits=bits)
            add(f"{name} {bits} bit", values, values, bits=bits)
            if n_layers in (1, 3):
                key = values[5, 5]
                transparent = key.astype(">u2").tobytes()
                add(
                    f"{name} {bits} bit with a key",
                    with_key(values, key),
                    values,
                    bits=bits,
                    transparent=transparent,
                )
    values = smooth(H, W, 3)
    pieces = png(values, piece=1, before=[(b"gAMA", b"\0\0\xb1\x8f"), (b"qqQq", b"?")])
    made["png in single bytes with an unknown chunk"] = Odd(data=pieces, suffix=".png", shown=values)
    made["png named jpg"] = Odd(data=png(values), suffix=".jpg", shown=values)
    made["png behind which there is more"] = Odd(data=png(values) + b"more" * 99, suffix=".png", shown=values)
    return made


def jpegs() -> dict[str, Odd]:
    made: dict[str, Odd] = {}
    rgb, grey = smooth(H, W, 3), smooth(H, W, 1)
    ways: dict[str, dict[str, Any]] = {
        "4:4:4": {"subsampling": 0},
        "4:2:0": {"subsampling": 2},
        "progressive": {"progressive": True},
        "restarting": {"restart_marker_blocks": 1},
        "in rgb": {"keep_rgb": True},
        "of quality 1": {"quality": 1},
    }
    for name, settings in ways.items():
        data = pillow(rgb, format="JPEG", **settings)
        made[f"jpeg {name}"] = Odd(data=data, suffix=".jpg", shown=seen_by_pillow(data, "RGB"), off=1)
    for name in ("4:4:4", "progressive"):
        data = pillow(grey, format="JPEG", **ways[name])
        made[f"jpeg grey {name}"] = Odd(data=data, suffix=".jpeg", shown=seen_by_pillow(data, "L"), off=1)
    inks = np.stack([*np.moveaxis(smooth(H, W, 3), 2, 0), np.full((H, W), 20, np.uint8)], axis=2)
    plain = {"mode": "CMYK", "format": "JPEG", "quality": 100, "subsampling": 0}
    # The common profile is libvips' own; through it the colours can be computed by another library.
    convert = ImageCms.buildTransform(
        io.BytesIO(profile("cmyk")),
        ImageCms.createProfile("sRGB"),
        "CMYK",
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    shown = np.asarray(ImageCms.applyTransform(Image.fromarray(inks, "CMYK"), convert))
    said = "CMYK converted to sRGB through a common profile, it has none"
    made["jpeg cmyk"] = Odd(data=pillow(inks, **plain), suffix=".jpg", shown=shown, off=4, said=said)
    made["jpeg ycck"] = Odd(data=ycck(inks), suffix=".jpg", shown=shown, off=4, said=said)
    data, said = (
        pillow(inks, **plain, icc_profile=profile("cmyk")),
        "CMYK converted to sRGB through its profile",
    )
    made["jpeg cmyk with a profile"] = Odd(data=data, suffix=".jpg", shown=shown, off=4, said=said)
    return made


def webps() -> dict[str, Odd]:
    made: dict[str, Odd] = {}
    for n_layers, mode in ((3, "RGB"), (4, "RGBA")):
        values = smooth(H, W, n_layers)
        data = pillow(values, format="WEBP", lossless=True, exact=True)
        made[f"webp {mode} lossless"] = Odd(data=data, suffix=".webp", shown=values)
        data = pillow(values, format="WEBP", quality=90)
        made[f"webp {mode}"] = Odd(data=data, suffix=".webp", shown=seen_by_pillow(data, mode), off=1)
    first = Image.fromarray(smooth(H, W, 3))
    out = io.BytesIO()
    first.save(out, "WEBP", save_all=True, append_images=[first.rotate(180)], lossless=True)
    said = "only the first of 2 frames"
    # Frames have an alpha of their own, which decoders give whether it hides anything or not.
    shown = seen_by_pillow(out.getvalue(), "RGBA")
    made["webp animated"] = Odd(data=out.getvalue(), suffix=".webp", shown=shown, said=said)
    return made


def others() -> dict[str, Odd]:
    made: dict[str, Odd] = {}
    rgb, rgba, grey = smooth(H, W, 3), smooth(H, W, 4), smooth(H, W, 1)

    def add(name: str, data: bytes, shown: np.ndarray, **about: Any) -> None:
        made[name] = Odd(data=data, suffix=f".{name.split()[0]}", shown=shown, **about)

    for bits in (8, 10, 12):
        deep = smooth(H, W, 3, bits=8 if bits == 8 else 16)
        settings = {"compression": "av1", "bitdepth": bits, "subsample_mode": "off"}
        for name, quality in (("", {"Q": 95}), (" lossless", {"lossless": True})):
            add(f"avif {bits} bit{name}", vips(deep).heifsave_buffer(**settings, **quality), deep, off=3)
    add("avif transparent", vips(rgba).heifsave_buffer(compression="av1", lossless=True), rgba, off=2)
    add("avif 4:2:0", data := pillow(rgb, format="AVIF", quality=95), seen_by_pillow(data, "RGB"), off=3)
    for bits in (1, 4, 8):
        which, palette = indices(2**bits)
        add(f"bmp {bits} bit", bmp(which, bits=bits, palette=palette), palette[which[..., 0]])
    every = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    add("bmp grey", bmp(grey, bits=8, palette=every), grey)
    add("bmp 24 bit", bmp(rgb, bits=24), rgb)
    add("bmp 24 bit from the top", bmp(rgb, bits=24, top_down=True), rgb)
    add("bmp 32 bit", bmp(rgba, bits=32), rgb_of(rgba))
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    add("bmp 32 bit with alpha", bmp(rgba, bits=32, masks=masks), rgba)
    five = rgb // 8
    words = (five[..., 0].astype(int) << 10 | five[..., 1].astype(int) << 5 | five[..., 2])[..., None]
    add("bmp 16 bit", bmp(words, bits=16), levels(five, 5))
    runs = b"".join(bytes([W, int(line)]) + b"\0\0" for line in range(H)) + b"\0\1"
    striped = bmp(np.zeros((H, W, 1), np.uint8), bits=8, palette=every, data=runs, method=1)
    add("bmp in runs", striped, np.arange(H, dtype=np.uint8)[::-1, None, None].repeat(W, axis=1))
    ink = smooth(H, W, 1, bits=1)
    add("pbm plain", pnm(ink, kind=1), 255 * (1 - ink))
    add("pbm", pnm(ink, kind=4, comment="# 1 is ink\n"), 255 * (1 - ink))
    for peak, bits in ((255, 8), (65535, 16)):
        for kind, n_layers in ((2, 1), (3, 3), (5, 1), (6, 3)):
            values = smooth(H, W, n_layers, bits=bits)
            add(
                f"{'ppm' if n_layers == 3 else 'pgm'} P{kind} {peak}",
                pnm(values, kind=kind, peak=peak),
                values,
            )
    which, palette = indices(32)
    image = Image.fromarray(which[..., 0], "P")
    image.putpalette(palette.tobytes())
    image.info.clear()
    colours = palette[which[..., 0]]
    hole = np.concatenate([colours, np.where(which == 3, 0, 255).astype(np.uint8)], axis=2)
    for name, shown, settings in (
        ("gif", colours, {}),
        ("gif interlaced", colours, {"interlace": True}),
        ("gif transparent", hole, {"transparency": 3}),
    ):
        image.save(out := io.BytesIO(), "GIF", **settings)
        add(name, out.getvalue(), shown)
    image.save(out := io.BytesIO(), "GIF", save_all=True, append_images=[image.rotate(180), image.rotate(90)])
    add(
        "gif animated",
        data := out.getvalue(),
        seen_by_pillow(data, "RGBA"),
        said="only the first of 3 frames",
    )
    return made


def rgb_of(layers: np.ndarray) -> np.ndarray:
    """Without alpha."""
    return np.ascontiguousarray(layers[:, :, :3])
