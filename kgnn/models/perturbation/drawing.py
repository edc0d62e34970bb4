"""Predicted cells: control cells, of which each gene is seen more or less often, and higher or lower, than before."""

import numpy as np
from scipy import sparse

STEPS = 100  # of Newton's method; ten are enough for changes as real ones are
ACCURACY = 1e-7  # of a mean, in units of expression


class CellDrawer:
    """Control cells from which cells with other means are made.

    A gene that is seen in the share d of the control cells, there with the values v, has counts of about the rate
    −log(1 − d) (Poisson). Where the rate is f times that, the gene is seen in the share d(f), and what is counted where
    it is seen grows by s(f):

        d(f) = 1 − (1 − d)^f        s(f) = f · d / d(f)        mean(f) = d(f) · mean_v log1p(s(f) · expm1(v))

    f is chosen, a gene, such that mean(f) is the predicted mean. Rare genes thus change by zeros, abundant ones by
    values. Where d falls, entries are set to zero at random; where it rises, zeros take the value of a random cell that
    has one. A gene that no control cell has starts from one half cell with the median cell's smallest value, about one
    count.

    Args:
        cells: control cells [cells, genes], no value below zero.
        log: whether values are log1p of something; else s(f) multiplies them as they are.
    """

    def __init__(self, cells: sparse.csr_matrix, *, log: bool) -> None:
        self.cells, self.log = cells, log
        n_cells = cells.shape[0]
        columns = sparse.csc_matrix(cells, dtype=np.float64)
        columns.eliminate_zeros()
        number = np.diff(columns.indptr)
        self.share = number / n_cells
        half = 0.5 / n_cells
        self.rate = -np.log1p(-np.clip(self.share, half, 1 - half))
        unseen = np.flatnonzero(number == 0)
        one = sparse.csc_matrix(
            (np.full(len(unseen), self._one()), (np.zeros(len(unseen), int), unseen)), (1, len(number))
        )
        self.values = sparse.vstack([columns, one], format="csc")
        self.start_share = np.where(number == 0, half, self.share)

    def draw(self, rows: np.ndarray, mean: np.ndarray, genes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return cells [rows, genes] made of the control cells `rows`, with the expected value `mean` in `genes`.

        Args:
            rows: numbers of control cells.
            mean: predicted mean, not below zero, of `genes`.
            genes: numbers of the genes that change; others keep the control cells' values.
            rng: random numbers.
        """
        cells = self.cells[rows].toarray()
        share, scale = self._solve(mean, genes)
        values, before, old = self.values[:, genes], self.share[genes], cells[:, genes].astype(np.float64)
        u, seen = rng.random(old.shape), old > 0
        lost, gained = seen & (u * before >= share), ~seen & (u * (1 - before) < share - before)
        old[lost] = 0
        which = np.nonzero(gained)[1]
        number = np.diff(values.indptr)[which]
        old[gained] = values.data[values.indptr[which] + (rng.random(len(which)) * number).astype(int)]
        cells[:, genes] = self._outwards(self._inwards(old) * scale)
        return cells

    def _one(self) -> float:
        """The smallest value of the median cell that has any."""
        rows = (self.cells[row].data for row in range(self.cells.shape[0]))
        smallest = [data[data > 0].min() for data in rows if (data > 0).any()]
        return float(np.median(smallest)) if smallest else 1.0

    def _solve(self, mean: np.ndarray, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return d(f) and s(f) of genes; mean(f) is concave in f, so that Newton's steps from the left stay there."""
        values, rate, before = self.values[:, genes], self.rate[genes], self.start_share[genes]
        amounts, gene = self._inwards(values.data), np.repeat(np.arange(len(genes)), np.diff(values.indptr))
        full = before / -np.expm1(-rate)  # 1, but for a gene that every cell has

        def average(of_entries: np.ndarray) -> np.ndarray:
            return np.bincount(gene, of_entries, len(genes)) / np.bincount(gene, minlength=len(genes))

        f = mean / (full * rate * average(self._outwards(amounts * (before / (full * rate))[gene])))
        for _ in range(STEPS):
            f = np.maximum(f, 1e-12)  # a mean of zero
            share = np.minimum(-full * np.expm1(-rate * f), 1)
            share_slope = np.where(share < 1, full * rate * np.exp(-rate * f), 0)
            scale = f * before / share
            scale_slope = before / share - scale * share_slope / share
            height = average(self._outwards(amounts * scale[gene]))
            steepness = average(amounts / (1 + amounts * scale[gene]) if self.log else amounts)
            left = mean - share * height
            if np.abs(left).max(initial=0) < ACCURACY:
                break
            f += left / (share_slope * height + share * steepness * scale_slope)
        return share, scale

    def _inwards(self, x: np.ndarray) -> np.ndarray:
        return np.expm1(x) if self.log else x

    def _outwards(self, x: np.ndarray) -> np.ndarray:
        return np.log1p(x) if self.log else x
