"""Pictures of other libraries to arrays H W L and back: the kind that came in goes out.

Letters:  B, N batch   H, W height and width   L layers: 1 or 3 channels, then alpha if there is any   S scale
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped, UInt8
from torch import Tensor

from enlca.image.metadata import update_exif
from enlca.inference.transforms import Forward

UpscaleArray = Callable[[Shaped[np.ndarray, "H W L"]], Shaped[np.ndarray, "SH SW L"]]


def as_layers(array: np.ndarray) -> Shaped[np.ndarray, "H W L"]:
    """Return an array that is a picture with its layers as the last axis.

    Raises:
        ValueError: not uint8, uint16 or floating point in [0, 1]; not H W, nor H W with 1 to 4 layers.
    """
    # Of a subclass such as np.matrix, whose slices keep two axes.
    array = np.asarray(array)
    if array.dtype not in (np.uint8, np.uint16) and array.dtype.kind != "f":
        raise ValueError(
            f"numpy pictures must be uint8, uint16 or floating point in [0, 1], got {array.dtype}"
        )
    layers = array[..., None] if array.ndim == 2 else array
    if layers.ndim != 3 or layers.shape[2] not in (1, 2, 3, 4) or layers.size == 0:
        shapes = "H W or H W C (or N H W C) with 1 to 4 channels"
        raise ValueError(f"numpy pictures must be {shapes}, got {array.shape}")
    # Written so that NaN fails too.
    if layers.dtype.kind == "f" and not (layers.min() >= 0 and layers.max() <= 1):
        raise ValueError(f"floating point pictures must lie in [0, 1], got {layers.min()} to {layers.max()}")
    return layers


def upscale_numpy(upscale: UpscaleArray, array: np.ndarray) -> np.ndarray:
    """Upscale an array, or each of N H W C; the result has as many axes. Raises ValueError (`as_layers`)."""
    if array.ndim == 4 and len(array):
        return np.stack([upscale_numpy(upscale, one) for one in array])
    sr = upscale(as_layers(array))
    return sr[..., 0] if array.ndim == 2 else sr


def upscale_pil(upscale: UpscaleArray, image: Any) -> Any:
    """Upscale a PIL image, turned upright. Raises ValueError: 32 bits per channel, of unknown range."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # In this machine's byte order, of which Pillow makes I;16 again.
        result = Image.fromarray(upscale_numpy(upscale, np.asarray(image).astype(np.uint16)))
    elif image.mode[0] in "IF":
        raise ValueError(f"PIL pictures must have 8 bits per channel, or I;16; got mode {image.mode}")
    else:
        has_alpha = image.mode.endswith(("A", "a")) or "transparency" in image.info
        mode = ("L" if image.mode in ("1", "L", "LA", "La") else "RGB") + ("A" if has_alpha else "")
        result = Image.fromarray(upscale_numpy(upscale, np.asarray(image.convert(mode))))
    profile = image.info.get("icc_profile")
    # Bytes 16 to 20 name the profile's colour space: that of CMYK does not fit the RGB made of it.
    if profile and profile[16:20] == (b"RGB " if result.mode.startswith("RGB") else b"GRAY"):
        result.info["icc_profile"] = profile
    dpi = image.info.get("dpi")
    if dpi:
        result.info["dpi"] = tuple(float(x) * result.width / image.width for x in dpi)
    exif = update_exif(
        image.info.get("exif", b""), width=result.width, height=result.height, dpi=result.info.get("dpi")
    )
    if exif:
        result.info["exif"] = b"Exif\0\0" + exif
    return result


@torch.no_grad()
def upscale_torch(upscale: Forward, pictures: Tensor) -> Tensor:
    """Upscale a tensor 3 H W or B 3 H W; the result has its type and device. Raises ValueError."""
    if pictures.dtype == torch.uint8:
        return to_uint8(upscale_torch(upscale, pictures.float() / 255))
    if not pictures.is_floating_point():
        raise ValueError(f"torch pictures must be floating point in [0, 1], or uint8, got {pictures.dtype}")
    batch = pictures if pictures.ndim == 4 else pictures[None]
    if batch.ndim != 4 or batch.shape[1] != 3 or batch.numel() == 0:
        raise ValueError(f"torch pictures must be 3 H W or B 3 H W, got {tuple(pictures.shape)}")
    # Written so that NaN fails too.
    low, high = torch.aminmax(batch)
    if not (low >= 0 and high <= 1):
        raise ValueError(f"torch pictures must lie in [0, 1], got {float(low):g} to {float(high):g}")
    # A copy: a tensor of inference mode cannot be trained on.
    result = upscale(batch).clone().to(pictures)
    return result if pictures.ndim == 4 else result[0]


def upscale_rgb(
    forward: Forward,
    rgb: UInt8[np.ndarray, "H W 3"] | Float64[np.ndarray, "H W 3"],
    *,
    device: torch.device | None = None,
) -> UInt8[np.ndarray, "SH SW 3"]:
    """Upscale one picture from 0 to 255 as a whole: scaled to [0, 1], the output clipped and rounded."""
    with torch.inference_mode():
        # To float32 before it leaves for a device, which may lack float64.
        lr = torch.from_numpy(rgb.copy()).float().to(device) / 255
        return to_uint8(forward(lr.permute(2, 0, 1)[None])[0]).permute(1, 2, 0).contiguous().cpu().numpy()


def to_uint8(picture: Float[Tensor, "*B 3 H W"]) -> UInt8[Tensor, "*B 3 H W"]:
    """Scale [0, 1] to 0..255: clip, then round."""
    return picture.clamp(0, 1).mul(255).round().to(torch.uint8)
