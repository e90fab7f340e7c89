"""The user's object: a network, a device, and pictures of any kind in and out.

Letters:  B batch   H, W height and width   C channels   S scale
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from enlca.checkpoint.catalog import load_with_card
from enlca.errors import EnlcaError
from enlca.image.exif import updated_exif
from enlca.image.files import read_image
from enlca.image.frames import Frames
from enlca.image.picture import Picture
from enlca.inference import matting
from enlca.inference.ensemble import Forward, self_ensemble
from enlca.inference.matting import Layer, Layers, peak_of

DEVICES = ("auto", "cpu", "cuda", "mps")


class DeviceError(EnlcaError):
    """A device that this machine does not have."""


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes a GPU where there is one.

    Raises:
        DeviceError: for an unknown name, or a device that is not here.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if present[kind]))
    if name not in present:
        raise DeviceError(f"unknown device {name!r}; choose from {', '.join(DEVICES)}")
    if not present[name]:
        here = ", ".join(kind for kind in present if present[kind])
        raise DeviceError(f"device {name} is not available on this machine; available: {here}")
    return torch.device(name)


@torch.inference_mode()
def enlarge(
    forward: Forward, rgb: Shaped[np.ndarray, "H W 3"], *, device: torch.device | None = None
) -> Shaped[np.ndarray, "SH SW 3"]:
    """One picture through a network, or a way to apply one; the type that came in comes out.

    Scaled to [0, 1] and clipped; uint8 and uint16 are rounded to their own levels, floats are not.
    """
    if rgb.dtype == np.uint8:
        # A copy, since read-only and mirrored arrays cannot be shared with torch.
        lr = torch.from_numpy(rgb.copy()).to(device).float() / 255
    else:
        # In floats already here: torch knows little of uint16.
        lr = torch.from_numpy(rgb.astype(np.float32)).to(device) / peak_of(rgb)
    sr = forward(lr.permute(2, 0, 1)[None])[0]
    if rgb.dtype == np.uint8:
        return to_uint8(sr).permute(1, 2, 0).contiguous().cpu().numpy()
    levels = sr.clamp(0, 1).mul(peak_of(rgb))
    if rgb.dtype == np.uint16:
        levels = levels.round().to(torch.int32)
    return levels.permute(1, 2, 0).contiguous().cpu().numpy().astype(rgb.dtype)


def to_uint8(picture: Float[Tensor, "*B 3 H W"]) -> UInt8[Tensor, "*B 3 H W"]:
    """[0, 1] to 0..255: clipped, then rounded."""
    return picture.clamp(0, 1).mul(255).round().to(torch.uint8)


class Upscaler:
    """Enlarges pictures: `Upscaler("enlcn-tiny", scale=4)("photo.jpg").save("photo_x4.png")`.

    Args:
        model: a bundled name or a checkpoint file.
        scale: 2, 3 or 4; None is the checkpoint's own (x4 for a name, where there is one).
        device: "auto", "cpu", "cuda" or "mps".
        ensemble: average over the 8 symmetries of a square: a little better, 8 times slower.

    Attributes:
        network: the network, on the device.
        forward: the network, or its self-ensemble.
        scale: how many times larger pictures get.

    Raises:
        CheckpointError: unknown model, or no weights for that scale.
        DeviceError: the device is not available.
    """

    def __init__(
        self,
        model: str | os.PathLike = "enlcn-tiny",
        *,
        scale: int | None = None,
        device: str = "auto",
        ensemble: bool = False,
    ):
        self.device = choose_device(device)
        network, self.card = load_with_card(model, scale)
        self.network = network.to(self.device)
        self.forward: Forward = self_ensemble(self.network) if ensemble else self.network
        self.scale = network.config.scale

    @overload
    def __call__(self, picture: str | os.PathLike | Picture) -> Picture: ...
    @overload
    def __call__(self, picture: Frames) -> Frames: ...
    @overload
    def __call__(self, picture: np.ndarray) -> np.ndarray: ...
    @overload
    def __call__(self, picture: Tensor) -> Tensor: ...
    @overload
    def __call__(self, picture: Any) -> Any: ...
    def __call__(self, picture: Any) -> Any:
        """The enlarged picture, of the kind that came in; a path gives a `Picture`, which has `save`.

        Args:
            picture: a path, a `Picture`, `Frames`, a PIL image, a numpy array (uint8, uint16, or floating
                point in [0, 1]; H W or H W C with 1 to 4 channels), or a torch tensor (float in [0, 1],
                3 H W or B 3 H W).

        Raises:
            PictureError: the file cannot be read.
            TypeError, ValueError: another kind of thing, or a shape or type that is not listed above.
        """
        if isinstance(picture, (str, os.PathLike)):
            return self.picture(read_image(Path(picture), max_bits=16))
        if isinstance(picture, Picture):
            return self.picture(picture)
        if isinstance(picture, Frames):
            return picture.map(self.picture)
        if isinstance(picture, np.ndarray):
            return self._array(picture)
        if isinstance(picture, Tensor):
            return self._tensor(picture)
        if hasattr(picture, "getbands"):
            return self._pil(picture)
        raise TypeError(
            f"cannot enlarge a {type(picture).__name__}; give a path, PIL, numpy or torch picture"
        )

    def picture(self, picture: Picture) -> Picture:
        """Colours and transparency through the network at their own depth; grey stays grey."""
        pixels, alpha = self._layers(picture.pixels, picture.alpha)
        height, width = pixels.shape[:2]
        exif = picture.exif and updated_exif(picture.exif, width=width, height=height)
        return replace(picture, pixels=pixels, alpha=alpha, exif=exif)

    def _layers(self, pixels: Layers, alpha: Layer | None) -> tuple[Layers, Layer | None]:
        """Pixels of 1 or 3 channels and their alpha. Alpha that is the same everywhere is not computed."""
        if alpha is None:
            return self._colours(pixels), None
        if alpha.min() == alpha.max():
            large = self._colours(pixels)
            return large, np.full(large.shape[:2], alpha.flat[0], dtype=alpha.dtype)
        return matting.enlarge_with_alpha(self._colours, pixels, alpha, scale=self.scale)

    def _colours(self, pixels: Layers) -> Layers:
        """Pixels of 1 or 3 channels through the network: the only place where arrays meet it."""
        if (pixels == pixels[:1, :1]).all():
            # The zeros around a picture tint its margin by a few levels, which here nothing would hide.
            return (
                pixels[:1, :1]
                .repeat(self.scale * len(pixels), axis=0)
                .repeat(self.scale * pixels.shape[1], axis=1)
            )
        if pixels.shape[2] == 3:
            return enlarge(self.forward, pixels, device=self.device)
        return _grey(enlarge(self.forward, np.repeat(pixels, 3, axis=2), device=self.device))

    def _array(self, array: np.ndarray) -> np.ndarray:
        if array.dtype not in (np.uint8, np.uint16) and array.dtype.kind != "f":
            allowed = "uint8, uint16 or floating point in [0, 1]"
            raise ValueError(f"numpy pictures must be {allowed}, got {array.dtype}")
        layers = array[..., None] if array.ndim == 2 else array
        if layers.ndim != 3 or layers.shape[2] not in (1, 2, 3, 4) or layers.size == 0:
            raise ValueError(f"numpy pictures must be H W or H W C with 1 to 4 channels, got {array.shape}")
        # Written so that NaN fails too.
        if layers.dtype.kind == "f" and not (layers.min() >= 0 and layers.max() <= 1):
            extremes = f"{layers.min()} to {layers.max()}"
            raise ValueError(f"floating point pictures must lie in [0, 1], got {extremes}")
        has_alpha = layers.shape[2] in (2, 4)
        colours, alpha = (layers[..., :-1], layers[..., -1]) if has_alpha else (layers, None)
        stacked, alpha = self._layers(colours, alpha)
        if alpha is not None:
            stacked = np.concatenate([stacked, alpha[..., None]], axis=2)
        return stacked[..., 0] if array.ndim == 2 else stacked

    def _pil(self, image: Any) -> Any:
        from PIL import Image, ImageOps

        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            # In the byte order of this machine, of which Pillow makes I;16 again.
            result = Image.fromarray(self._array(np.asarray(image).astype(np.uint16)))
        elif image.mode[0] in "IF":
            raise ValueError(f"PIL pictures must have 8 bits per channel, or I;16; got mode {image.mode}")
        else:
            has_alpha = image.mode.endswith(("A", "a")) or "transparency" in image.info
            mode = ("L" if image.mode in ("1", "L", "LA", "La") else "RGB") + ("A" if has_alpha else "")
            result = Image.fromarray(self._array(np.asarray(image.convert(mode))))
        profile = image.info.get("icc_profile")
        # Bytes 16 to 20 name the profile's colour space: that of CMYK does not fit the RGB made of it.
        if profile and profile[16:20] == (b"RGB " if result.mode.startswith("RGB") else b"GRAY"):
            result.info["icc_profile"] = profile
        exif = updated_exif(image.info.get("exif", b""), width=result.width, height=result.height)
        if exif:
            result.info["exif"] = b"Exif\0\0" + exif
        return result

    @torch.no_grad()
    def _tensor(self, pictures: Tensor) -> Tensor:
        if not pictures.is_floating_point():
            raise ValueError(f"torch pictures must be floating point in [0, 1], got {pictures.dtype}")
        batch = pictures if pictures.ndim == 4 else pictures[None]
        if batch.ndim != 4 or batch.shape[1] != 3 or batch.numel() == 0:
            raise ValueError(f"torch pictures must be 3 H W or B 3 H W, got {tuple(pictures.shape)}")
        result = self.forward(batch.to(self.network.mean)).clamp(0, 1).to(pictures)
        return result if pictures.ndim == 4 else result[0]


def _grey(pixels: Shaped[np.ndarray, "H W 3"]) -> Shaped[np.ndarray, "H W 1"]:
    """The mean of three channels that should be equal; whole numbers are rounded."""
    if pixels.dtype.kind == "f":
        return pixels.mean(axis=2, keepdims=True, dtype=np.float32).astype(pixels.dtype)
    return ((pixels.sum(axis=2, keepdims=True, dtype=np.uint32) + 1) // 3).astype(pixels.dtype)
