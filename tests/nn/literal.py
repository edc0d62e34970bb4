"""The kernel over conditions written out in loops, and a Gaussian process of scikit-learn over such a matrix."""

import itertools

import numpy as np
import torch
from scipy import sparse
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from kgnn.nn.condition_kernel import Bags, ConditionKernel, Rows

NODES, UNKNOWN = 7, 5  # the gene 5 stands in no source, 6 in the last alone


def make_sources(rng):
    """Three sources over `NODES` genes with rows of length 1 or of zeros."""
    found = []
    for number in range(3):
        rows = rng.normal(size=(NODES, 3))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        rows[[UNKNOWN, number] if number == 2 else [UNKNOWN, 6, number]] = 0
        found.append(rows)
    return found


def make_kernel(rng, features, n_lines=2):
    """A kernel with random numbers, whatever it starts from."""
    kernel = ConditionKernel([Rows(f"r{i}", sparse.csr_array(rows)) for i, rows in enumerate(features)], n_lines)
    kernel.gate.data = torch.from_numpy(rng.normal(size=len(kernel.gate)))
    kernel.log.data = torch.from_numpy(rng.uniform(-1.5, 0.5, len(kernel.log)))
    return kernel


def make_bags(rng, n, lines=(0, 1), most=3):
    """Samples of 1 to `most` genes with strengths of both signs."""
    genes = [rng.permutation(NODES)[: rng.integers(1, most + 1)] for _ in range(n)]
    strength = rng.uniform(0.3, 1.5, sum(map(len, genes))) * rng.choice([-1, 1], sum(map(len, genes)))
    offsets = np.cumsum([0, *map(len, genes)])
    parts = np.concatenate(genes), strength, offsets, rng.choice(lines, n)
    return Bags(*(torch.from_numpy(np.asarray(part)) for part in parts))


def gates(gate, features, gene):
    weights = np.exp(gate) * [1, *(rows[gene].any() for rows in features)]
    return weights / weights.sum()


def alike(gate, features, p, q):
    same = [p == q, *(rows[p] @ rows[q] for rows in features)]
    return np.sqrt(gates(gate, features, p) * gates(gate, features, q)) @ same


def covariance(kernel, features, a, b, reached_a, reached_b):
    """k [samples of a, samples of b], as the docstring of `ConditionKernel` has it."""
    gamma, kappa, _, iota, odds, tau, omega = kernel.log.detach().exp().numpy()
    gate = kernel.gate.detach().numpy()
    found = np.zeros((len(a.line), len(b.line)))
    for i, j in np.ndindex(*found.shape):
        left, right = (
            [(int(gene), float(x) / (stop - start) ** omega)
             for gene, x in zip(bags.genes[start:stop], bags.strength[start:stop], strict=True)]
            for bags, start, stop in [(a, int(a.offsets[i]), int(a.offsets[i + 1])),
                                      (b, int(b.offsets[j]), int(b.offsets[j + 1]))]
        )  # fmt: skip
        k = kappa + sum(x * y * (alike(gate, features, p, q) + gamma) for p, x in left for q, y in right)
        for (p, x), (pp, xx) in itertools.combinations(left, 2):
            for (q, y), (qq, yy) in itertools.permutations(right, 2):
                k += iota * x * xx * y * yy * alike(gate, features, p, q) * alike(gate, features, pp, qq)
        if a.line[i] != b.line[j] and not kernel.one_line:
            k *= odds / (1 + odds)
        found[i, j] = k * (tau if reached_a[i] else 1) * (tau if reached_b[j] else 1)
    return found


class Given(Kernel):
    """A covariance that is looked up: X holds numbers of rows of `matrix`."""

    def __init__(self, matrix):
        self.matrix = matrix

    def __call__(self, X, Y=None, eval_gradient=False):
        return self.matrix[np.ix_(X[:, 0], (X if Y is None else Y)[:, 0])]

    def diag(self, X):
        return self.matrix.diagonal()[X[:, 0]]

    def is_stationary(self):
        return False


def posterior(matrix, noise, y, train, test):
    """Mean [test, targets] and variance [test], without noise, of a Gaussian process that saw y[train]."""
    train, test = np.asarray(train)[:, None], np.asarray(test)[:, None]
    model = GaussianProcessRegressor(Given(matrix), alpha=noise[train[:, 0]], optimizer=None)
    mean, deviation = model.fit(train, y[train[:, 0]]).predict(test, return_std=True)
    return mean, deviation.reshape(len(test), -1)[:, 0] ** 2
