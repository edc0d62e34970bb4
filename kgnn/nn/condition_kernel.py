"""How alike two conditions are: a kernel over perturbed genes, from what many sources of knowledge say of them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn


class Bags(NamedTuple):
    """Perturbed genes of samples (a sample: a condition in a cell line).

    genes [entries] (numbers of nodes, samples one after the other), strength [entries] (−1 knock-out, between −1
    and 0 knock-down, above 0 activation), offsets [samples + 1], line [samples] (−1: a line not seen in training).
    """

    genes: Tensor
    strength: Tensor
    offsets: Tensor
    line: Tensor

    @property
    def sample(self) -> Tensor:
        """[entries], the sample each entry belongs to."""
        return torch.repeat_interleave(torch.arange(len(self.line)), self.offsets.diff())

    @property
    def size(self) -> Tensor:
        """Number of perturbed genes, at least 1, [samples]."""
        return self.offsets.diff().clamp_min(1).double()

    def take(self, rows: slice) -> "Bags":
        start, stop, _ = rows.indices(len(self.line))
        entries = slice(int(self.offsets[start]), int(self.offsets[stop]))
        offsets = self.offsets[start : stop + 1] - self.offsets[start]
        return Bags(self.genes[entries], self.strength[entries], offsets, self.line[rows])

    def of(self, samples: Sequence[int] | np.ndarray) -> "Bags":
        """The samples of these numbers, in their order."""
        parts = [self.take(slice(int(one), int(one) + 1)) for one in samples]
        offsets = torch.tensor([0, *(len(part.genes) for part in parts)]).cumsum(0)
        genes, strength, line = (torch.cat([part[i] for part in parts]) for i in (0, 1, 3))
        return Bags(genes, strength, offsets, line)


class Source(Protocol):
    """What one source of knowledge says of genes: rows of features, of length 1, or less where it is not sure."""

    @property
    def name(self) -> str: ...

    @property
    def known(self) -> np.ndarray:
        """[nodes] bool"""

    @property
    def labels(self) -> Sequence[str] | None:
        """[features], what a feature is called, None where it has no name"""

    def rows(self, genes: np.ndarray) -> sparse.csr_array:
        """[genes, features]"""


class Rows(NamedTuple):
    """A source that is a matrix [nodes, features] at hand; `labels` [features]: what a feature is called."""

    name: str
    matrix: sparse.csr_array
    labels: Sequence[str] | None = None

    @property
    def known(self) -> np.ndarray:
        return np.diff(self.matrix.indptr) > 0

    def rows(self, genes: np.ndarray) -> sparse.csr_array:
        return self.matrix[genes]


class ConditionKernel(nn.Module):
    """How alike two samples are: the covariance of their changes before any measurement.

    k(c, c') = Σ_{p∈c, q∈c'} x_p x_q G(p, q) + κ, x_p = strength / n^ω with n perturbed genes, and
    G(p, q) = Σ_r √(π_r(p) π_r(q)) S_r(p, q) + γ. S_0 is identity, S_r the cosine of what source r says of the two
    genes; π(p) is a softmax over identity and the sources that know p: the gate of a perturbation. γ is the mean effect
    of a perturbed gene, κ what all samples share (the noise of the controls). Pairs have an interaction besides,
    ι Σ x x x x G(p,q) G(p',q') over pairs of different genes: zero between pairs that graph and data do not link.
    Samples of different cell lines share ρ of all this. Samples in which a propagated signal arrives somewhere count τ
    times: what it explains, the kernel need not. With the identity alone this is the ridge regression on which genes
    are perturbed.

    Args:
        sources: what is known of genes. n_lines: cell lines in training.
    """

    def __init__(self, sources: Sequence[Source] = (), n_lines: int = 1) -> None:
        super().__init__()
        self.sources = list(sources)
        self.known = [torch.from_numpy(source.known) for source in self.sources]
        first = 1.0 if self.sources else 0.0
        self.gate = nn.Parameter(torch.tensor([first] + [0.0] * len(self.sources), dtype=torch.float64))
        # log of γ, κ, noise, ι, ρ / (1 − ρ), τ and ω
        self.log = nn.Parameter(torch.tensor([0.2, 0.15, 0.5, 0.1, 1.0, 0.5, 0.1], dtype=torch.float64).log())
        self.one_line = n_lines == 1

    @property
    def noise(self) -> Tensor:
        return self.log[2].exp()

    def similarity(self, number: int, a: Tensor, b: Tensor) -> Tensor:
        """S_r [genes of a, genes of b] of one source, 0 the identity."""
        if not number:
            return (a.unsqueeze(1) == b).double()
        rows = self.sources[number - 1].rows
        left, right = rows(a.numpy()), rows(b.numpy())
        found = torch.from_numpy((left @ right.T).toarray()).double()
        return found.masked_fill_((a.unsqueeze(1) == b) & self.known[number - 1][a].unsqueeze(1), 1.0)

    def similarities(self, a: Tensor, b: Tensor) -> Tensor:
        """S [1 + sources, genes of a, genes of b], which need no gradient."""
        return torch.stack([self.similarity(number, a, b) for number in range(1 + len(self.sources))])

    def gates(self, genes: Tensor) -> Tensor:
        """π [1 + sources, genes]."""
        known = torch.stack([torch.ones(len(genes), dtype=torch.bool), *(known[genes] for known in self.known)])
        return torch.where(known, self.gate.unsqueeze(1), -torch.inf).softmax(0)

    def gated(self, a: Tensor, b: Tensor, similarities: Iterable[Tensor] | None = None) -> Iterator[Tensor]:
        """√(π_r π_r) S_r of identity and each source, [genes of a, genes of b], one after the other."""
        left, right = (self.gates(genes).clamp_min(1e-30).sqrt() for genes in (a, b))
        if similarities is None:
            similarities = (self.similarity(number, a, b) for number in range(1 + len(self.sources)))
        for number, similarity in enumerate(similarities):
            yield similarity * left[number].unsqueeze(1) * right[number]

    def forward(
        self, a: Bags, b: Bags, reached_a: Tensor, reached_b: Tensor, similarities: Tensor | None = None
    ) -> Tensor:
        """Return [samples of a, samples of b].

        `reached` [samples] bool: whether a signal arrives anywhere; `similarities` of the distinct genes, where they
        are at hand.
        """
        genes_a, x = _compose(a)
        genes_b, y = _compose(b)
        alike = sum(self.gated(genes_a, genes_b, similarities), torch.zeros((), dtype=torch.float64))
        mean_effect, shared, _, interaction, _, _, _ = self.log.exp()
        size = self._crowd(a, b)
        kernel = size * _between(x, alike + mean_effect, y) + shared
        if (a.size > 1).any() and (b.size > 1).any():
            xx, yy, mm = x.square(), y.square(), torch.sparse.mm
            double = _between(x, alike, y).square() - mm(xx, mm(y, alike.T).T.square())
            double = double - mm(yy, mm(x, alike).T.square()).T + _between(xx, alike.square(), yy)
            kernel = kernel + interaction * size.square() * double / 2
        return kernel * self._common(a, b, reached_a, reached_b)

    def parts(self, a: Bags, b: Bags, reached_a: Tensor, reached_b: Tensor) -> Tensor:
        """What identity and each source are of the kernel, [1 + sources, samples of a, samples of b]; the rest of it is
        the mean effect, the noise of the controls and interactions."""
        genes_a, x = _compose(a)
        genes_b, y = _compose(b)
        size = self._crowd(a, b) * self._common(a, b, reached_a, reached_b)
        return torch.stack([size * _between(x, alike, y) for alike in self.gated(genes_a, genes_b)])

    def of_controls(self, a: Bags, b: Bags, reached_a: Tensor, reached_b: Tensor) -> Tensor:
        """What κ is of the kernel: the noise of the controls, which all samples share, [samples of a, samples of b]."""
        return self.log[1].exp() * self._common(a, b, reached_a, reached_b)

    def _crowd(self, a: Bags, b: Bags) -> Tensor:
        """1 / n^ω of both, [samples of a, samples of b]."""
        crowd = self.log[6].exp()
        return a.size.unsqueeze(1) ** -crowd * b.size**-crowd

    def _common(self, a: Bags, b: Bags, reached_a: Tensor, reached_b: Tensor) -> Tensor:
        """τ and ρ, [samples of a, samples of b]."""
        line, explained = self.log[4].exp(), self.log[5].exp()
        common = torch.where(reached_a, explained, 1.0).unsqueeze(1) * torch.where(reached_b, explained, 1.0)
        if self.one_line:
            return common
        return common * torch.where(a.line.unsqueeze(1) == b.line, 1.0, line / (1 + line))

    def variance(self, bags: Bags, reached: Tensor) -> Tensor:
        """k(c, c) of each sample, [samples]; that of a single gene is alike with itself by 1."""
        mean_effect, shared, _, _, _, explained, _ = self.log.exp()
        x = torch.zeros(len(bags.line), dtype=torch.float64).index_add(0, bags.sample, bags.strength.double())
        found = (x.square() * (1 + mean_effect) + shared) * torch.where(reached, explained.square(), 1.0)
        for row in (bags.offsets.diff() > 1).nonzero().ravel().tolist():
            one, here = bags.take(slice(row, row + 1)), reached[row : row + 1]
            found = found.index_put((torch.tensor([row]),), self(one, one, here, here)[0])
        return found


def _compose(bags: Bags) -> tuple[Tensor, Tensor]:
    """The distinct genes and how strongly each sample perturbs them, sparse [samples, genes]."""
    genes, column = bags.genes.unique(return_inverse=True)
    place = torch.stack([bags.sample, column])
    x = torch.sparse_coo_tensor(place, bags.strength.double(), (len(bags.line), len(genes)), check_invariants=False)
    return genes, x.coalesce()


def _between(x: Tensor, alike: Tensor, y: Tensor) -> Tensor:
    """x alike yᵀ, x and y sparse."""
    return torch.sparse.mm(x, torch.sparse.mm(y, alike.T).T)
