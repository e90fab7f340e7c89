"""ENLCN and its variants (Fig. 3): a list of local and global stages between a head and an upsampler.

    LR --head--> [global, local] ... , global --fuse, + head--> upsampler --> SR

A *local* stage is `blocks_per_stage` residual blocks: an output pixel depends on a few neighbours. A *global*
stage is a non-local block: an output pixel depends on all positions, but only through one small summary.
Exact streaming iterates over `SRNetwork.body` and treats the two kinds differently.

Letters:  B batch   H, W height and width of the LR image   S scale
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from enlca.attention.block import (
    ATTENDS,
    FLOOR_NEEDS_POSITIVE,
    KINDS_OF_FEATURES,
    SMALLEST_EPS,
    Embeddings,
    NonLocalBlock,
)
from enlca.attention.cutting import SCORES
from enlca.attention.window import WINDOWS
from enlca.attention.workspace import CHUNK
from enlca.network.interface import SRModel
from enlca.network.layers import UPSAMPLERS, ResBlock, conv3x3, widest_elements

SCALES = (2, 3, 4)
SKIPS = ("none", "bilinear")
# Of channels, blocks, features and the like: beyond any network, within any memory.
MOST, MOST_KERNEL = 1 << 16, 255
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
METHODS = {"linear": "ENLCN", "exact": "NLAN", "lsh": "NLSN", "window": "WAN", "none": "EDSR"}
# Queries that meet CHUNK keys at a time where exact attention is computed in parts: 16 MiB of scores.
QUERIES = 1024


@dataclass(frozen=True, kw_only=True)
class SRConfig:
    """Everything needed to rebuild a network. Stored as JSON inside every checkpoint.

    The defaults are the paper's ENLCN.

    Args:
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps.
        n_blocks: residual blocks in all.
        blocks_per_stage: residual blocks between two non-local blocks.
        attention: "linear" (ENLA), "exact" (non-local attention), "window" (exact among neighbours), "lsh"
            (NLSA) or "none" (EDSR).
        embed_channels: channels of q and k (the paper's c).
        amplification: the paper's k.
        n_features: the paper's m.
        features: "positive" (the paper's), or "centred", "balanced" or "sharp", which are fitted to the
            picture; see `attention/sharp.py`. "linear" only.
        embed_kernel: kernel size of the embedding convolutions; see `Embed`.
        embed_eps: smallest length that q and k are divided by; released code 5e-5.
        feature_floor: added to each random feature; released code 1e-4.
        n_hashes: rounds of hashing; "lsh" only.
        chunk: positions of a chunk; "lsh" only.
        window: side of a window of queries; "window" only.
        halo: positions around a window whose keys its queries meet; "window" only.
        res_scale: weight of each residual block's branch.
        attention_scale: weight of each non-local block's branch.
        upsampler: "stepwise" (EDSR's) or "direct" (one pixel shuffle).
        skip: "bilinear" adds the bilinearly upscaled input to the output; "none" is the paper's.
        mean: RGB mean of the training images, in [0, 1].

    Raises:
        ValueError: for invalid values.
    """

    scale: int
    channels: int = 256
    n_blocks: int = 32
    blocks_per_stage: int = 8
    attention: str = "linear"
    embed_channels: int = 64
    amplification: float = 6.0
    n_features: int = 128
    features: str = "positive"
    embed_kernel: int = 1
    embed_eps: float = 1e-12
    feature_floor: float = 0.0
    n_hashes: int = 4
    chunk: int = 144
    window: int = 8
    halo: int = 4
    res_scale: float = 0.1
    attention_scale: float = 0.1
    upsampler: str = "stepwise"
    skip: str = "none"
    mean: tuple[float, float, float] = DIV2K_MEAN

    def __post_init__(self):
        choices = {
            "scale": SCALES,
            "attention": ("none", *sorted(ATTENDS)),
            "features": KINDS_OF_FEATURES,
            "upsampler": tuple(UPSAMPLERS),
            "skip": SKIPS,
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                names = ", ".join(map(str, allowed))
                raise ValueError(f"{field} must be one of {names}; got {getattr(self, field)!r}")
        counts = ("channels", "n_blocks", "blocks_per_stage", "embed_channels", "n_features")
        for field in (*counts, "n_hashes", "chunk", "window"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
            if getattr(self, field) > MOST:
                raise ValueError(f"{field} must be at most {MOST}, got {getattr(self, field)}")
        if not 0 < self.amplification < math.inf:
            raise ValueError(f"amplification must be positive, got {self.amplification}")
        if not SMALLEST_EPS <= self.embed_eps < math.inf:
            raise ValueError(f"embed_eps must be finite and at least {SMALLEST_EPS}, got {self.embed_eps}")
        if not 0 <= self.feature_floor < math.inf:
            raise ValueError(f"feature_floor must be finite and not negative, got {self.feature_floor}")
        for value in (self.res_scale, self.attention_scale, *self.mean):
            if not math.isfinite(value):
                raise ValueError(f"res_scale, attention_scale and mean must be finite, got {value}")
        if not 0 <= self.halo <= MOST:
            raise ValueError(f"halo must be 0 to {MOST}, got {self.halo}")
        if self.features != "positive" and self.feature_floor > 0:
            raise ValueError(FLOOR_NEEDS_POSITIVE.format(self.features))
        if self.embed_kernel % 2 == 0 or not 0 < self.embed_kernel <= MOST_KERNEL:
            raise ValueError(f"embed_kernel must be odd, from 1 to {MOST_KERNEL}; got {self.embed_kernel}")
        if self.n_blocks % self.blocks_per_stage:
            raise ValueError(
                f"n_blocks ({self.n_blocks}) must be a multiple of blocks_per_stage ({self.blocks_per_stage})"
            )
        if len(self.mean) != 3:
            raise ValueError(f"mean must have 3 values, one for each colour; got {self.mean}")

    @property
    def widest(self) -> int:
        """The largest of the sides of the tensors that the settings name."""
        sides = {"none": (), "linear": (self.embed_channels, self.n_features)}
        return max(self.channels, *sides.get(self.attention, (self.embed_channels,)), 1)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SRConfig":
        """Rebuild a config from `to_dict`; fields that are missing get their defaults, except `scale`.

        Raises:
            ValueError: for fields that this version does not know or of another type, or without `scale`.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"unknown network settings {unknown}; this version knows {sorted(known)}")
        if "scale" not in values:
            raise ValueError("network settings lack 'scale'")
        allowed: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,)}
        for field in dataclasses.fields(cls):
            value, kinds = values.get(field.name, field.default), allowed.get(field.type)
            if kinds and not isinstance(value, kinds):
                raise ValueError(f"{field.name} must be of type {kinds[-1].__name__}, got {value!r}")
        mean = values.get("mean", DIV2K_MEAN)
        numbers = isinstance(mean, (list, tuple)) and all(type(x) in (int, float) for x in mean)
        if not numbers or len(mean) != 3:
            raise ValueError(f"mean must be three numbers, got {str(mean)[:80]}")
        # JSON has no tuples.
        return cls(**{**values, "mean": tuple(mean)})


class SRNetwork(SRModel):
    """Upscale RGB images in [0, 1] by `config.scale`.

    Attributes:
        head: convolution from RGB to features.
        body: the stages, in order: `NonLocalBlock` (global) or `nn.Sequential` of `ResBlock` (local).
        fuse: convolution after the last stage; the head's output is added to it.
        upsampler: from LR features to the SR image.
    """

    mean: Tensor

    def __init__(self, config: SRConfig):
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.register_buffer("mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.head = conv3x3(3, config.channels)
        self.body = nn.ModuleList()
        for _ in range(config.n_blocks // config.blocks_per_stage):
            self._append_global()
            blocks = (
                ResBlock(config.channels, res_scale=config.res_scale) for _ in range(config.blocks_per_stage)
            )
            self.body.append(nn.Sequential(*blocks))
        self._append_global()
        self.fuse = conv3x3(config.channels, config.channels)
        self.upsampler = UPSAMPLERS[config.upsampler](config.scale, config.channels)

    def _append_global(self) -> None:
        config = self.config
        if config.attention != "none":
            self.body.append(
                NonLocalBlock(
                    config.channels,
                    attend=config.attention,
                    dim=config.embed_channels,
                    amplification=config.amplification,
                    n_features=config.n_features,
                    features=config.features,
                    res_scale=config.attention_scale,
                    kernel_size=config.embed_kernel,
                    eps=config.embed_eps,
                    floor=config.feature_floor,
                    n_hashes=config.n_hashes,
                    chunk=config.chunk,
                    window=config.window,
                    halo=config.halo,
                )
            )

    @property
    def name(self) -> str:
        """The method's name in the literature."""
        return METHODS[self.config.attention]

    @property
    def streamable(self) -> bool:
        """Whether each global stage reads only sums over positions, which tiles can contribute to."""
        return self.config.attention != "lsh"

    @property
    def fits_features(self) -> bool:
        """Whether each global stage takes statistics of the whole picture before its summary."""
        return self.config.attention == "linear" and self.config.features != "positive"

    @property
    def elements_per_pixel(self) -> int:
        """Tensor elements alive for each LR pixel at the widest point of a forward pass."""
        channels = self.config.channels
        return channels + max(self.stage_elements, channels + widest_elements(self.upsampler))

    @property
    def stage_elements(self) -> int:
        """Tensor elements alive for each position of a stage.

        A residual block: input, two copies of it inside the branch, the sum, and copies for one convolution.
        Attention: the features, the values as maps and as positions, the output in parts and put together;
        features that are fitted to the picture map the keys once more.
        """
        config = self.config
        embedding = 0 if config.attention == "none" else 8 * config.embed_channels
        mapped = config.embed_channels if self.fits_features else 0
        return 8 * config.channels + embedding + mapped

    @property
    def attention_reach(self) -> int:
        """Positions around a tile that a non-local block computes beside it when it is streamed."""
        config = self.config
        if config.attention == "none":
            return 0
        beside = 2 * config.window - 1 + config.halo if config.attention == "window" else 0
        return beside + config.embed_kernel // 2

    @property
    def workspace_elements(self) -> int:
        """Tensor elements that attention needs whatever the size of the image."""
        config = self.config
        queries, keys = config.window**2, (config.window + 2 * config.halo) ** 2
        # Scores twice; keys and values of the windows with and without their padding.
        windows = max(WINDOWS, SCORES * torch.get_num_threads() // (queries * keys)) * (
            2 * queries * keys + (3 * keys + queries) * (config.embed_channels + config.channels)
        )
        return {"linear": 4 * config.n_features * CHUNK, "exact": 4 * QUERIES * CHUNK, "window": windows}.get(
            config.attention, 0
        )

    @property
    def parts_to_compile(self) -> list[nn.Module]:
        """The convolutions, part by part, so that streamed tiles gain; attention is not compiled."""
        stages = [stage.embed if isinstance(stage, NonLocalBlock) else stage for stage in self.body]
        return [self.head, self.fuse, self.upsampler, *stages]

    @property
    def non_local_blocks(self) -> list[NonLocalBlock]:
        """The global stages, in order; empty without attention."""
        return [stage for stage in self.body if isinstance(stage, NonLocalBlock)]

    def forward(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Return the SR images; values may leave [0, 1] slightly."""
        return self.forward_with_embeddings(lr)[0]

    def forward_with_embeddings(
        self, lr: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B 3 SH SW"], list[Embeddings]]:
        """Return the SR images and each non-local block's embeddings, for the contrastive loss."""
        embeddings = []
        head = self.head(lr - self.mean)
        x = head
        for stage in self.body:
            if isinstance(stage, NonLocalBlock):
                x, qkv = stage.forward_with_embeddings(x)
                embeddings.append(qkv)
            else:
                x = stage(x)
        sr = self.upsampler(head + self.fuse(x))
        return sr + self._baseline(lr), embeddings

    def _baseline(self, lr: Tensor) -> Tensor:
        """Return what the upsampler's output is added to: the mean colour or the upscaled input."""
        if self.config.skip == "none":
            return self.mean
        return interpolate(lr, scale_factor=float(self.config.scale), mode="bilinear", align_corners=False)

    def redraw_(self, generator: torch.Generator) -> None:
        """Redraw the random features of every attention: an event of training ("every epoch")."""
        for module in self.modules():
            if (redraw := getattr(module, "redraw_", None)) and module is not self:
                redraw(generator)
