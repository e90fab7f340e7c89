"""The methods that `attention_speed` compares, as functions without arguments, and their check."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.released import ReleasedAttend
from enlca.attention.exact import ExactAttend, dense_attention
from enlca.attention.features import log_features
from enlca.attention.linear import LinearAttend, read, summarise
from enlca.attention.lsh import LSHAttend

C, M, AMPLIFICATION = 64, 128, 6.0
FLOOR_CHUNK = 2048
Works = dict[str, Callable[[], Any]]


class Inputs:
    """q, k (of length sqrt(6)) and v at `n` positions, and the modules."""

    def __init__(self, n: int, m: int = M, *, device: str = "cpu"):
        generator = torch.Generator().manual_seed(1)
        q, k, v = (torch.randn(1, C, n, generator=generator) for _ in range(3))
        for u in (q, k):
            u.mul_(AMPLIFICATION**0.5 / u.norm(dim=1, keepdim=True))
        self.q, self.k, self.v = (u.to(device) for u in (q, k, v))
        self.ours = LinearAttend(C, n_features=m, generator=generator).to(device)
        self.released = ReleasedAttend(self.ours.projection)
        self.nlsa = LSHAttend(n_hashes=4, chunk=144).to(device)
        side = int(n**0.5)
        self.picture = torch.randn(1, C, side, max(1, n // side), generator=generator).to(device)
        self.conv = nn.Conv2d(C, C, 3, padding=1).to(device)

    @property
    def qkv(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.q, self.k, self.v

    def products(self, chunk: int) -> Callable[[], Tensor]:
        """Return phi(K) V^T and (.)^T phi(Q), `chunk` positions at a time: no shifts, sums or divisions."""
        f, n = self.ours.projection, self.q.shape[-1]
        q, k, v = (u[0] for u in self.qkv)
        phi = f.new_empty(min(chunk, n) * len(f))
        sums, y = f.new_empty(len(f), C), torch.empty_like(v)
        chunks = [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]

        def work() -> Tensor:
            sums.zero_()
            for at in chunks:
                here = phi[: len(f) * (at.stop - at.start)].view(len(f), -1)
                torch.mm(f, k[:, at], out=here).exp_()
                sums.addmm_(here, v[:, at].mT)
            for at in chunks:
                here = phi[: len(f) * (at.stop - at.start)].view(-1, len(f))
                torch.mm(q[:, at].mT, f.mT, out=here).exp_()
                torch.mm(sums.mT, here.mT, out=y[:, at])
            return y

        return work


def _chosen(works: Works, only: Collection[str], without: Collection[str]) -> Works:
    return {name: work for name, work in works.items() if name not in without and (not only or name in only)}


def forward_works(inputs: Inputs, *, only: Collection[str] = (), without: Collection[str] = ()) -> Works:
    def work(module: nn.Module, *arguments: Tensor) -> Callable[[], Any]:
        return torch.inference_mode()(lambda: module(*arguments))

    n = inputs.q.shape[-1]
    floors: dict[str, int] = {"floor": FLOOR_CHUNK, "products": n}
    return _chosen(
        {
            "exact": work(ExactAttend(), *inputs.qkv),
            "nlsa": work(inputs.nlsa, *inputs.qkv),
            "released": work(inputs.released, *inputs.qkv),
            "ours": work(inputs.ours, *inputs.qkv),
            "conv3x3": work(inputs.conv, inputs.picture),
            **{
                name: torch.inference_mode()(inputs.products(chunk))
                for name, chunk in floors.items()
                if name not in without and (not only or name in only)
            },
        },
        only,
        without,
    )


def gradient_works(inputs: Inputs, *, only: Collection[str] = (), without: Collection[str] = ()) -> Works:
    """Return forward and backward passes, to q, k and v (to the input, for the convolution)."""
    qkv = [u.clone().requires_grad_() for u in inputs.qkv]
    picture = inputs.picture.clone().requires_grad_()

    def work(module: nn.Module, *arguments: Tensor) -> Callable[[], Any]:
        upstream = torch.ones_like(arguments[-1])
        return lambda: torch.autograd.grad(module(*arguments), arguments, upstream)

    return _chosen(
        {
            "exact": work(ExactAttend(), *qkv),
            "nlsa": work(inputs.nlsa, *qkv),
            "released": work(inputs.released, *qkv),
            "ours": work(inputs.ours, *qkv),
            "conv3x3": work(inputs.conv.requires_grad_(False), picture),
        },
        only,
        without,
    )


def check(device: str) -> None:
    """Check that all methods compute what they should, before they are timed.

    Raises:
        RuntimeError: if ours differs from its formulas, or the released twin from ours with the same floor,
            in value or gradient; or exact attention from its dense form, or the floor from the products.
    """
    inputs = Inputs(4801, device=device)
    q, k, v = (u.requires_grad_() for u in inputs.qkv)
    f, ours = inputs.ours.projection, inputs.ours

    def results(y: Tensor) -> list[Tensor]:
        upstream = torch.linspace(-1, 1, y.numel(), device=y.device).view(y.shape)
        return [y, *torch.autograd.grad(y, (q, k, v), upstream)]

    def compare(what: str, mine: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
        for a, b in zip(mine, theirs, strict=True):
            if (a - b).abs().max() > tolerance * b.abs().max():
                raise RuntimeError(f"{what}: nothing to report")

    for floor in (0.0, 1e-4):
        ours.floor = floor
        image = summarise(log_features(k.double(), f, floor=floor), v.double())
        formulas = read(log_features(q.double(), f, floor=floor), image).float()
        compare("ours is not what the formulas say", results(ours(q, k, v)), results(formulas), 1e-5)
    released = results(inputs.released(q, k, v))
    compare("the released twin computes something else", released, results(ours(q, k, v)), 1e-4)
    exact = [ExactAttend()(q, k, v)]
    compare("exact attention is not exact", exact, [dense_attention(q, k, v)], 1e-4)
    with torch.no_grad():
        phi_q, phi_k = ((f @ u[0]).exp() for u in (q, k))
        expected = v[0] @ phi_k.mT @ phi_q
        for chunk in (FLOOR_CHUNK, 4801):
            compare("the floor has other products", [inputs.products(chunk)()], [expected], 1e-4)
