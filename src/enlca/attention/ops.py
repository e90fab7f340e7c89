"""ENLA as two differentiable operations, `summarise` and `read`, on top of a kernel: plain PyTorch or Triton.

A kernel is a module with four functions: the two steps and their gradients (see `chunked.py`). They are
reached in two ways that compute the same: as `torch.autograd.Function` in eager mode, and as custom operators
under `torch.compile`, which then sees two operations instead of loops over positions.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
"""

from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention import chunked
from enlca.attention.workspace import empty_output

KERNELS = ("torch", "triton")


def are_allowed(projection: Float[Tensor, "M D"]) -> bool:
    """Return whether these operations may be used; if not, use the functions of `linear.py`.

    An exported graph must consist of PyTorch's own operations, for any N; and only the functions have a
    gradient with respect to F.
    """
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    learned = projection.requires_grad and torch.is_grad_enabled()
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return not (exporting() or tracing or learned)


def autocast_disabled(u: Tensor) -> AbstractContextManager[object]:
    """Disable autocast on the device of `u`; do nothing if it is off: exported graphs would show it."""
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
    """Return `mean` and `log_total` (see `linear.KeyValueSummary`), in at least float32.

    Raises:
        ValueError: for an unknown kernel, or inputs that it does not support.
    """
    if torch.compiler.is_compiling():
        return _summarise_op(k, v, projection, floor, kernel)
    if not torch.is_grad_enabled():
        return _summarise(k, v, projection, floor, kernel)
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
    """Return attention's output at each query of a summary, in q's type.

    Raises:
        ValueError: for an unknown kernel, or inputs that it does not support.
    """
    dtype = torch.promote_types(torch.promote_types(q.dtype, torch.float32), mean.dtype)
    mean, log_total = mean.to(dtype), log_total.to(dtype)
    if torch.compiler.is_compiling():
        return _read_op(q, mean, log_total, projection, floor, kernel)
    if not torch.is_grad_enabled():
        return _read(q, mean, log_total, projection, floor, kernel)
    return _Read.apply(q, mean, log_total, projection, floor, kernel)


def _kernel(name: str) -> ModuleType:
    if name == "torch":
        return chunked
    if name == "triton":
        from enlca.attention.triton import launch

        return launch
    raise ValueError(f"unknown kernel {name!r}; choose from {list(KERNELS)}")


def _summarise(k: Tensor, v: Tensor, projection: Tensor, floor: float, kernel: str) -> tuple[Tensor, Tensor]:
    with autocast_disabled(k):
        return _kernel(kernel).summarise_forward(k, v, projection, floor)


_summarise_op = torch.library.custom_op("enlca::summarise", _summarise, mutates_args=())


@_summarise_op.register_fake
def _(k: Tensor, v: Tensor, projection: Tensor, floor: float, kernel: str) -> tuple[Tensor, Tensor]:
    sizes = k.shape[0], projection.shape[0]
    dtype = torch.promote_types(k.dtype, torch.float32)
    return k.new_empty(*sizes, v.shape[1], dtype=dtype), k.new_empty(*sizes, dtype=dtype)


@torch.library.custom_op("enlca::summarise_backward", mutates_args=())
def _summarise_backward_op(
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
    with autocast_disabled(k):
        gradients = _kernel(kernel).summarise_backward
        return gradients(g_mean, g_log_total, k, v, projection, mean, log_total, floor)


@_summarise_backward_op.register_fake
def _(g_mean: Tensor, g_log_total: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(k), torch.empty_like(v)


def _setup_summarise_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.floor, ctx.kernel = inputs
    ctx.save_for_backward(*tensors, *output)


def _summarise_gradients(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _summarise_backward_op(*upstream, *ctx.saved_tensors, ctx.floor, ctx.kernel)
    return *gradients, None, None, None


def _read(
    q: Tensor, mean: Tensor, log_total: Tensor, projection: Tensor, floor: float, kernel: str
) -> Tensor:
    with autocast_disabled(q):
        return _kernel(kernel).read_forward(q, mean, log_total, projection, floor)


_read_op = torch.library.custom_op("enlca::read", _read, mutates_args=())


@_read_op.register_fake
def _(q: Tensor, mean: Tensor, *_: Any) -> Tensor:
    return empty_output(q, mean)


@torch.library.custom_op("enlca::read_backward", mutates_args=())
def _read_backward_op(
    g_y: Tensor,
    q: Tensor,
    mean: Tensor,
    log_total: Tensor,
    projection: Tensor,
    floor: float,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:
    with autocast_disabled(q):
        return _kernel(kernel).read_backward(g_y, q, mean, log_total, projection, floor)


@_read_backward_op.register_fake
def _(g_y: Tensor, q: Tensor, mean: Tensor, log_total: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(mean), torch.empty_like(log_total)


def _setup_read_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.floor, ctx.kernel = inputs
    ctx.save_for_backward(*tensors)


def _read_gradients(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
    return *_read_backward_op(*upstream, *ctx.saved_tensors, ctx.floor, ctx.kernel), None, None, None


_summarise_op.register_autograd(_summarise_gradients, setup_context=_setup_summarise_context)
_read_op.register_autograd(_read_gradients, setup_context=_setup_read_context)


def _refuse_second_derivatives() -> None:
    # Only `create_graph=True` enables gradients here, and it would silently treat the result as a constant.
    if torch.is_grad_enabled():
        raise RuntimeError(
            "LinearAttend has no second derivative; use `summarise` and `read` of enlca.attention.linear on"
            " `log_features`, which have one"
        )


class _Summarise(torch.autograd.Function):
    """`_summarise_op` without the dispatcher's cost, and transparent to FLOP and memory counters.

    `forward` takes `ctx` itself: with a separate `setup_context`, PyTorch inspects forward's signature in
    each call, which takes as long as a chunk of positions.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        output = _summarise(*inputs)
        _setup_summarise_context(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        return _summarise_gradients(ctx, *upstream)


class _Read(torch.autograd.Function):
    """`_read_op` without the dispatcher's cost."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _read(*inputs)
        _setup_read_context(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        return _read_gradients(ctx, *upstream)
