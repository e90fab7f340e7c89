"""Networks by name, with the paper's settings where the paper has any."""

from collections.abc import Callable
from typing import Any

from enlca.network.sr import SRConfig, SRNetwork


def enlcn(scale: int = 4, **settings: Any) -> SRNetwork:
    """Build the paper's network: 256 channels, 32 blocks, 5 ENLCA blocks; 43.58 M parameters at x4."""
    return SRNetwork(SRConfig(scale=scale, **settings))


def enlcn_light(scale: int = 4, **settings: Any) -> SRNetwork:
    """Build a better network for laptops: 48 channels, 8 residual blocks, 5 of attention, 0.55 M parameters.

    Its attention is exact among neighbours: what whole-picture attention learns at this size is near, and no
    estimate of it at a large k comes close (docs/the_idea.md, "Windows").
    """
    light = {
        "channels": 48,
        "n_blocks": 8,
        "blocks_per_stage": 2,
        "attention": "window",
        # At x4 this takes 8 % less time than 4, for 0.01 to 0.06 dB; x2 and x3 were trained with 4.
        "halo": 2 if scale == 4 else 4,
        "embed_channels": 16,
        "embed_kernel": 3,
        "amplification": 24.0,
        "attention_scale": 0.3,
        # With 1.0, Muon switches the residual blocks off (experiments/LOG.md, 2026-11-29, evening).
        "res_scale": 0.1,
        "upsampler": "direct",
        "skip": "bilinear",
    }
    return SRNetwork(SRConfig(scale=scale, **{**light, **settings}))


def enlcn_tiny(scale: int = 4, **settings: Any) -> SRNetwork:
    """Build a network for laptop CPUs: 32 channels, 8 blocks, 2 ENLCA blocks, under 0.2 M parameters."""
    tiny = {
        "channels": 32,
        "n_blocks": 8,
        "embed_channels": 16,
        "n_features": 64,
        "res_scale": 1.0,
        "upsampler": "direct",
        "skip": "bilinear",
    }
    return SRNetwork(SRConfig(scale=scale, **{**tiny, **settings}))


def edsr(scale: int = 4, **settings: Any) -> SRNetwork:
    """Build the paper's backbone without attention (Lim et al. 2017): the baseline of Tables 2 and 4."""
    return SRNetwork(SRConfig(scale=scale, **{"attention": "none", **settings}))


def nlan(scale: int = 4, **settings: Any) -> SRNetwork:
    """Build the backbone with exact non-local attention (Eq. 1): the row NLA of Table 4."""
    return SRNetwork(SRConfig(scale=scale, **{"attention": "exact", **settings}))


def nlsn(scale: int = 4, **settings: Any) -> SRNetwork:
    """Build NLSN (Mei et al. 2021), the paper's main comparison: the same backbone with NLSA for ENLA.

    Its kernel size and eps are those of NLSN's code; 44.16 M parameters at x4. The contrastive loss does not
    apply: train it with `loss.contrast_weight` 0.
    """
    sparse = {"attention": "lsh", "embed_kernel": 3, "embed_eps": 5e-5}
    return SRNetwork(SRConfig(scale=scale, **{**sparse, **settings}))


NETWORKS: dict[str, Callable[..., SRNetwork]] = {
    "enlcn": enlcn,
    "enlcn-light": enlcn_light,
    "enlcn-tiny": enlcn_tiny,
    "edsr": edsr,
    "nlan": nlan,
    "nlsn": nlsn,
}
