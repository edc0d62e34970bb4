"""Triton kernels: one program a row of the graph and cell (and head), its edges a tile at a time.

Every output has one writer and no kernel uses atomics, so results do not change from run to run. Programs of one cell
follow one another: its features stay in the GPU's second-level cache. ACC is the type that sums are made in. A grid is
(rows, heads or blocks of channels, cells from `first_cell` on); what a stride multiplies has 64 bits.
"""

import triton
import triton.language as tl


@triton.jit
def spmm(
    first_cell, indptr, indices, weight, x, out, n_rows, channels, width, heads, w_cell, x_cell, x_node,
    ACC: tl.constexpr, EDGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, cell = tl.program_id(0), first_cell + tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    start, end = tl.load(indptr + row), tl.load(indptr + row + 1)
    total = tl.zeros((EDGES, BLOCK), ACC)
    for first in range(start, end, EDGES):
        e = first + tl.arange(0, EDGES)
        there = (e < end)[:, None] & (c < channels)[None, :]
        source = tl.load(indices + e, mask=e < end, other=0).to(tl.int64)
        of_tile = weight + cell * w_cell + tl.cast(first, tl.int64) * heads
        w = tl.load(of_tile + tl.arange(0, EDGES)[:, None] * heads + (c // width)[None, :], mask=there, other=0.0)
        message = tl.load(x + cell * x_cell + source[:, None] * x_node + c[None, :], mask=there, other=0.0)
        total += w * message.to(ACC)
    tl.store(out + (cell * n_rows + row) * channels + c, tl.sum(total, 0), mask=c < channels)


@triton.jit
def spmm_max(
    first_cell, indptr, indices, weight, x, out, arg, n_rows, channels, width, heads, w_cell, x_cell, x_node,
    ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, cell = tl.program_id(0), first_cell + tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    start, end = tl.load(indptr + row), tl.load(indptr + row + 1)
    best = tl.zeros((BLOCK,), ACC)
    which = tl.zeros((BLOCK,), tl.int32) - 1
    for e in range(start, end):
        source = tl.load(indices + e).to(tl.int64)
        w = tl.load(weight + cell * w_cell + tl.cast(e, tl.int64) * heads + c // width, mask=c < channels, other=0.0)
        message = w * tl.load(x + cell * x_cell + source * x_node + c, mask=c < channels, other=0.0).to(ACC)
        better = (which < 0) | (message > best) | (message != message)
        best = tl.where(better, message, best)
        which = tl.where(better, e, which)
    at = (cell * n_rows + row) * channels + c
    tl.store(out + at, best, mask=c < channels)
    tl.store(arg + at, which, mask=c < channels)


@triton.jit
def spmm_max_backward(
    first_cell, indptr, indices, position, weight, grad, arg, out, n_rows, n_targets, channels, width, heads, w_cell,
    ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # the transpose: a row a source, its edges the targets that may have taken it
    row, cell = tl.program_id(0), first_cell + tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), ACC)
    for e in range(tl.load(indptr + row), tl.load(indptr + row + 1)):
        number = tl.load(position + e)
        at = (cell * n_targets + tl.load(indices + e)) * channels + c
        taken = tl.load(arg + at, mask=c < channels, other=-1) == number
        w = tl.load(weight + cell * w_cell + number.to(tl.int64) * heads + c // width, mask=c < channels, other=0.0)
        total += tl.where(taken, w * tl.load(grad + at, mask=c < channels, other=0.0).to(ACC), 0.0)
    tl.store(out + (cell * n_rows + row) * channels + c, total, mask=c < channels)


@triton.jit
def sddmm(
    first_cell, indptr, indices, a, b, out, cells, edges, width, heads, a_cell, a_node, b_cell, b_node,
    ACC: tl.constexpr, TOTAL: tl.constexpr, EDGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, head, own_cell = tl.program_id(0).to(tl.int64), tl.program_id(1), first_cell + tl.program_id(2).to(tl.int64)
    d = tl.arange(0, BLOCK)
    start, end = tl.load(indptr + row), tl.load(indptr + row + 1)
    last_cell = own_cell + 1
    if TOTAL:
        last_cell = own_cell + cells
    for first in range(start, end, EDGES):
        e = first + tl.arange(0, EDGES)
        source = tl.load(indices + e, mask=e < end, other=0).to(tl.int64)
        total = tl.zeros((EDGES,), ACC)
        for cell in range(own_cell, last_cell):
            for block in range(0, width, BLOCK):
                c = head * width + block + d
                inside = block + d < width
                to = tl.load(a + cell * a_cell + row * a_node + c, mask=inside, other=0.0).to(ACC)
                there = (e < end)[:, None] & inside[None, :]
                of = tl.load(b + cell * b_cell + source[:, None] * b_node + c[None, :], mask=there, other=0.0).to(ACC)
                total += tl.sum(to[None, :] * of, 1)
        tl.store(out + (own_cell * edges + e) * heads + head, total, mask=e < end)


@triton.jit
def edge_softmax(first_cell, indptr, scores, out, edges, heads, EDGES: tl.constexpr):
    row, head, cell = tl.program_id(0), tl.program_id(1), first_cell + tl.program_id(2).to(tl.int64)
    start, end = tl.load(indptr + row), tl.load(indptr + row + 1)
    peak = tl.full((EDGES,), -float("inf"), scores.dtype.element_ty)
    for first in range(start, end, EDGES):
        e = first + tl.arange(0, EDGES)
        s = tl.load(scores + (cell * edges + e) * heads + head, mask=e < end, other=-float("inf"))
        peak = tl.maximum(peak, s)
    top = tl.max(peak, 0)
    total = tl.zeros((EDGES,), scores.dtype.element_ty)
    for first in range(start, end, EDGES):
        e = first + tl.arange(0, EDGES)
        s = tl.load(scores + (cell * edges + e) * heads + head, mask=e < end, other=-float("inf"))
        total += tl.where(e < end, tl.exp(s - top), 0.0)
    norm = tl.sum(total, 0)
    for first in range(start, end, EDGES):
        e = first + tl.arange(0, EDGES)
        at = (cell * edges + e) * heads + head
        s = tl.load(scores + at, mask=e < end, other=0.0)
        tl.store(out + at, tl.exp(s - top) / norm, mask=e < end)


@triton.jit
def edge_softmax_backward(first_cell, indptr, p, grad, out, edges, heads, EDGES: tl.constexpr):
    row, head, cell = tl.program_id(0), tl.program_id(1), first_cell + tl.program_id(2).to(tl.int64)
    start, end = tl.load(indptr + row), tl.load(indptr + row + 1)
    total = tl.zeros((EDGES,), p.dtype.element_ty)
    for first in range(start, end, EDGES):
        e = first + tl.arange(0, EDGES)
        at = (cell * edges + e) * heads + head
        total += tl.load(p + at, mask=e < end, other=0.0) * tl.load(grad + at, mask=e < end, other=0.0)
    mean = tl.sum(total, 0)
    for first in range(start, end, EDGES):
        e = first + tl.arange(0, EDGES)
        at = (cell * edges + e) * heads + head
        part = tl.load(p + at, mask=e < end, other=0.0)
        tl.store(out + at, part * (tl.load(grad + at, mask=e < end, other=0.0) - mean), mask=e < end)


# attention. A head's vector is D wide, padded to BLOCK; q and k of GAT (KIND 0) are one number a head.


@triton.jit
def _row_of(
    base, cell, node, head, stride_cell, stride_node, width,
    KIND: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """q or k of one node: [BLOCK]; GAT's one number stands in the first place."""
    d = tl.arange(0, BLOCK)
    size = width
    if KIND == 0:
        size = 1
    return tl.load(base + cell * stride_cell + node * stride_node + head * size + d, mask=d < size, other=0.0).to(ACC)


@triton.jit
def _rows_of(base, cell, nodes, there, head, stride_cell, stride_node, size, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """[EDGES, BLOCK]: a head's vector of several nodes."""
    d = tl.arange(0, BLOCK)
    at = base + cell * stride_cell + nodes[:, None] * stride_node + head * size + d[None, :]
    return tl.load(at, mask=there[:, None] & (d < size)[None, :], other=0.0).to(ACC)


@triton.jit
def _scores(mine, others, a, constant, KIND: tl.constexpr):
    """Scores [EDGES] of one node with others, and ∂score/∂mine = ∂score/∂other [EDGES, BLOCK] (∂score/∂q for DOT)."""
    if KIND == 2:
        s = tl.sum(mine[None, :] * others, 1) * constant
        slope = others * constant
    else:
        u = mine[None, :] + others
        slope = tl.where(u > 0, 1.0, constant)
        if KIND == 1:
            s = tl.sum(u * slope * a[None, :], 1)
            slope = slope * a[None, :]
        else:
            s = tl.sum(u * slope, 1)  # all but the first place are 0
    return s, slope


@triton.jit
def attention(
    first_cell, indptr, indices, q, k, v, a, out, lse, n_rows, width, heads,
    q_cell, q_node, k_cell, k_node, v_cell, v_node,
    CONSTANT: tl.constexpr, KIND: tl.constexpr, ACC: tl.constexpr, EDGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, head, cell = tl.program_id(0).to(tl.int64), tl.program_id(1), first_cell + tl.program_id(2).to(tl.int64)
    d = tl.arange(0, BLOCK)
    size = width
    if KIND == 0:
        size = 1
    constant = tl.full((), CONSTANT, ACC)
    start, end = tl.load(indptr + row), tl.load(indptr + row + 1)
    mine = _row_of(q, cell, row, head, q_cell, q_node, width, KIND, ACC, BLOCK)
    weights = mine
    if KIND == 1:
        weights = tl.load(a + head * width + d, mask=d < width, other=0.0).to(ACC)
    total = tl.zeros((BLOCK,), ACC)
    top, norm = tl.full((), -float("inf"), ACC), tl.full((), 0.0, ACC)
    for first in range(start, end, EDGES):
        e = first + tl.arange(0, EDGES)
        source = tl.load(indices + e, mask=e < end, other=0).to(tl.int64)
        others = _rows_of(k, cell, source, e < end, head, k_cell, k_node, size, ACC, BLOCK)
        s, _ = _scores(mine, others, weights, constant, KIND)
        s = tl.where(e < end, s, -float("inf"))
        peak = tl.maximum(top, tl.max(s, 0))
        p = tl.exp(s - peak)
        shrink = tl.exp(top - peak)
        values = _rows_of(v, cell, source, e < end, head, v_cell, v_node, width, ACC, BLOCK)
        total = total * shrink + tl.sum(p[:, None] * values, 0)
        norm = norm * shrink + tl.sum(p, 0)
        top = peak
    at = cell * n_rows + row
    there = end > start
    tl.store(out + (at * heads + head) * width + d, tl.where(there, total / norm, 0.0), mask=d < width)
    tl.store(lse + at * heads + head, top + tl.log(norm))


@triton.jit
def attention_targets(
    first_cell, indptr, indices, q, k, v, a, grad, lse, grad_q, delta, grad_a, n_rows, width, heads,
    q_cell, q_node, k_cell, k_node, v_cell, v_node, g_cell, g_node,
    CONSTANT: tl.constexpr, KIND: tl.constexpr, ACC: tl.constexpr, EDGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, head, cell = tl.program_id(0).to(tl.int64), tl.program_id(1), first_cell + tl.program_id(2).to(tl.int64)
    d = tl.arange(0, BLOCK)
    size = width
    if KIND == 0:
        size = 1
    constant = tl.full((), CONSTANT, ACC)
    start, end = tl.load(indptr + row), tl.load(indptr + row + 1)
    at = cell * n_rows + row
    mine = _row_of(q, cell, row, head, q_cell, q_node, width, KIND, ACC, BLOCK)
    g = tl.load(grad + cell * g_cell + row * g_node + head * width + d, mask=d < width, other=0.0).to(ACC)
    log_total = tl.load(lse + at * heads + head)
    weights = mine
    if KIND == 1:
        weights = tl.load(a + head * width + d, mask=d < width, other=0.0).to(ACC)
    mean = tl.zeros((EDGES,), ACC)
    for first in range(start, end, EDGES):
        e = first + tl.arange(0, EDGES)
        source = tl.load(indices + e, mask=e < end, other=0).to(tl.int64)
        others = _rows_of(k, cell, source, e < end, head, k_cell, k_node, size, ACC, BLOCK)
        s, _ = _scores(mine, others, weights, constant, KIND)
        values = _rows_of(v, cell, source, e < end, head, v_cell, v_node, width, ACC, BLOCK)
        mean += tl.where(e < end, tl.exp(s - log_total) * tl.sum(g[None, :] * values, 1), 0.0)
    of_row = tl.sum(mean, 0)
    tl.store(delta + at * heads + head, of_row)
    dq, da = tl.zeros((BLOCK,), ACC), tl.zeros((BLOCK,), ACC)
    for first in range(start, end, EDGES):
        e = first + tl.arange(0, EDGES)
        source = tl.load(indices + e, mask=e < end, other=0).to(tl.int64)
        others = _rows_of(k, cell, source, e < end, head, k_cell, k_node, size, ACC, BLOCK)
        s, slope = _scores(mine, others, weights, constant, KIND)
        values = _rows_of(v, cell, source, e < end, head, v_cell, v_node, width, ACC, BLOCK)
        ds = tl.where(e < end, tl.exp(s - log_total) * (tl.sum(g[None, :] * values, 1) - of_row), 0.0)
        dq += tl.sum(ds[:, None] * slope, 0)
        if KIND == 1:
            u = mine[None, :] + others
            da += tl.sum(ds[:, None] * tl.where(u > 0, u, u * constant), 0)
    tl.store(grad_q + (at * heads + head) * size + d, dq, mask=d < size)
    if KIND == 1:
        tl.store(grad_a + (at * heads + head) * width + d, da, mask=d < width)


@triton.jit
def attention_sources(
    first_cell, indptr, indices, q, k, v, a, grad, lse, delta, grad_k, grad_v, n_rows, n_targets, width, heads,
    q_cell, q_node, k_cell, k_node, v_cell, v_node, g_cell, g_node,
    CONSTANT: tl.constexpr, KIND: tl.constexpr, ACC: tl.constexpr, EDGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # the transpose: a row a source, its edges the targets
    row, head, cell = tl.program_id(0).to(tl.int64), tl.program_id(1), first_cell + tl.program_id(2).to(tl.int64)
    d = tl.arange(0, BLOCK)
    size = width
    if KIND == 0:
        size = 1
    constant = tl.full((), CONSTANT, ACC)
    start, end = tl.load(indptr + row), tl.load(indptr + row + 1)
    mine = _row_of(k, cell, row, head, k_cell, k_node, width, KIND, ACC, BLOCK)
    value = tl.load(v + cell * v_cell + row * v_node + head * width + d, mask=d < width, other=0.0).to(ACC)
    weights = mine
    if KIND == 1:
        weights = tl.load(a + head * width + d, mask=d < width, other=0.0).to(ACC)
    dk, dv = tl.zeros((BLOCK,), ACC), tl.zeros((BLOCK,), ACC)
    for first in range(start, end, EDGES):
        e = first + tl.arange(0, EDGES)
        target = tl.load(indices + e, mask=e < end, other=0).to(tl.int64)
        others = _rows_of(q, cell, target, e < end, head, q_cell, q_node, size, ACC, BLOCK)
        s, slope = _scores(mine, others, weights, constant, KIND)
        at = (cell * n_targets + target) * heads + head
        p = tl.where(e < end, tl.exp(s - tl.load(lse + at, mask=e < end, other=0.0)), 0.0)
        g = _rows_of(grad, cell, target, e < end, head, g_cell, g_node, width, ACC, BLOCK)
        dv += tl.sum(p[:, None] * g, 0)
        ds = p * (tl.sum(g * value[None, :], 1) - tl.load(delta + at, mask=e < end, other=0.0))
        dk += tl.sum(ds[:, None] * slope, 0)
    at = (cell * n_rows + row) * heads + head
    if KIND == 1:
        dv += dk  # GATv2's keys are its values
    else:
        tl.store(grad_k + at * size + d, dk, mask=d < size)
    tl.store(grad_v + at * width + d, dv, mask=d < width)
