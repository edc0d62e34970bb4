"""The knowledge network: signals along typed, signed edges, and a kernel over conditions from the same graph."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kgnn.nn.condition_kernel import Bags, ConditionKernel
from kgnn.ops import Adjacency, spmm

HOPS = 3
CHUNK, MANY = 64, 512  # samples at a time, of features and of signals
STATES = 4  # what a target's reading is multiplied with: 1, its spread, its control expression, 1 / √in-degree


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
        square = torch.stack([part.square().mean((0, 1)) for _, part in self.chunks(bags, state)]).mean(0)
        self.scale = torch.where(square > 1e-20, square.clamp_min(1e-20).rsqrt(), 0.0)

    def chunks(self, bags: Bags, state: Tensor, size: int = CHUNK) -> Iterator[tuple[slice, Tensor]]:
        """The features of the samples, so many at a time, with which they are."""
        for start in range(0, len(bags.line), size):
            rows = slice(start, start + size)
            yield rows, self(bags.take(rows), state[rows])

    def along(self, bags: Bags, state: Tensor, beta: Tensor) -> Tensor:
        """What arrives, weighed by `beta` [features]: `forward` @ beta without its array, [samples, genes] float64."""
        found = torch.zeros(len(bags.line), len(self.measured), dtype=torch.float64)
        if not len(beta):
            return found
        weight = (beta.float() * self.scale).view(-1, STATES)
        for start in range(0, len(found), MANY):
            rows = slice(start, start + MANY)
            some, total = bags.take(rows), torch.zeros(found[rows].shape)
            signal = self._signal(some, some.strength)
            level = state[rows] / self.level
            for (of_one, of_spread, of_level, of_degree), arrived, into in self._messages(signal, weight):
                total += arrived * (of_one + of_spread * self.spread + of_degree * into + of_level * level)
            found[rows] = total * (signal[self.measured].T == 0)
        return found

    def _messages(self, signal: Tensor, weight: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """A row of `weight` [channels × hops, states], what arrives [samples, genes] and 1 / √in-degree, each hop."""
        place = 0
        for adjacency, hops in zip(self.adjacencies, self.hops, strict=True):
            into = adjacency.indptr.diff()[self.measured].clamp_min(1).float().rsqrt()  # type: ignore[operator]
            message = signal
            for _ in range(hops):
                message = spmm(adjacency, message)  # type: ignore[arg-type]
                yield weight[place], message[self.measured].T, into
                place += 1

    def _signal(self, bags: Bags, strength: Tensor) -> Tensor:
        signal = torch.zeros(self.n_nodes, len(bags.line))
        return signal.index_put((bags.genes, bags.sample), strength.float(), accumulate=True)

    def strengths(self, bags: Bags) -> Tensor:
        """[samples, genes], how strongly each measured gene is perturbed; 0: not at all."""
        return self._signal(bags, bags.strength)[self.measured].T

    def reached(self, bags: Bags) -> Tensor:
        """[samples] bool, whether a signal arrives at some measured gene (along a relation that is no similarity)."""
        arrives = torch.zeros(len(bags.line), dtype=torch.bool)
        if not any(hops > 1 for hops in self.hops):
            return arrives
        for start in range(0, len(arrives), MANY):
            some = bags.take(slice(start, start + MANY))
            signal = self._signal(some, some.strength)
            for adjacency, hops in zip(self.adjacencies, self.hops, strict=True):
                if hops > 1:
                    arrives[start : start + MANY] |= (spmm(adjacency, signal)[self.measured] != 0).any(0)  # type: ignore[arg-type]
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


class KnowledgeNetwork(nn.Module):
    """Change of each gene in each condition = propagated signal + kernel ridge of what that leaves.

    A perturbed gene that is measured changes by its strength × `own` instead. Buffers hold what training set: `beta`
    [features], `weights` [training samples, genes], or [training samples, n] of n `programmes` [n, genes], `factor`
    (Cholesky's, lower, of kernel and noise of the training samples), `offset` [genes] that is added, `own` [genes]; the
    variance is `widths`[0] × `gene_scale` [genes] × that of the kernel + `widths`[1] × the squared change.

    Args:
        controls: changes are against measured control cells, whose noise the kernel's κ holds: it is left out of
            predictions, since it was these controls' and no other's.
    """

    beta: Tensor
    weights: Tensor
    programmes: Tensor
    factor: Tensor
    gene_scale: Tensor
    widths: Tensor
    own: Tensor
    offset: Tensor
    reference: Tensor

    def __init__(
        self,
        propagation: Propagation,
        kernel: ConditionKernel,
        n_samples: int,
        n_entries: int,
        controls: bool = True,
        n_programmes: int = 0,
    ) -> None:
        super().__init__()
        self.controls = controls
        n_genes = len(propagation.measured)
        self.propagation, self.kernel = propagation, kernel
        for name, shape in {
            "beta": (propagation.n_features,),
            "weights": (n_samples, n_programmes or n_genes),
            "programmes": (n_programmes, n_genes),
            "factor": (n_samples, n_samples),
            "gene_scale": (n_genes,),
            "own": (n_genes,),
            "offset": (n_genes,),
            "reference": (n_genes,),
        }.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("widths", torch.tensor([1.0, 0.0], dtype=torch.float64))
        whole = {"bag_genes": n_entries, "bag_offsets": n_samples + 1, "bag_line": n_samples}
        for name, size in whole.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.int64))
        self.register_buffer("bag_strength", torch.zeros(n_entries, dtype=torch.float64))
        self._reached: Tensor | None = None

    @property
    def training_reached(self) -> Tensor:
        """[training samples] bool, as `Propagation.reached`, found once."""
        if self._reached is None:
            self._reached = self.propagation.reached(self.training_bags)
        return self._reached

    @property
    def training_bags(self) -> Bags:
        return Bags(self.bag_genes, self.bag_strength, self.bag_offsets, self.bag_line)  # type: ignore[arg-type]

    def forward(self, bags: Bags, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return change and variance [samples, genes]; no perturbation, no change."""
        reached = self.propagation.reached(bags)
        meeting = bags, self.training_bags, reached, self.training_reached
        cross = self.kernel(*meeting)
        told = cross - self.kernel.of_controls(*meeting) if self.controls else cross
        change = told @ self.weights
        if len(self.programmes):
            change = change @ self.programmes
        change += self.offset + self.propagation.along(bags, state, self.beta)
        strength = self.propagation.strengths(bags).double()
        change = torch.where(strength == 0, change, strength * self.own)
        own = self.kernel.variance(bags, reached) + self.kernel.noise
        variance = (own - self.explained(cross).square().sum(0)).clamp_min(1e-9).unsqueeze(1) * self.gene_scale
        variance = self.widths[0] * variance + self.widths[1] * (change - self.offset).square()
        perturbed = (bags.offsets.diff() > 0).unsqueeze(1)
        return change * perturbed, variance * perturbed

    def explained(self, cross: Tensor) -> Tensor:
        """X [training samples, samples] with XᵀX the covariance that training explains, of the kernel `cross`."""
        return torch.linalg.solve_triangular(self.factor, cross.T, upper=False)


class LeftOut(NamedTuple):
    """Products over genes from which the left-out error follows, each [samples, samples].

    `yy` = Y Yᵀ of the changes Y [samples, genes], `yp` = Y Pᵀ with the propagated predictions P, `pp` = P Pᵀ; genes
    centred in each sample.
    """

    yy: Tensor
    yp: Tensor
    pp: Tensor


def left_out_loss(operator: Tensor, share: Tensor, products: LeftOut, mean: Tensor | None = None) -> Tensor:
    """1 − mean correlation of left-out predictions with the changes + half their share of squared error.

    Prediction T = s P + M (Y − s P), M the `operator` of `left_out_operator`, s the share of the propagated signal that
    is used. Only products over genes enter, so the cost of a step does not depend on their number. With `mean` B
    [samples, samples], whose row takes the mean of the samples that a sample is predicted from, that sample's change
    and all that its prediction is made of are less that mean: what counts then is how samples differ.
    """
    other = torch.eye(len(operator), dtype=operator.dtype)
    if mean is not None:
        other, operator = other - mean, operator - operator.sum(1, keepdim=True) * mean
    rest_y = products.yy - share * products.yp.T  # (Y − sP) Yᵀ
    rest_p = products.yp - share * products.pp  # (Y − sP) Pᵀ
    rest = rest_y - share * rest_p  # (Y − sP)(Y − sP)ᵀ
    with_y = share * _of_rows(other, products.yp.T, other) + _of_rows(operator, rest_y, other)
    square = share**2 * _of_rows(other, products.pp, other) + 2 * share * _of_rows(operator, rest_p, other)
    square = square + _of_rows(operator, rest, operator)
    observed = _of_rows(other, products.yy, other)
    correlation = with_y / (square.clamp_min(1e-12) * observed.clamp_min(1e-12)).sqrt()
    error = (square - 2 * with_y + observed).sum() / observed.sum()
    return 1 - correlation.mean() + 0.5 * error


def _of_rows(a: Tensor, between: Tensor, b: Tensor) -> Tensor:
    """The diagonal of a between bᵀ."""
    return ((a @ between) * b).sum(1)
