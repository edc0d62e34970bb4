#pragma once
#include "gemm.h"
#include "spmm.h"

constexpr int64_t BLOCK_ROWS = 64;  // rows of dense work at a time: a few 10 kB, a core's nearest caches

// All pairs (cell, row) in as many parts as there are threads, one after another: f(part, cell, first row, end). The
// parts do not depend on who is faster, so what each part adds up can be added up in one order.
template <class F> static void for_parts(int64_t cells, int64_t rows, int threads, F f) {
    int64_t total = cells * rows, parts = threads;
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int64_t part = 0; part < parts; part++) {
        int64_t at = total * part / parts, end = total * (part + 1) / parts;
        while (at < end) {
            int64_t first = at % rows, last = std::min(rows, first + end - at);
            f(part, at / rows, first, last);
            at += last - first;
        }
    }
}

template <class A> struct Sums {  // one array a part
    std::vector<std::vector<A>> of_part;
    Sums(int parts, int64_t size) : of_part(parts, std::vector<A>(size)) {}
    A* at(int64_t part) { return of_part[part].data(); }
    void write(A* out) const {
        std::copy(of_part[0].begin(), of_part[0].end(), out);
        for (size_t part = 1; part < of_part.size(); part++)
            for (size_t i = 0; i < of_part[part].size(); i++) out[i] += of_part[part][i];
    }
};

// ---- transform: y[cell, t] = Σ_r (Σ_e w[e] x[cell, source(e)]) W_r + bias, the graph's rows being target × relation

template <class A>
static void transform(Csr graph, const A* w, int64_t relations, const A* x, Strides xs, int64_t cells, int64_t in,
                      const A* weight, const A* bias, int64_t out, A* y, int threads) {
    int64_t targets = graph.rows / relations, width = relations * in;
    int64_t block = std::max<int64_t>(6, BLOCK_ROWS / relations);
    for_parts(cells, targets, threads, [&](int64_t, int64_t cell, int64_t begin, int64_t end) {
        std::vector<A> sums(block * width);
        for (int64_t t = begin; t < end; t += block) {
            int64_t rows = std::min(block, end - t);
            for (int64_t i = 0; i < rows * relations; i++) {
                int64_t e = graph.indptr[t * relations + i];
                gather_row<A, LANES<A>>(graph.indptr[t * relations + i + 1] - e, graph.indices + e, w + e, 1, in,
                                        x + cell * xs.cell, xs.node, &sums[i * in], 0, in);
            }
            gemm<A>(rows, out, width, sums.data(), width, 1, weight, out, y + (cell * targets + t) * out, out,
                    bias ? BIAS : ZERO, bias);
        }
    });
}

// Ask for rows that will be needed after the next gathers.
template <class A> static inline void fetch(const A* p, int64_t rows, int64_t step, int64_t width) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < width; c += 64 / sizeof(A)) __builtin_prefetch(p + i * step + c);
}

// The graph's rows are source × relation; sums of the gradient give grad_x = Σ_r sums_r W_rᵀ (`back`, [R · out, in];
// grad_x may be null) and grad_weight [in, R · out] = xᵀ sums.
template <class A>
static void transform_backward(Csr graph, const A* w, int64_t relations, const A* grad, Strides gs, int64_t cells,
                               int64_t out, const A* back, const A* x, Strides xs, int64_t in, A* grad_x,
                               A* grad_weight, int threads) {
    int64_t sources = graph.rows / relations, width = relations * out;
    int64_t block = std::max<int64_t>(6, BLOCK_ROWS / relations);
    Sums<A> weights(threads, grad_weight ? in * width : 0);
    for_parts(cells, sources, threads, [&](int64_t number, int64_t cell, int64_t begin, int64_t end) {
        std::vector<A> sums(block * width);
        for (int64_t s = begin; s < end; s += block) {
            int64_t rows = std::min(block, end - s);
            if (grad_weight) fetch(x + cell * xs.cell + s * xs.node, rows, xs.node, in);
            for (int64_t i = 0; i < rows * relations; i++) {
                int64_t e = graph.indptr[s * relations + i];
                gather_row<A, LANES<A>>(graph.indptr[s * relations + i + 1] - e, graph.indices + e, w + e, 1, out,
                                        grad + cell * gs.cell, gs.node, &sums[i * out], 0, out);
            }
            if (grad_x)
                gemm<A>(rows, in, width, sums.data(), width, 1, back, in, grad_x + (cell * sources + s) * in, in, ZERO);
            if (grad_weight)
                gemm<A>(in, width, rows, x + cell * xs.cell + s * xs.node, 1, xs.node, sums.data(), width,
                        weights.at(number), width, ADD);
        }
    });
    if (grad_weight) weights.write(grad_weight);
}

// ---- an MLP over all pairs of a gene and a condition: y[g, c] = W2 ReLU(W1 ReLU(a[g] + b[c]) + b1), block by block.
// The rows (g, c) of a block are computed again in the backward pass; only y is an array of all pairs.

template <class A> struct PairMlp {
    int64_t genes, conditions, in, hidden, out;
    const A *a, *b, *share;          // [genes, in], [conditions, in], [conditions]: weights of a row, summing to one
    const A *w1, *w1_t, *b1;         // [hidden, in], its transpose, [hidden]
    const A *w2, *w2_t;              // [out, hidden], its transpose
    int threads;

    int64_t block() const { return std::max<int64_t>(1, BLOCK_ROWS / conditions); }  // genes

    void state(int64_t first, int64_t count, A* h) const {  // ReLU(a + b), [count · conditions, in]
        for (int64_t g = first; g < first + count; g++)
            for (int64_t c = 0; c < conditions; c++, h += in)
#pragma omp simd
                for (int64_t i = 0; i < in; i++) {
                    A value = a[g * in + i] + b[c * in + i];
                    h[i] = value > 0 ? value : 0;
                }
    }

    void hide(int64_t rows, const A* h, A* z) const {
        gemm<A>(rows, hidden, in, h, in, 1, w1_t, hidden, z, hidden, BIAS, b1);
#pragma omp simd
        for (int64_t i = 0; i < rows * hidden; i++) z[i] = z[i] > 0 ? z[i] : 0;
    }

    // f(part, first gene, genes) for every block of genes
    template <class F> void blocks(F f) const {
        for_parts(1, genes, threads, [&](int64_t part, int64_t, int64_t begin, int64_t end) {
            for (int64_t g = begin; g < end; g += block()) f(part, g, std::min(block(), end - g));
        });
    }

    // E[h] [in] and E[h hᵀ] [in, in] of h = ReLU(a + b)
    void moments(A* first, A* second) const {
        Sums<A> ones(threads, in), twos(threads, in * in), h(threads, block() * conditions * in), weighted = h;
        blocks([&](int64_t part, int64_t gene, int64_t count) {
            A *rows = h.at(part), *shares = weighted.at(part), *sum = ones.at(part);
            state(gene, count, rows);
            for (int64_t r = 0; r < count * conditions; r++)
#pragma omp simd
                for (int64_t i = 0; i < in; i++) {
                    shares[r * in + i] = rows[r * in + i] * share[r % conditions];
                    sum[i] += shares[r * in + i];
                }
            gemm<A>(in, in, count * conditions, shares, 1, in, rows, in, twos.at(part), in, ADD);
        });
        ones.write(first);
        twos.write(second);
    }

    // given the gradients of both, the second plus its transpose
    void moments_backward(const A* grad_first, const A* symmetric, A* grad_a, A* grad_b) const {
        Sums<A> h(threads, block() * conditions * in), grads = h, of_b(threads, conditions * in);
        blocks([&](int64_t part, int64_t gene, int64_t count) {
            state(gene, count, h.at(part));
            gemm<A>(count * conditions, in, in, h.at(part), in, 1, symmetric, in, grads.at(part), in, BIAS, grad_first);
            scatter(gene, count, h.at(part), grads.at(part), share, grad_a, of_b.at(part));
        });
        of_b.write(grad_b);
        for (int64_t c = 0; c < conditions * in; c++) grad_b[c] *= share[c / in];
    }

    // grad_a[g] = Σ_c weight[c] · grad[g, c] and of_b[c] += grad[g, c], where h is not 0
    void scatter(int64_t first, int64_t count, const A* h, const A* grad, const A* weight, A* grad_a, A* of_b) const {
        for (int64_t g = first; g < first + count; g++) {
            A* into = grad_a + g * in;
            std::fill(into, into + in, A(0));
            for (int64_t c = 0; c < conditions; c++, h += in, grad += in) {
                A factor = weight ? weight[c] : 1;
#pragma omp simd
                for (int64_t i = 0; i < in; i++) {
                    A value = h[i] > 0 ? grad[i] : 0;
                    into[i] += factor * value;
                    of_b[c * in + i] += value;
                }
            }
        }
    }

    // y [genes, conditions, out], and its sum over the genes [conditions, out]
    void forward(A* y, A* total) const {
        Sums<A> h(threads, block() * conditions * in), z(threads, block() * conditions * hidden);
        Sums<A> of_conditions(threads, conditions * out);
        blocks([&](int64_t part, int64_t gene, int64_t count) {
            int64_t rows = count * conditions;
            A *to = y + gene * conditions * out, *sum = of_conditions.at(part);
            state(gene, count, h.at(part));
            hide(rows, h.at(part), z.at(part));
            gemm<A>(rows, out, hidden, z.at(part), hidden, 1, w2_t, out, to, out, ZERO);
            for (int64_t r = 0; r < count; r++)
#pragma omp simd
                for (int64_t i = 0; i < conditions * out; i++) sum[i] += to[r * conditions * out + i];
        });
        of_conditions.write(total);
    }

    // of_gene[g] · ReLU(W1 h + b1), [genes, conditions]
    void values(const A* of_gene, A* z) const {
        Sums<A> h(threads, BLOCK_ROWS * in), hid(threads, BLOCK_ROWS * hidden);
        for_parts(genes, conditions, threads, [&](int64_t part, int64_t gene, int64_t begin, int64_t end) {
            for (int64_t c = begin; c < end; c += BLOCK_ROWS) {
                PairMlp some = *this;  // these conditions alone
                some.b = b + c * in;
                some.conditions = std::min(BLOCK_ROWS, end - c);
                some.state(gene, 1, h.at(part));
                hide(some.conditions, h.at(part), hid.at(part));
                for (int64_t i = 0; i < some.conditions; i++)
                    z[gene * conditions + c + i]
                        = dot<A, LANES<A>>(hid.at(part) + i * hidden, of_gene + gene * hidden, hidden);
            }
        });
    }

    // the gradient of y is intercept[c] + slope[c] · y[g, c] + grad[g, c] · scaled[g]
    void backward(const A* y, const A* grad, const A* scaled, const A* slope, const A* intercept, A* grad_a, A* grad_b,
                  A* grad_w1, A* grad_b1, A* grad_w2) const {
        int64_t most = block() * conditions;
        Sums<A> h(threads, most * in), z(threads, most * hidden), dy(threads, most * out), dz = z, dh = h;
        Sums<A> of_b(threads, conditions * in), of_w1(threads, hidden * in), of_b1(threads, hidden);
        Sums<A> of_w2(threads, out * hidden);
        blocks([&](int64_t part, int64_t gene, int64_t count) {
            int64_t rows = count * conditions;
            A *of_y = dy.at(part), *of_z = dz.at(part), *bias = of_b1.at(part);
            const A* hid = z.at(part);
            state(gene, count, h.at(part));
            hide(rows, h.at(part), z.at(part));
            for (int64_t r = 0; r < rows; r++) {
                int64_t g = gene + r / conditions, c = r % conditions;
                A factor = grad[g * conditions + c];
#pragma omp simd
                for (int64_t i = 0; i < out; i++)
                    of_y[r * out + i] = intercept[c * out + i] + slope[c * out + i] * y[(g * conditions + c) * out + i]
                                        + factor * scaled[g * out + i];
            }
            gemm<A>(out, hidden, rows, of_y, 1, out, hid, hidden, of_w2.at(part), hidden, ADD);
            gemm<A>(rows, hidden, out, of_y, out, 1, w2, hidden, of_z, hidden, ZERO);
            for (int64_t r = 0; r < rows; r++)
#pragma omp simd
                for (int64_t i = 0; i < hidden; i++) {
                    A value = hid[r * hidden + i] > 0 ? of_z[r * hidden + i] : 0;
                    of_z[r * hidden + i] = value;
                    bias[i] += value;
                }
            gemm<A>(hidden, in, rows, of_z, 1, hidden, h.at(part), in, of_w1.at(part), in, ADD);
            gemm<A>(rows, in, hidden, of_z, hidden, 1, w1, in, dh.at(part), in, ZERO);
            scatter(gene, count, h.at(part), dh.at(part), nullptr, grad_a, of_b.at(part));
        });
        of_b.write(grad_b);
        of_w1.write(grad_w1);
        of_b1.write(grad_b1);
        of_w2.write(grad_w2);
    }
};
