// Sparse products for the CPU: one graph in CSR, many cells, each cell's features contiguous in the channels.
//
// Compiled at first use by native.py for the processor at hand and called through a plain C interface. A unit of
// work is one cell, or a part of its rows where there are few cells: one cell's features stay in a core's cache, each
// output row is written by one thread in a fixed order of summation, and so the same input gives the same bits.
#include "attention.h"
#include "mlp.h"

template <class T, class F> static void with_kernel(int kind, const Attention& p, F body) {
    auto run = [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
        if (kind == GAT) body(AttentionKernel<GAT, T, L>{p});
        else if (kind == GATV2) body(AttentionKernel<GATV2, T, L>{p});
        else body(AttentionKernel<DOT, T, L>{p});
    };
    with_lanes<T>(p.width, run);
}

#define EXPORT(T, NAME)                                                                                               \
    void spmm_##NAME(const Csr* g, const acc_t<T>* w, int64_t w_cell, int64_t heads, const T* x, const Strides* xs,    \
                     int64_t cells, int64_t channels, T* y, int threads) {                                             \
        spmm<T>(*g, w, w_cell, heads, x, *xs, cells, channels, y, threads);                                            \
    }                                                                                                                  \
    void spmm_max_##NAME(const Csr* g, const acc_t<T>* w, int64_t w_cell, int64_t heads, const T* x,                   \
                         const Strides* xs, int64_t cells, int64_t channels, T* y, int32_t* arg, int threads) {        \
        spmm_max<T>(*g, w, w_cell, heads, x, *xs, cells, channels, y, arg, threads);                                   \
    }                                                                                                                  \
    void spmm_max_backward_##NAME(const Csr* g, const acc_t<T>* w, int64_t w_cell, int64_t heads, const T* grad,       \
                                  const int32_t* arg, int64_t cells, int64_t channels, int64_t sources,                \
                                  acc_t<T>* grad_x, int threads) {                                                     \
        spmm_max_backward<T>(*g, w, w_cell, heads, grad, arg, cells, channels, sources, grad_x, threads);              \
    }                                                                                                                  \
    void sddmm_##NAME(const Csr* g, int64_t heads, const T* a, const Strides* as, const T* b, const Strides* bs,       \
                      int64_t cells, int64_t channels, int total, acc_t<T>* out, int threads) {                        \
        sddmm<T>(*g, heads, a, *as, b, *bs, cells, channels, total, out, threads);                                     \
    }                                                                                                                  \
    void attention_##NAME(int kind, const Attention* p, T* y, acc_t<T>* lse) {                                         \
        with_kernel<T>(kind, *p, [&](auto kernel) { kernel.forward(y, lse); });                                        \
    }                                                                                                                  \
    void attention_targets_##NAME(int kind, const Attention* p, const T* grad, const Strides* gs, const acc_t<T>* lse, \
                                  T* grad_q, acc_t<T>* delta, acc_t<T>* grad_a) {                                      \
        with_kernel<T>(kind, *p, [&](auto kernel) { kernel.backward_targets(grad, *gs, lse, grad_q, delta, grad_a); }); \
    }                                                                                                                  \
    void attention_sources_##NAME(int kind, const Attention* p, const T* grad, const Strides* gs, const acc_t<T>* lse, \
                                  const acc_t<T>* delta, int64_t targets, T* grad_k, T* grad_v) {                      \
        with_kernel<T>(kind, *p, [&](auto kernel) {                                                                    \
            kernel.backward_sources(grad, *gs, lse, delta, targets, grad_k, grad_v);                                   \
        });                                                                                                            \
    }

#define EXPORT_WHOLE(A, NAME)                                                                                        \
    void edge_softmax_##NAME(const Csr* g, int64_t heads, int64_t cells, A* p, int threads) {                          \
        edge_softmax<A>(*g, heads, cells, p, threads);                                                                 \
    }                                                                                                                  \
    void edge_softmax_backward_##NAME(const Csr* g, int64_t heads, int64_t cells, const A* p, A* grad, int threads) {  \
        edge_softmax_backward<A>(*g, heads, cells, p, grad, threads);                                                  \
    }                                                                                                                  \
    void transform_##NAME(const Csr* g, const A* w, int64_t relations, const A* x, const Strides* xs, int64_t cells,   \
                          int64_t in, const A* weight, const A* bias, int64_t out, A* y, int threads) {                \
        transform<A>(*g, w, relations, x, *xs, cells, in, weight, bias, out, y, threads);                              \
    }                                                                                                                  \
    void transform_backward_##NAME(const Csr* g, const A* w, int64_t relations, const A* grad, const Strides* gs,      \
                                   int64_t cells, int64_t out, const A* back, const A* x, const Strides* xs,           \
                                   int64_t in, A* grad_x, A* grad_weight, int threads) {                               \
        transform_backward<A>(*g, w, relations, grad, *gs, cells, out, back, x, *xs, in, grad_x, grad_weight, threads); \
    }                                                                                                                  \
    void pair_moments_##NAME(const PairMlp<A>* p, A* first, A* second) { p->moments(first, second); }                  \
    void pair_moments_backward_##NAME(const PairMlp<A>* p, const A* first, const A* symmetric, A* grad_a, A* grad_b) { \
        p->moments_backward(first, symmetric, grad_a, grad_b);                                                         \
    }                                                                                                                  \
    void pair_mlp_##NAME(const PairMlp<A>* p, A* y, A* total) { p->forward(y, total); }                                \
    void pair_values_##NAME(const PairMlp<A>* p, const A* of_gene, A* z) { p->values(of_gene, z); }                    \
    void pair_mlp_backward_##NAME(const PairMlp<A>* p, const A* y, const A* grad, const A* scaled, const A* slope,     \
                                  const A* intercept, A* grad_a, A* grad_b, A* grad_w1, A* grad_b1, A* grad_w2) {      \
        p->backward(y, grad, scaled, slope, intercept, grad_a, grad_b, grad_w1, grad_b1, grad_w2);                     \
    }

// One type a translation unit (-DKERNELS_f32, …), so that they compile side by side.
extern "C" {
#if defined(KERNELS_f32)
EXPORT(float, f32)
EXPORT_WHOLE(float, f32)
#elif defined(KERNELS_f64)
EXPORT(double, f64)
EXPORT_WHOLE(double, f64)
#else
EXPORT(bf16, bf16)
#endif
}
