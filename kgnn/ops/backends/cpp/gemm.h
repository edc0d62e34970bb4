#pragma once
#include "core.h"

// ---- small dense products whose operands are in cache: C [m, n] = A [m, k] · B [k, n] (+ C, or + bias [n])
// A is read through strides, so a transposed A costs nothing; B and C are by rows.

#if defined(__AVX512F__)
constexpr int TILE_ROWS = 6, TILE_VECTORS = 4;
#else
constexpr int TILE_ROWS = 6, TILE_VECTORS = 2;  // 16 registers
#endif

enum Start { ZERO, BIAS, ADD };

template <class A, int ROWS, int NV, int L>
static inline void tile(int64_t k, const A* a, int64_t a_row, int64_t a_column, const A* b, int64_t ldb, A* c,
                        int64_t ldc, Start start, const A* bias) {
    vec<A, L> total[ROWS][NV];
    for (int i = 0; i < ROWS; i++)
        for (int v = 0; v < NV; v++)
            total[i][v] = start == ADD    ? load<A, L>(c + i * ldc + v * L)
                          : start == BIAS ? load<A, L>(bias + v * L)
                                          : vec<A, L>{};
    for (int64_t p = 0; p < k; p++) {
        vec<A, L> of_b[NV];
        for (int v = 0; v < NV; v++) of_b[v] = load<A, L>(b + p * ldb + v * L);
        for (int i = 0; i < ROWS; i++) {
            A factor = a[i * a_row + p * a_column];
            for (int v = 0; v < NV; v++) total[i][v] += factor * of_b[v];
        }
    }
    for (int i = 0; i < ROWS; i++)
        for (int v = 0; v < NV; v++) store<A, L>(c + i * ldc + v * L, total[i][v]);
}

template <class A>
static void gemm(int64_t m, int64_t n, int64_t k, const A* a, int64_t a_row, int64_t a_column, const A* b, int64_t ldb,
                 A* c, int64_t ldc, Start start, const A* bias = nullptr) {
    int64_t column = 0;
    auto columns = [&](auto lanes, auto vectors) {
        constexpr int L = decltype(lanes)::value, NV = decltype(vectors)::value;
        for (; column + L * NV <= n; column += L * NV) {
            auto rows = [&](auto count, int64_t i) {
                tile<A, decltype(count)::value, NV, L>(k, a + i * a_row, a_row, a_column, b + column, ldb,
                                                       c + i * ldc + column, ldc, start, bias ? bias + column : bias);
            };
            int64_t i = 0;
            for (; i + TILE_ROWS <= m; i += TILE_ROWS) rows(std::integral_constant<int, TILE_ROWS>{}, i);
            for (; i + 2 <= m; i += 2) rows(std::integral_constant<int, 2>{}, i);
            for (; i < m; i++) rows(std::integral_constant<int, 1>{}, i);
        }
    };
    columns(std::integral_constant<int, LANES<A>>{}, std::integral_constant<int, TILE_VECTORS>{});
    columns(std::integral_constant<int, LANES<A>>{}, std::integral_constant<int, 1>{});
    columns(std::integral_constant<int, 1>{}, std::integral_constant<int, 1>{});
}
