// What the kernels stand on: the graph, vectors of L numbers, units of work.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

struct Csr {
    int64_t rows;
    const int32_t *indptr, *indices;
    const int32_t *order;  // the order in which rows are worked through; null: as they stand
    int32_t row(int64_t position) const { return order ? order[position] : int32_t(position); }
};

struct Strides { int64_t cell, node; };  // in elements; channels are contiguous

// ---- vectors of L numbers; bfloat16 is stored as 16 bits and computed in float

struct bf16 { uint16_t bits; };
template <class T> struct accumulator { using type = T; };
template <> struct accumulator<bf16> { using type = float; };
template <class T> using acc_t = typename accumulator<T>::type;

template <class T, int L> struct vector_of {
    typedef T type __attribute__((vector_size(L * sizeof(T))));
    typedef T memory __attribute__((vector_size(L * sizeof(T)), aligned(sizeof(T))));
};
template <class T, int L> using vec = typename vector_of<T, L>::type;

template <class T, int L> static inline vec<acc_t<T>, L> load(const T* p) {
    if constexpr (std::is_same_v<T, bf16>) {
        auto raw = *(const typename vector_of<uint16_t, L>::memory*)p;
        auto wide = __builtin_convertvector((vec<uint16_t, L>)raw, vec<uint32_t, L>) << 16;
        return (vec<float, L>)wide;
    } else {
        return *(const typename vector_of<T, L>::memory*)p;
    }
}

template <class T, int L> static inline void store(T* p, vec<acc_t<T>, L> value) {
    if constexpr (std::is_same_v<T, bf16>) {
        auto bits = (vec<uint32_t, L>)value;
        auto rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
        rounded = value == value ? rounded : rounded * 0 + 0x7fc0;  // NaN stays NaN
        *(typename vector_of<uint16_t, L>::memory*)p = __builtin_convertvector(rounded, vec<uint16_t, L>);
    } else {
        *(typename vector_of<T, L>::memory*)p = value;
    }
}

template <class A, int L> static inline A sum(vec<A, L> v) {
    if constexpr (L == 1) {
        return v[0];
    } else {
        vec<A, L / 2> halves[2];
        memcpy(halves, &v, sizeof(v));
        return sum<A, L / 2>(halves[0] + halves[1]);
    }
}

template <class T> constexpr int LANES = VECTOR_BYTES / sizeof(acc_t<T>);

template <class T, int L> static inline acc_t<T> dot(const T* a, const T* b, int64_t n) {
    vec<acc_t<T>, L> total = {};
    int64_t i = 0;
    for (; i + L <= n; i += L) total += load<T, L>(a + i) * load<T, L>(b + i);
    acc_t<T> rest = sum<acc_t<T>, L>(total);
    for (; i < n; i++) rest += load<T, 1>(a + i)[0] * load<T, 1>(b + i)[0];
    return rest;
}

// Call body with the widest vector that `width` is a multiple of, as an integral_constant.
template <class T, class F> static void with_lanes(int64_t width, F body) {
    constexpr int L = LANES<T>;
    if (width % L == 0) body(std::integral_constant<int, L>{});
    else if (L >= 8 && width % (L / 2) == 0) body(std::integral_constant<int, (L >= 8 ? L / 2 : 1)>{});
    else body(std::integral_constant<int, 1>{});
}

// ---- units of work: an item (a cell) and a part of the rows; parts hold as many edges each

struct Units {
    int64_t items, parts;
    std::vector<int64_t> cut;

    Units(const Csr& graph, int64_t items, int threads) : items(items), parts(1), cut{0} {
        if (items < 2 * threads && items % threads) parts = std::clamp<int64_t>(graph.rows / 16, 1, 4 * threads);
        int64_t seen = 0, total = graph.indptr[graph.rows] + graph.rows;
        for (int64_t i = 0; i < graph.rows && int64_t(cut.size()) < parts; i++) {
            if (seen * parts >= total * int64_t(cut.size())) cut.push_back(i);
            seen += graph.indptr[graph.row(i) + 1] - graph.indptr[graph.row(i)] + 1;
        }
        cut.resize(parts + 1, graph.rows);
    }

    int64_t count() const { return items * parts; }

    // f(unit, item, first row, row behind the last) for every unit, over the threads
    template <class F> void run(int threads, F f) const {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (int64_t u = 0; u < count(); u++) f(u, u / parts, cut[u % parts], cut[u % parts + 1]);
    }
};

template <class F> static void for_units(const Csr& graph, int64_t items, int threads, F f) {
    Units(graph, items, threads).run(threads, [&](int64_t, int64_t item, int64_t begin, int64_t end) { f(item, begin, end); });
}
