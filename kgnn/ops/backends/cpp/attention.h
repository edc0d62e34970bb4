#pragma once
#include "spmm.h"

// ---- softmax over the edges into each target; scores [cells, edges, heads]

// exp of n numbers in place; in float after Cephes' expf (S. Moshier): 2^k · polynomial of the rest, to 2 ulp
template <class A> static void exp_all(A* p, int64_t n) {
    int64_t i = 0;
    if constexpr (std::is_same_v<A, float>) {
        constexpr int L = LANES<float>;
        for (; i + L <= n; i += L) {
            vec<float, L> x = load<float, L>(p + i), low = x * 0 - 87.3f, high = x * 0 + 88.3f;
            auto y = x < low ? low : x > high ? high : x;
            auto k = (y * 1.44269504f + 12582912.0f) - 12582912.0f;  // rounds to a whole number
            auto r = (y - k * 0.693359375f) + k * 2.12194440e-4f;
            auto f = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r
                      + 1.6666665459e-1f) * r + 5.0000001201e-1f;
            f = f * r * r + r + 1.0f;
            auto power = (vec<float, L>)((__builtin_convertvector(k, vec<int32_t, L>) + 127) << 23);
            store<float, L>(p + i, x < low ? x * 0 : f * power);
        }
    }
    for (; i < n; i++) p[i] = std::exp(p[i]);
}

template <class A>
static void softmax_row(int64_t degree, int64_t heads, A* scores, A* peak, A* norm) {
    for (int64_t h = 0; h < heads; h++) peak[h] = -INFINITY, norm[h] = 0;
    for (int64_t e = 0; e < degree; e++)
        for (int64_t h = 0; h < heads; h++) {
            A s = scores[e * heads + h];
            peak[h] = s > peak[h] || s != s ? s : peak[h];
        }
    for (int64_t h = 0; h < heads; h++) if (peak[h] == -INFINITY) peak[h] = 0;
    for (int64_t e = 0; e < degree; e++)
        for (int64_t h = 0; h < heads; h++) scores[e * heads + h] -= peak[h];
    exp_all(scores, degree * heads);
    for (int64_t e = 0; e < degree; e++)
        for (int64_t h = 0; h < heads; h++) norm[h] += scores[e * heads + h];
}

template <class A>
static void edge_softmax(Csr graph, int64_t heads, int64_t cells, A* p, int threads) {
    int64_t edges = graph.indptr[graph.rows];
    for_units(graph, cells, threads, [&](int64_t cell, int64_t begin, int64_t end) {
        std::vector<A> peak(heads), norm(heads);
        for (int64_t i = begin; i < end; i++) {
            int32_t t = graph.row(i), degree = graph.indptr[t + 1] - graph.indptr[t];
            A* row = p + (cell * edges + graph.indptr[t]) * heads;
            softmax_row<A>(degree, heads, row, peak.data(), norm.data());
            for (int64_t e = 0; e < degree; e++)
                for (int64_t h = 0; h < heads; h++) row[e * heads + h] /= norm[h];
        }
    });
}

template <class A>
static void edge_softmax_backward(Csr graph, int64_t heads, int64_t cells, const A* p, A* grad, int threads) {
    int64_t edges = graph.indptr[graph.rows];
    for_units(graph, cells, threads, [&](int64_t cell, int64_t begin, int64_t end) {
        std::vector<A> mean(heads);
        for (int64_t i = begin; i < end; i++) {
            int32_t t = graph.row(i), degree = graph.indptr[t + 1] - graph.indptr[t];
            int64_t at = (cell * edges + graph.indptr[t]) * heads;
            std::fill(mean.begin(), mean.end(), A(0));
            for (int64_t j = 0; j < degree * heads; j++) mean[j % heads] += p[at + j] * grad[at + j];
            for (int64_t j = 0; j < degree * heads; j++) grad[at + j] = p[at + j] * (grad[at + j] - mean[j % heads]);
        }
    });
}

// ---- attention: y[t] = Σ_s softmax_s(score(q[t], k[s])) v[s], with no array of all edges

enum Kind { GAT = 0, GATV2 = 1, DOT = 2 };

struct Attention {
    Csr graph;           // by target in the forward pass and the targets' gradients, transposed for the sources'
    int64_t cells, heads, width;
    const void *q, *k, *v, *a;  // [cells, targets, ·], [cells, sources, ·] twice, [heads · width] (GATv2 only)
    Strides qs, ks, vs;
    double constant;     // negative slope, or the scale of the dot product
    int threads;
};

template <int KIND, class T, int L>
static inline acc_t<T> score(const T* q, const T* k, const acc_t<T>* a, acc_t<T> constant, int64_t width) {
    using A = acc_t<T>;
    if constexpr (KIND == GAT) {
        A u = load<T, 1>(q)[0] + load<T, 1>(k)[0];
        return u > 0 ? u : u * constant;
    } else if constexpr (KIND == GATV2) {
        vec<A, L> total = {};
        for (int64_t d = 0; d < width; d += L) {
            auto u = load<T, L>(q + d) + load<T, L>(k + d);
            total += load<A, L>(a + d) * (u > 0 ? u : u * constant);
        }
        return sum<A, L>(total);
    } else {
        return constant * dot<T, L>(q, k, width);
    }
}

// Add ds · ∂score/∂q to dq and, where grad_a is given, ds · ∂score/∂a to it. The scores are symmetric in q and k.
template <int KIND, class T, int L>
static inline void push(acc_t<T> ds, const T* q, const T* k, const acc_t<T>* a, acc_t<T> constant, int64_t width,
                        acc_t<T>* dq, acc_t<T>* grad_a) {
    using A = acc_t<T>;
    if constexpr (KIND == GAT) {
        A u = load<T, 1>(q)[0] + load<T, 1>(k)[0];
        dq[0] += u > 0 ? ds : ds * constant;
    } else {
        for (int64_t d = 0; d < width; d += L) {
            if constexpr (KIND == GATV2) {
                auto u = load<T, L>(q + d) + load<T, L>(k + d);
                vec<A, L> one = u * 0 + 1, slope = ds * (u > 0 ? one : one * constant);
                store<A, L>(dq + d, load<A, L>(dq + d) + slope * load<A, L>(a + d));
                if (grad_a) store<A, L>(grad_a + d, load<A, L>(grad_a + d) + slope * u);
            } else {
                store<A, L>(dq + d, load<A, L>(dq + d) + (ds * constant) * load<T, L>(k + d));
            }
        }
    }
}

template <int KIND, class T, int L> struct AttentionKernel {
    using A = acc_t<T>;
    Attention p;
    const T *q = (const T*)p.q, *k = (const T*)p.k, *v = (const T*)p.v;
    const A *a = (const A*)p.a, constant = A(p.constant);
    int64_t H = p.heads, D = p.width, SD = KIND == GAT ? 1 : D;  // width of a head in q and k

    const T* q_at(int64_t cell, int64_t t) const { return q + cell * p.qs.cell + t * p.qs.node; }
    const T* k_at(int64_t cell, int64_t s) const { return k + cell * p.ks.cell + s * p.ks.node; }
    const T* v_at(int64_t cell, int64_t s) const { return v + cell * p.vs.cell + s * p.vs.node; }

    void score_all(const T* from, const T* to, A* out) const {
        for (int64_t h = 0; h < H; h++) out[h] = score<KIND, T, L>(from + h * SD, to + h * SD, a + h * D, constant, D);
    }

    void forward(T* y, A* lse) const {
        for_units(p.graph, p.cells, p.threads, [&](int64_t cell, int64_t begin, int64_t end) {
            std::vector<A> w, peak(H), norm(H);
            for (int64_t i = begin; i < end; i++) {
                int32_t t = p.graph.row(i), first = p.graph.indptr[t], degree = p.graph.indptr[t + 1] - first;
                const int32_t* sources = p.graph.indices + first;
                w.resize(std::max<size_t>(w.size(), degree * H));
                for (int64_t e = 0; e < degree; e++) score_all(q_at(cell, t), k_at(cell, sources[e]), &w[e * H]);
                softmax_row<A>(degree, H, w.data(), peak.data(), norm.data());
                int64_t at = cell * p.graph.rows + t;
                for (int64_t h = 0; h < H; h++) {
                    lse[at * H + h] = peak[h] + std::log(norm[h]);
                    norm[h] = 1 / norm[h];
                }
                for (int64_t e = 0; e < degree; e++)
                    for (int64_t h = 0; h < H; h++) w[e * H + h] *= norm[h];
                gather_row<T, L>(degree, sources, w.data(), H, D, v_at(cell, 0), p.vs.node, y + at * H * D, 0, H * D);
            }
        });
    }

    // grad_q; delta[t, h] = Σ_e p·dp, which the sources' pass needs; grad_a, the units' parts summed in their order
    void backward_targets(const T* grad, Strides gs, const A* lse, T* grad_q, A* delta, A* grad_a) const {
        int64_t size = KIND == GATV2 ? H * D : 0;
        Units units(p.graph, p.cells, p.threads);
        std::vector<A> of_unit(units.count() * size);
        units.run(p.threads, [&](int64_t unit, int64_t cell, int64_t begin, int64_t end) {
            A* part = of_unit.data() + unit * size;
            std::vector<A> w, dp, dq(H * SD);
            for (int64_t i = begin; i < end; i++) {
                int32_t t = p.graph.row(i), first = p.graph.indptr[t], degree = p.graph.indptr[t + 1] - first;
                const int32_t* sources = p.graph.indices + first;
                int64_t at = cell * p.graph.rows + t;
                const T* g = grad + cell * gs.cell + t * gs.node;
                w.resize(std::max<size_t>(w.size(), degree * H));
                dp.resize(w.size());
                for (int64_t e = 0; e < degree; e++) {
                    score_all(q_at(cell, t), k_at(cell, sources[e]), &w[e * H]);
                    for (int64_t h = 0; h < H; h++) {
                        w[e * H + h] -= lse[at * H + h];
                        dp[e * H + h] = dot<T, L>(g + h * D, v_at(cell, sources[e]) + h * D, D);
                    }
                }
                exp_all(w.data(), degree * H);
                for (int64_t h = 0; h < H; h++) {
                    A mean = 0;
                    for (int64_t e = 0; e < degree; e++) mean += w[e * H + h] * dp[e * H + h];
                    delta[at * H + h] = mean;
                }
                std::fill(dq.begin(), dq.end(), A(0));
                for (int64_t e = 0; e < degree; e++)
                    for (int64_t h = 0; h < H; h++) {
                        A ds = w[e * H + h] * (dp[e * H + h] - delta[at * H + h]);
                        push<KIND, T, L>(ds, q_at(cell, t) + h * SD, k_at(cell, sources[e]) + h * SD, a + h * D,
                                         constant, D, &dq[h * SD], KIND == GATV2 ? part + h * D : nullptr);
                    }
                for (int64_t c = 0; c < H * SD; c++) store<T, 1>(grad_q + at * H * SD + c, vec<A, 1>{dq[c]});
            }
        });
        std::fill(grad_a, grad_a + size, A(0));
        for (int64_t i = 0; i < units.count() * size; i++) grad_a[i % size] += of_unit[i];
    }

    // graph is the transpose here: a row a source, its entries the targets. grad_k may be null: it joins grad_v.
    void backward_sources(const T* grad, Strides gs, const A* lse, const A* delta, int64_t targets, T* grad_k,
                          T* grad_v) const {
        for_units(p.graph, p.cells, p.threads, [&](int64_t cell, int64_t begin, int64_t end) {
            std::vector<A> w, dk(H * SD), dv(H * D);
            for (int64_t i = begin; i < end; i++) {
                int32_t s = p.graph.row(i), first = p.graph.indptr[s], degree = p.graph.indptr[s + 1] - first;
                const int32_t* to = p.graph.indices + first;
                int64_t at = cell * p.graph.rows + s;
                const T *key = k_at(cell, s), *value = v_at(cell, s);
                w.resize(std::max<size_t>(w.size(), degree * H));
                for (int64_t e = 0; e < degree; e++) {
                    score_all(key, q_at(cell, to[e]), &w[e * H]);
                    for (int64_t h = 0; h < H; h++) w[e * H + h] -= lse[(cell * targets + to[e]) * H + h];
                }
                exp_all(w.data(), degree * H);
                std::fill(dk.begin(), dk.end(), A(0));
                std::fill(dv.begin(), dv.end(), A(0));
                A* into = grad_k ? dk.data() : dv.data();
                for (int64_t e = 0; e < degree; e++) {
                    const T* g = grad + cell * gs.cell + to[e] * gs.node;
                    for (int64_t h = 0; h < H; h++) {
                        A weight = w[e * H + h];
                        vec<A, L> product = {};
                        for (int64_t d = h * D; d < (h + 1) * D; d += L) {
                            auto of_target = load<T, L>(g + d);
                            product += of_target * load<T, L>(value + d);
                            store<A, L>(&dv[d], load<A, L>(&dv[d]) + weight * of_target);
                        }
                        A ds = weight * (sum<A, L>(product) - delta[(cell * targets + to[e]) * H + h]);
                        push<KIND, T, L>(ds, key + h * SD, q_at(cell, to[e]) + h * SD, a + h * D, constant, D,
                                         into + h * SD, nullptr);
                    }
                }
                for (int64_t c = 0; c < H * D; c++) store<T, 1>(grad_v + at * H * D + c, vec<A, 1>{dv[c]});
                if (grad_k)
                    for (int64_t c = 0; c < H * SD; c++) store<T, 1>(grad_k + at * H * SD + c, vec<A, 1>{dk[c]});
            }
        });
    }
};
