"""Triton kernels of ENLA's forward pass; features exist in registers only.

The equations are those of `chunked.py`, shifted. Each kernel loops over positions or features, tile by tile,
with running maxima; sums over positions are taken in a fixed number of parts, which are added up afterwards,
so that results do not depend on timing. `backward.py` has the gradients.

    summarise_parts    features x parts of the positions:   shift, total, weighted sum of each part
    read               positions:                           y

All sums are in float32. Products run on tensor cores, which round their factors to TF32 (11 bits): enough
where a factor came in 16 bits (`U_PRECISION`, `V_PRECISION` are "tf32"), and else three of them make one
that is good to 22 bits ("tf32x3"). Triton's interpreter multiplies in float32.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
"""

import os
from typing import no_type_check

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

from enlca.attention.features import LARGEST_COORDINATE

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
LIMIT = tl.constexpr(LARGEST_COORDINATE)
# TF32 would round what is larger to infinity.
LARGEST = tl.constexpr((2 - 2**-10) * 2.0**127)


@triton.jit
@no_type_check
def load_tile(pointer, rows, columns, row_stride, column_stride, n_rows, n_columns):
    """Load `rows x columns` of a matrix as float32, with zeros outside of it."""
    at = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    inside = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    values = tl.load(pointer + at, mask=inside, other=0.0).to(tl.float32)
    return tl.clamp(values, -LARGEST, LARGEST, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
@no_type_check
def clamped_tile(pointer, rows, columns, row_stride, column_stride, n_rows, n_columns):
    """Load a tile with coordinates so small that their squares are finite."""
    u = load_tile(pointer, rows, columns, row_stride, column_stride, n_rows, n_columns)
    return tl.clamp(u, -LIMIT, LIMIT, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
@no_type_check
def store_tile(pointer, value, rows, columns, row_stride, column_stride, n_rows, n_columns):
    """Store `rows x columns` of a matrix in its own type, except outside of it."""
    at = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    inside = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    tl.store(pointer + at, value.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def logits_of(
    f, log_total, q_tile, half_square, ms, ds,
    D: tl.constexpr, M: tl.constexpr, HAS_FLOOR: tl.constexpr, U_PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the logits of a tile of features at a tile of queries, and the features' log_total."""
    log_phi = tl.dot(load_tile(f, ms, ds, D, 1, M, D), q_tile, input_precision=U_PRECISION)
    if HAS_FLOOR:
        log_phi -= half_square[None, :]
    totals = tl.load(log_total + ms, mask=ms < M, other=float("-inf"))[:, None]
    return log_phi + totals, totals


@triton.jit
@no_type_check
def shifted_weights(logits, totals, shift, log_floor, HAS_FLOOR: tl.constexpr):
    """Return exp(logits - highest), the factor that rescales earlier sums, and the maximum so far."""
    highest = tl.maximum(shift, tl.max(logits, axis=0))
    if HAS_FLOOR:
        highest = tl.maximum(highest, tl.max(log_floor + totals, axis=0))
    weights = tl.exp(logits - highest[None, :])
    if HAS_FLOOR:
        weights += tl.exp((log_floor + totals) - highest[None, :])
    return weights, tl.exp(shift - highest), highest


@triton.jit
@no_type_check
def summarise_parts(
    k, v, f, shift_out, total_out, weighted_out,
    k_b, k_d, k_n, v_b, v_e, v_n, n, span, share, log_floor,
    D: tl.constexpr, M: tl.constexpr, E: tl.constexpr, HAS_FLOOR: tl.constexpr,
    TD: tl.constexpr, TM: tl.constexpr, TE: tl.constexpr, TN: tl.constexpr,
    U_PRECISION: tl.constexpr, V_PRECISION: tl.constexpr,
):  # fmt: skip
    """Store the maximum, sum and weighted sum of a tile of features over a part of the positions."""
    part, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    ms = tl.program_id(0) * TM + tl.arange(0, TM)
    ds, es = tl.arange(0, TD), tl.arange(0, TE)
    f_tile = load_tile(f, ms, ds, D, 1, M, D)
    shift = tl.full([TM], float("-inf"), tl.float32)
    total = tl.zeros([TM], tl.float32)
    weighted = tl.zeros([TM, TE], tl.float32)
    end = tl.minimum(n, (part + 1) * span)
    for start in range(part * span, end, TN):
        ns = start + tl.arange(0, TN)
        k_tile = clamped_tile(k + b * k_b, ds, ns, k_d, k_n, D, end)
        v_tile = load_tile(v + b * v_b, es, ns, v_e, v_n, E, end)
        log_phi = (
            tl.dot(f_tile, k_tile, input_precision=U_PRECISION) - tl.sum(k_tile * k_tile, axis=0)[None, :] / 2
        )
        log_phi = tl.where((ns < end)[None, :], log_phi, float("-inf"))
        highest = tl.maximum(shift, tl.max(log_phi, axis=1))
        if HAS_FLOOR:
            highest = tl.maximum(highest, log_floor)
        phi = tl.exp(log_phi - highest[:, None])
        if HAS_FLOOR:
            phi += tl.where((ns < end)[None, :], tl.exp(log_floor - highest)[:, None], 0.0)
        phi *= share
        fade = tl.exp(shift - highest)
        weighted = weighted * fade[:, None] + tl.dot(phi, tl.trans(v_tile), input_precision=V_PRECISION)
        total = total * fade + tl.sum(phi, axis=1)
        shift = highest
    row = (b * tl.num_programs(1) + part) * M
    tl.store(shift_out + row + ms, shift, mask=ms < M)
    tl.store(total_out + row + ms, total, mask=ms < M)
    store_tile(weighted_out + row * E, weighted, ms, es, E, 1, M, E)


@triton.jit
@no_type_check
def read(
    q, f, mean, log_total, y,
    q_b, q_d, q_n, y_b, y_e, y_n, n, share, log_floor,
    D: tl.constexpr, M: tl.constexpr, E: tl.constexpr, HAS_FLOOR: tl.constexpr,
    TD: tl.constexpr, TM: tl.constexpr, TE: tl.constexpr, TN: tl.constexpr,
    U_PRECISION: tl.constexpr, V_PRECISION: tl.constexpr,
):  # fmt: skip
    """Store attention's output at a tile of queries."""
    b = tl.program_id(1).to(tl.int64)
    ns = tl.program_id(0) * TN + tl.arange(0, TN)
    ds, es = tl.arange(0, TD), tl.arange(0, TE)
    q_tile = clamped_tile(q + b * q_b, ds, ns, q_d, q_n, D, n)
    half_square = tl.sum(q_tile * q_tile, axis=0) / 2
    shift = tl.full([TN], float("-inf"), tl.float32)
    total = tl.zeros([TN], tl.float32)
    sums = tl.zeros([TE, TN], tl.float32)
    for start in range(0, M, TM):
        ms = start + tl.arange(0, TM)
        logits, totals = logits_of(
            f, log_total + b * M, q_tile, half_square, ms, ds, D, M, HAS_FLOOR, U_PRECISION
        )
        weights, fade, shift = shifted_weights(logits, totals, shift, log_floor, HAS_FLOOR)
        weights *= share
        mean_tile = load_tile(mean + b * M * E, ms, es, E, 1, M, E)
        sums = sums * fade[None, :] + tl.dot(tl.trans(mean_tile), weights, input_precision=V_PRECISION)
        total = total * fade + tl.sum(weights, axis=0)
    store_tile(y + b * y_b, sums / total[None, :], es, ns, y_e, y_n, E, n)
