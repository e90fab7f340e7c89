"""ENLA as two differentiable operations: `summarise` and `read`, by the kernels that are asked for.

A kernel is a module with the four functions of `blocks.py`: the two steps and their gradients. They are
reached in two ways that compute the same: as `torch.autograd.Function` where PyTorch runs eagerly, and as
custom operators where it compiles, so that a compiler sees two operations instead of loops over positions.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
"""

from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention import blocks
from enlca.attention.room import empty_output

KERNELS = ("torch", "triton")


def usable(projection: Float[Tensor, "M D"]) -> bool:
    """Whether the operations here may be used; otherwise the formulas of `linear.py` are what is wanted.

    An exported graph has to consist of PyTorch's own operations, for any N; and only the formulas have a
    gradient with respect to F.
    """
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    wanted = projection.requires_grad and torch.is_grad_enabled()
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return not (exporting() or tracing or wanted)


def full_precision(u: Tensor) -> AbstractContextManager[object]:
    """Out of the reach of autocast. Nothing at all where there is none: exported graphs would show it."""
    kind = u.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def summarise(
    k: Float[Tensor, "B D N"],
    v: Float[Tensor, "B E N"],
    projection: Float[Tensor, "M D"],
    *,
    floor: float,
    kernel: str,
) -> tuple[Float[Tensor, "B M E"], Float[Tensor, "B M"]]:
    """`mean` and `log_total` (see `linear.KeyValueSummary`), in at least float32.

    Raises:
        ValueError: for an unknown kernel, or inputs that it cannot take.
    """
    if torch.compiler.is_compiling():
        return _summarise(k, v, projection, floor, kernel)
    if not torch.is_grad_enabled():
        return _summarise_now(k, v, projection, floor, kernel)
    return _Summarise.apply(k, v, projection, floor, kernel)


def read(
    q: Float[Tensor, "B D N"],
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M"],
    projection: Float[Tensor, "M D"],
    *,
    floor: float,
    kernel: str,
) -> Float[Tensor, "B E N"]:
    """What each query sees of a summary, in q's type.

    Raises:
        ValueError: for an unknown kernel, or inputs that it cannot take.
    """
    dtype = torch.promote_types(torch.promote_types(q.dtype, torch.float32), mean.dtype)
    mean, log_total = mean.to(dtype), log_total.to(dtype)
    if torch.compiler.is_compiling():
        return _read(q, mean, log_total, projection, floor, kernel)
    if not torch.is_grad_enabled():
        return _read_now(q, mean, log_total, projection, floor, kernel)
    return _Read.apply(q, mean, log_total, projection, floor, kernel)


def _kernel(name: str) -> ModuleType:
    if name == "torch":
        return blocks
    if name == "triton":
        from enlca.attention import kernels

        return kernels
    raise ValueError(f"unknown kernel {name!r}; choose from {list(KERNELS)}")


def _summarise_now(
    k: Tensor, v: Tensor, projection: Tensor, floor: float, kernel: str
) -> tuple[Tensor, Tensor]:
    with full_precision(k):
        return _kernel(kernel).summarise_forward(k, v, projection, floor)


_summarise = torch.library.custom_op("enlca::summarise", _summarise_now, mutates_args=())


@_summarise.register_fake
def _(k: Tensor, v: Tensor, projection: Tensor, floor: float, kernel: str) -> tuple[Tensor, Tensor]:
    sizes = k.shape[0], projection.shape[0]
    dtype = torch.promote_types(k.dtype, torch.float32)
    return k.new_empty(*sizes, v.shape[1], dtype=dtype), k.new_empty(*sizes, dtype=dtype)


@torch.library.custom_op("enlca::summarise_backward", mutates_args=())
def _summarise_backward(
    g_mean: Tensor,
    g_log_total: Tensor,
    k: Tensor,
    v: Tensor,
    projection: Tensor,
    mean: Tensor,
    log_total: Tensor,
    floor: float,
    kernel: str,
) -> tuple[Tensor, Tensor]:
    with full_precision(k):
        gradients = _kernel(kernel).summarise_backward
        return gradients(g_mean, g_log_total, k, v, projection, mean, log_total, floor)


@_summarise_backward.register_fake
def _(g_mean: Tensor, g_log_total: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(k), torch.empty_like(v)


def _keep_of_summarise(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.floor, ctx.kernel = inputs
    ctx.save_for_backward(*tensors, *output)


def _gradients_of_summarise(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _summarise_backward(*upstream, *ctx.saved_tensors, ctx.floor, ctx.kernel)
    return *gradients, None, None, None


def _read_now(
    q: Tensor, mean: Tensor, log_total: Tensor, projection: Tensor, floor: float, kernel: str
) -> Tensor:
    with full_precision(q):
        return _kernel(kernel).read_forward(q, mean, log_total, projection, floor)


_read = torch.library.custom_op("enlca::read", _read_now, mutates_args=())


@_read.register_fake
def _(q: Tensor, mean: Tensor, *_: Any) -> Tensor:
    return empty_output(q, mean)


@torch.library.custom_op("enlca::read_backward", mutates_args=())
def _read_backward(
    g_y: Tensor,
    q: Tensor,
    mean: Tensor,
    log_total: Tensor,
    projection: Tensor,
    floor: float,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:
    with full_precision(q):
        return _kernel(kernel).read_backward(g_y, q, mean, log_total, projection, floor)


@_read_backward.register_fake
def _(g_y: Tensor, q: Tensor, mean: Tensor, log_total: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(mean), torch.empty_like(log_total)


def _keep_of_read(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.floor, ctx.kernel = inputs
    ctx.save_for_backward(*tensors)


def _gradients_of_read(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
    return *_read_backward(*upstream, *ctx.saved_tensors, ctx.floor, ctx.kernel), None, None, None


_summarise.register_autograd(_gradients_of_summarise, setup_context=_keep_of_summarise)
_read.register_autograd(_gradients_of_read, setup_context=_keep_of_read)


def _refuse_second_derivatives() -> None:
    # Only `create_graph=True` enables gradients here. The result would count as a constant, without a word.
    if torch.is_grad_enabled():
        raise RuntimeError(
            "LinearAttend has no second derivative; what it stands for has one: `summarise` and `read` of"
            " enlca.attention.linear on `log_features`"
        )


class _Summarise(torch.autograd.Function):
    """`_summarise` without the dispatcher: its cost, and what counts operations can look inside.

    What to keep is said in `forward` itself: beside a `setup_context`, PyTorch looks up forward's signature
    in each call, which takes as long as a block of positions.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        output = _summarise_now(*inputs)
        _keep_of_summarise(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        return _gradients_of_summarise(ctx, *upstream)


class _Read(torch.autograd.Function):
    """`_read` without the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _read_now(*inputs)
        _keep_of_read(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        return _gradients_of_read(ctx, *upstream)
