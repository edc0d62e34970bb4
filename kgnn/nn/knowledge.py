"""The knowledge network: signals along typed, signed edges, and a kernel over conditions from the same graph."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from kgnn.nn.closed_form import left_out_operator
from kgnn.ops import Adjacency, spmm

HOPS = 3
STATES = 4  # what a target's reading is multiplied with: 1, its spread, its control expression, 1 / √in-degree


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


class Channel(NamedTuple):
    """One way for messages to travel: a matrix [nodes, nodes] and how many steps along it are read."""

    name: str
    adjacency: Adjacency
    hops: int


class Propagation(nn.Module):
    """Features of (sample, gene): what arrives at the gene when a signal starts at the perturbed genes' nodes.

    h⁰ = signed strength at the perturbed nodes; hᵏ = A_r hᵏ⁻¹ along each channel r (relation × sign × estimated
    effect). Every hᵏ[g] is read times four functions of the gene's own state: 1, the spread of its training changes,
    its control expression, 1 / √in-degree. All weights are shared by all genes, so a gene that was never perturbed
    has a prediction. At the perturbed genes themselves the features are 0: what happens there is no message.

    Args:
        channels: the message matrices. measured: [genes], node number of each measured gene.

    Shapes: bags of S samples, state [S, genes] (control expression of each sample's line) → [S, genes, features].
    """

    measured: Tensor
    scale: Tensor
    spread: Tensor
    level: Tensor

    def __init__(self, channels: list[Channel], measured: Tensor, n_nodes: int) -> None:
        super().__init__()
        self.hops, self.n_nodes = [channel.hops for channel in channels], n_nodes
        self.names = [channel.name for channel in channels]
        self.adjacencies = nn.ModuleList([channel.adjacency for channel in channels])
        self.register_buffer("measured", measured, persistent=False)
        self.register_buffer("scale", torch.ones(self.n_features))
        self.register_buffer("spread", torch.ones(len(measured)))
        self.register_buffer("level", torch.ones(()))

    @property
    def n_features(self) -> int:
        return STATES * sum(self.hops)

    def set_scales(self, bags: Bags, state: Tensor, spread: Tensor) -> None:
        """Bring every feature to unit mean square over the training samples."""
        self.spread = spread / spread.square().mean().sqrt().clamp_min(1e-12)
        self.level = state.square().mean().sqrt().clamp_min(1e-12)
        self.scale = torch.ones_like(self.scale)
        square = torch.stack([part.square().mean((0, 1)) for part in self.chunks(bags, state)]).mean(0)
        self.scale = torch.where(square > 1e-20, square.clamp_min(1e-20).rsqrt(), 0.0)

    def chunks(self, bags: Bags, state: Tensor, size: int = 64) -> list[Tensor]:
        """The features of the samples, so many at a time."""
        parts = []
        for start in range(0, len(bags.line), size):
            rows = slice(start, start + size)
            parts.append(self(_take(bags, rows), state[rows]))
        return parts

    def _signal(self, bags: Bags, strength: Tensor) -> Tensor:
        signal = torch.zeros(self.n_nodes, len(bags.line))
        return signal.index_put((bags.genes, bags.sample), strength.float(), accumulate=True)

    def strengths(self, bags: Bags) -> Tensor:
        """[samples, genes], how strongly each measured gene is perturbed; 0: not at all."""
        return self._signal(bags, bags.strength)[self.measured].T

    def reached(self, bags: Bags) -> Tensor:
        """[samples] bool, whether a signal arrives at some measured gene (along a relation that is no similarity)."""
        signal = self._signal(bags, bags.strength)
        arrives = torch.zeros(len(bags.line), dtype=torch.bool)
        for adjacency, hops in zip(self.adjacencies, self.hops, strict=True):
            if hops > 1:
                arrives |= (spmm(adjacency, signal)[self.measured] != 0).any(0)  # type: ignore[arg-type]
        return arrives

    def forward(self, bags: Bags, state: Tensor, weights: list[Tensor] | None = None) -> Tensor:
        """See the class; `weights`, one [edges] a channel, take the place of the graph's own."""
        signal = self._signal(bags, bags.strength)
        level = (state / self.level).float()
        elsewhere = (signal[self.measured].T == 0).float().unsqueeze(-1)
        read = []
        for number, (adjacency, hops) in enumerate(zip(self.adjacencies, self.hops, strict=True)):
            weight = None if weights is None else weights[number]
            into = adjacency.indptr.diff()[self.measured].clamp_min(1).float().rsqrt()  # type: ignore[operator]
            message = signal
            for _ in range(hops):
                message = spmm(adjacency, message, weight)  # type: ignore[arg-type]
                arrived = message[self.measured].T
                read += [arrived, arrived * self.spread, arrived * level, arrived * into]
        if not read:
            return elsewhere[..., :0]
        return torch.stack(read, -1) * self.scale * elsewhere


class ConditionKernel(nn.Module):
    """How alike two samples are: the covariance of their changes before any measurement.

    k(c, c') = Σ_{p∈c, q∈c'} x_p x_q G(p, q) + κ, x_p = strength / n^ω with n perturbed genes, and
    G(p, q) = Σ_r √(π_r(p) π_r(q)) S_r(p, q) + γ. S_0 is identity, S_r the Jaccard similarity of the two genes'
    neighbourhoods in relation r, or the cosine of their vectors; π(p) is a softmax over identity and what says
    something of p: the gate of a perturbation. γ is the mean effect of a perturbed gene, κ what all samples share
    (the noise of the controls). Pairs have an interaction besides, ι Σ x x x x G(p,q) G(p',q') over pairs of
    different genes: zero between pairs that graph and data do not link. Samples of different cell lines share ρ of
    all this.
    Samples in which a propagated signal arrives somewhere count τ times: what
    it explains, the kernel need not. With the identity alone this is the ridge regression on which genes are perturbed.

    Args:
        profiles: one CSR matrix [nodes, neighbours] of ones a relation; n_lines: cell lines in training.
        vectors: one matrix [nodes, channels] a kind of node features, rows of length 1, or 0 where a node has none.
    """

    def __init__(self, profiles: list[sparse.csr_matrix], n_lines: int = 1, vectors: Sequence[np.ndarray] = ()) -> None:
        super().__init__()
        self.profiles, self.vectors = profiles, vectors
        self.degree = [torch.from_numpy(np.diff(profile.indptr)) for profile in profiles]
        self.degree += [torch.from_numpy(rows.any(1).astype(np.int32)) for rows in vectors]
        first = 1.0 if self.degree else 0.0
        self.gate = nn.Parameter(torch.tensor([first] + [0.0] * len(self.degree), dtype=torch.float64))
        # log of γ, κ, noise, ι, ρ / (1 − ρ), τ and ω
        self.log = nn.Parameter(torch.tensor([0.2, 0.15, 0.5, 0.1, 1.0, 0.5, 0.1], dtype=torch.float64).log())
        self.one_line = n_lines == 1

    @property
    def noise(self) -> Tensor:
        return self.log[2].exp()

    def similarities(self, a: Tensor, b: Tensor) -> Tensor:
        """S [1 + relations, genes of a, genes of b], which need no gradient."""
        parts = [(a.unsqueeze(1) == b).double()]
        for profile in self.profiles:
            left, right = profile[a.numpy()], profile[b.numpy()]
            shared = (left @ right.T).toarray()
            union = np.diff(left.indptr)[:, None] + np.diff(right.indptr) - shared
            similar = torch.from_numpy(shared / np.maximum(union, 1))
            parts.append(torch.where(parts[0] > 0, 1.0, similar))
        parts += [torch.from_numpy(rows[a.numpy()] @ rows[b.numpy()].T) for rows in self.vectors]
        return torch.stack(parts)

    def gates(self, genes: Tensor) -> Tensor:
        """π [1 + relations, genes]."""
        known = torch.stack([torch.ones(len(genes), dtype=torch.bool)] + [degree[genes] > 0 for degree in self.degree])
        return torch.where(known, self.gate.unsqueeze(1), -torch.inf).softmax(0)

    def forward(
        self, a: Bags, b: Bags, reached_a: Tensor, reached_b: Tensor, similarities: Tensor | None = None
    ) -> Tensor:
        """Return [samples of a, samples of b].

        `reached` [samples] bool: whether a signal arrives anywhere; `similarities` of the distinct genes, where they
        are at hand.
        """
        genes_a, x = _compose(a)
        genes_b, y = _compose(b)
        if similarities is None:
            similarities = self.similarities(genes_a, genes_b)
        gate = (self.gates(genes_a).unsqueeze(2) * self.gates(genes_b).unsqueeze(1)).clamp_min(1e-30).sqrt()
        alike = (gate * similarities).sum(0)
        mean_effect, shared, _, interaction, line, explained, crowd = self.log.exp()
        x, y = x / _size(a) ** crowd, y / _size(b) ** crowd
        kernel = x @ (alike + mean_effect) @ y.T + shared
        double = (x @ alike @ y.T).square() - x.square() @ (alike @ y.T).square()
        double = double - (x @ alike).square() @ y.square().T + x.square() @ alike.square() @ y.square().T
        kernel = kernel + interaction * double / 2
        kernel = kernel * torch.where(reached_a, explained, 1.0).unsqueeze(1) * torch.where(reached_b, explained, 1.0)
        if self.one_line:
            return kernel
        rho = line / (1 + line)
        return kernel * torch.where(a.line.unsqueeze(1) == b.line, 1.0, rho)

    def variance(self, bags: Bags, reached: Tensor) -> Tensor:
        """k(c, c) of each sample, [samples]."""
        rows = [slice(row, row + 1) for row in range(len(bags.line))]
        return torch.stack([self(_take(bags, r), _take(bags, r), reached[r], reached[r])[0, 0] for r in rows])


def root(change: Tensor) -> Tensor:
    """δ / √‖δ‖ a row: effect sizes differ by an order of magnitude, and else the largest ones would decide alone."""
    return change / change.norm(dim=1, keepdim=True).clamp_min(1e-12).sqrt()


class KnowledgeNetwork(nn.Module):
    """Change of each gene in each condition = propagated signal + kernel ridge of what that leaves.

    Both add up on the scale of `root`; the prediction is brought back by ŷ ‖ŷ‖.

    A perturbed gene that is measured changes by its strength × `own` instead. Buffers hold what training set: `beta`
    [features], `weights` [training samples, genes] and `inverse` of the head, `own` [genes], `gene_scale` [genes].
    """

    beta: Tensor
    weights: Tensor
    inverse: Tensor
    gene_scale: Tensor
    own: Tensor
    reference: Tensor

    def __init__(self, propagation: Propagation, kernel: ConditionKernel, n_samples: int, n_entries: int) -> None:
        super().__init__()
        n_genes = len(propagation.measured)
        self.propagation, self.kernel = propagation, kernel
        for name, shape in {
            "beta": (propagation.n_features,),
            "weights": (n_samples, n_genes),
            "inverse": (n_samples, n_samples),
            "gene_scale": (n_genes,),
            "own": (n_genes,),
            "reference": (n_genes,),
        }.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        whole = {"bag_genes": n_entries, "bag_offsets": n_samples + 1, "bag_line": n_samples}
        for name, size in whole.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.int64))
        self.register_buffer("bag_strength", torch.zeros(n_entries, dtype=torch.float64))

    @property
    def training_bags(self) -> Bags:
        return Bags(self.bag_genes, self.bag_strength, self.bag_offsets, self.bag_line)  # type: ignore[arg-type]

    def forward(self, bags: Bags, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return change and variance [samples, genes]; no perturbation, no change."""
        reached = self.propagation.reached(bags)
        cross = self.kernel(bags, self.training_bags, reached, self.propagation.reached(self.training_bags))
        along = [part.double() @ self.beta for part in self.propagation.chunks(bags, state)]
        rooted = torch.cat(along) + cross @ self.weights
        size = rooted.norm(dim=1, keepdim=True)
        strength = self.propagation.strengths(bags).double()
        change = torch.where(strength == 0, rooted * size, strength * self.own)
        own = self.kernel.variance(bags, reached) + self.kernel.noise
        variance = (own - ((cross @ self.inverse) * cross).sum(1)).clamp_min(1e-9)
        variance = variance.unsqueeze(1) * self.gene_scale
        perturbed = (bags.offsets.diff() > 0).unsqueeze(1)
        return change * perturbed, variance * (size.square() + variance.sum(1, keepdim=True)) * perturbed


def _take(bags: Bags, rows: slice) -> Bags:
    start, stop, _ = rows.indices(len(bags.line))
    entries = slice(int(bags.offsets[start]), int(bags.offsets[stop]))
    offsets = bags.offsets[start : stop + 1] - bags.offsets[start]
    return Bags(bags.genes[entries], bags.strength[entries], offsets, bags.line[rows])


def _size(bags: Bags) -> Tensor:
    """Number of perturbed genes, at least 1, [samples, 1]."""
    return bags.offsets.diff().clamp_min(1).double().unsqueeze(1)


def _compose(bags: Bags) -> tuple[Tensor, Tensor]:
    """The distinct genes and how strongly each sample perturbs them, [samples, genes]."""
    genes, column = bags.genes.unique(return_inverse=True)
    x = torch.zeros(len(bags.line), len(genes), dtype=torch.float64)
    return genes, x.index_put((bags.sample, column), bags.strength.double(), accumulate=True)


class LeftOut(NamedTuple):
    """Products over genes from which the left-out error follows, each [samples, samples].

    `yy` = Y Yᵀ of the changes Y [samples, genes], `yp` = Y Pᵀ with the propagated predictions P, `pp` = P Pᵀ; genes
    centred in each sample.
    """

    yy: Tensor
    yp: Tensor
    pp: Tensor


def left_out_loss(kernel: Tensor, noise: Tensor, blocks: Tensor, share: Tensor, products: LeftOut) -> Tensor:
    """1 − mean correlation of left-out predictions with the changes + half their share of squared error.

    Prediction T = s P + M (Y − s P), M the left-out operator, s the share of the propagated signal that is used. Only
    products over genes enter, so the cost of a step does not depend on their number.
    """
    operator = left_out_operator(kernel, noise, blocks)
    rest_y = products.yy - share * products.yp.T  # (Y − sP) Yᵀ
    rest_p = products.yp - share * products.pp  # (Y − sP) Pᵀ
    rest = rest_y - share * rest_p  # (Y − sP)(Y − sP)ᵀ
    with_y = share * products.yp.T.diagonal() + (operator @ rest_y).diagonal()
    square = share**2 * products.pp.diagonal() + 2 * share * (operator @ rest_p).diagonal()
    square = square + ((operator @ rest) * operator).sum(1)
    observed = products.yy.diagonal()
    correlation = with_y / (square.clamp_min(1e-12) * observed.clamp_min(1e-12)).sqrt()
    error = (square - 2 * with_y + observed).sum() / observed.sum()
    return 1 - correlation.mean() + 0.5 * error
