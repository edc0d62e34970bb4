#pragma once
#include "core.h"

// ---- spmm: y[cell, t, c] = Σ_e w[e, head(c)] · x[cell, source(e), c]

// One row, NV vectors of L channels in registers.
template <class T, int L, int NV>
static inline void gather(int64_t degree, const int32_t* sources, const acc_t<T>* w, int64_t heads, const int64_t* head,
                          const T* x, int64_t node, T* y) {
    using A = acc_t<T>;
    vec<A, L> total[NV] = {};
    for (int64_t e = 0; e < degree; e++) {
        const T* from = x + sources[e] * node;
        const A* weight = w + e * heads;
        for (int k = 0; k < NV; k++) total[k] += load<T, L>(from + k * L) * weight[head[k]];
    }
    for (int k = 0; k < NV; k++) store<T, L>(y + k * L, total[k]);
}

// One row, channels [first, last); with one head the channels need be no multiple of L.
template <class T, int L>
static inline void gather_row(int64_t degree, const int32_t* sources, const acc_t<T>* w, int64_t heads, int64_t width,
                              const T* x, int64_t node, T* y, int64_t first, int64_t last) {
    int64_t c = first, head[4];
    auto step = [&](auto lanes, auto vectors) {
        constexpr int l = decltype(lanes)::value, nv = decltype(vectors)::value;
        for (; c + l * nv <= last; c += l * nv) {
            for (int k = 0; k < nv; k++) head[k] = heads == 1 ? 0 : (c + k * l) / width;
            gather<T, l, nv>(degree, sources, w, heads, head, x + c, node, y + c);
        }
    };
    std::integral_constant<int, L> lanes;
    step(lanes, std::integral_constant<int, 4>{});
    step(lanes, std::integral_constant<int, 2>{});
    step(lanes, std::integral_constant<int, 1>{});
    step(std::integral_constant<int, (L >= 8 ? L / 2 : 1)>{}, std::integral_constant<int, 1>{});
    step(std::integral_constant<int, (L >= 8 ? 4 : 1)>{}, std::integral_constant<int, 1>{});
    step(std::integral_constant<int, 1>{}, std::integral_constant<int, 1>{});
}

constexpr int64_t BLOCK = 128;  // channels of a unit: wider features are worked through in blocks that stay in cache

template <class T>
static void spmm(Csr graph, const acc_t<T>* w, int64_t w_cell, int64_t heads, const T* x, Strides xs, int64_t cells,
                 int64_t channels, T* y, int threads) {
    int64_t width = channels / heads, block = channels <= BLOCK ? channels : BLOCK / 2;
    int64_t blocks = (channels + block - 1) / block;
    auto run = [&](auto lanes) {
        for_units(graph, cells * blocks, threads, [&](int64_t item, int64_t begin, int64_t end) {
            int64_t cell = item / blocks, first = item % blocks * block, last = std::min(first + block, channels);
            for (int64_t i = begin; i < end; i++) {
                int32_t t = graph.row(i), e = graph.indptr[t];
                gather_row<T, decltype(lanes)::value>(
                    graph.indptr[t + 1] - e, graph.indices + e, w + cell * w_cell + e * heads, heads, width,
                    x + cell * xs.cell, xs.node, y + (cell * graph.rows + t) * channels, first, last);
            }
        });
    };
    if (heads == 1) run(std::integral_constant<int, LANES<T>>{});
    else with_lanes<T>(width, run);
}

// ---- spmm_max: y[cell, t, c] = max_e w · x, and which e (-1 where t has no neighbour); NaN wins

// One row, L channels.
template <class T, int L>
static inline void take_max(int32_t first, int32_t degree, const int32_t* sources, const acc_t<T>* w, int64_t heads,
                            const T* x, int64_t node, T* y, int32_t* arg) {
    using A = acc_t<T>;
    using Number = std::conditional_t<sizeof(A) == 8, int64_t, int32_t>;
    vec<A, L> best = {};
    vec<Number, L> which = {};
    if (degree) best -= A(INFINITY), which += Number(first);
    else which -= 1;
    for (int32_t e = 0; e < degree; e++) {
        vec<A, L> message = load<T, L>(x + sources[e] * node) * w[e * heads];
        auto better = (message > best) | (message != message);
        best = better ? message : best;
        which = better ? which * 0 + Number(first + e) : which;
    }
    store<T, L>(y, best);
    for (int k = 0; k < L; k++) arg[k] = int32_t(which[k]);
}

template <class T>
static void spmm_max(Csr graph, const acc_t<T>* w, int64_t w_cell, int64_t heads, const T* x, Strides xs,
                     int64_t cells, int64_t channels, T* y, int32_t* arg, int threads) {
    int64_t width = channels / heads;
    auto run = [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
        for_units(graph, cells, threads, [&](int64_t cell, int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) {
                int32_t t = graph.row(i), e = graph.indptr[t], degree = graph.indptr[t + 1] - e;
                int64_t at = (cell * graph.rows + t) * channels;
                for (int64_t c = 0; c < channels; c += L)
                    take_max<T, L>(e, degree, graph.indices + e, w + cell * w_cell + e * heads + c / width, heads,
                                   x + cell * xs.cell + c, xs.node, y + at + c, arg + at + c);
            }
        });
    };
    with_lanes<T>(width, run);
}

// The gradient of spmm_max: every target's goes to the one source that it took. grad_x must be zero.
template <class T>
static void spmm_max_backward(Csr graph, const acc_t<T>* w, int64_t w_cell, int64_t heads, const T* grad,
                              const int32_t* arg, int64_t cells, int64_t channels, int64_t sources, acc_t<T>* grad_x,
                              int threads) {
    int64_t width = channels / heads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t cell = 0; cell < cells; cell++)
        for (int64_t t = 0; t < graph.rows; t++)
            for (int64_t c = 0; c < channels; c++) {
                int64_t at = (cell * graph.rows + t) * channels + c;
                if (arg[at] < 0) continue;
                int64_t to = (cell * sources + graph.indices[arg[at]]) * channels + c;
                grad_x[to] += load<T, 1>(grad + at)[0] * w[cell * w_cell + arg[at] * heads + c / width];
            }
}

// ---- sddmm: out[(cell,) e, h] = Σ_d a[cell, target(e), h, d] · b[cell, source(e), h, d]

template <class T>
static void sddmm(Csr graph, int64_t heads, const T* a, Strides as, const T* b, Strides bs, int64_t cells,
                  int64_t channels, bool total, acc_t<T>* out, int threads) {
    int64_t width = channels / heads, edges = graph.indptr[graph.rows];
    auto rows = [&](auto lanes, int64_t cell, int64_t begin, int64_t end) {
        acc_t<T>* to = total ? out : out + cell * edges * heads;
        for (int64_t i = begin; i < end; i++) {
            int32_t t = graph.row(i);
            for (int32_t e = graph.indptr[t]; e < graph.indptr[t + 1]; e++)
                for (int64_t h = 0; h < heads; h++) {
                    auto value = dot<T, decltype(lanes)::value>(
                        a + cell * as.cell + t * as.node + h * width,
                        b + cell * bs.cell + graph.indices[e] * bs.node + h * width, width);
                    if (total && cell) to[e * heads + h] += value;
                    else to[e * heads + h] = value;
                }
        }
    };
    with_lanes<T>(width % LANES<T> && width > LANES<T> ? LANES<T> : width, [&](auto lanes) {
        if (total)  // a part of the rows, cell after cell, so that the sum over cells has one order
            for_units(graph, 1, threads, [&](int64_t, int64_t begin, int64_t end) {
                for (int64_t cell = 0; cell < cells; cell++) rows(lanes, cell, begin, end);
            });
        else
            for_units(graph, cells, threads, [&](int64_t cell, int64_t begin, int64_t end) { rows(lanes, cell, begin, end); });
    });
}
