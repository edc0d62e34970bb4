"""Decoders of links: how likely an edge (source, relation, target) is, from the states of its two nodes.

A decoder moves the state of a known end along the relation and compares it with the states of all candidates, so that
all candidates of a query are one matrix product.
"""

import math

import torch
from torch import Tensor, nn

from kgnn.errors import InputError


class DistMult(nn.Module):
    """Score Σ h r t (Yang et al., ICLR 2015): the same in both directions.

    A decoder of one's own has these three methods and is made from the same two numbers.

    Args:
        n_relations: how many relations; channels: of the nodes' states.
    """

    def __init__(self, n_relations: int, channels: int) -> None:
        super().__init__()
        self.relations = nn.Parameter(torch.randn(n_relations, channels) / channels**0.5)

    def towards_target(self, source: Tensor, relation: Tensor) -> Tensor:
        """Move sources [..., channels] along the relations [...]: what their targets should be like."""
        return source * self.relations[relation]

    def towards_source(self, target: Tensor, relation: Tensor) -> Tensor:
        """Move targets against the relations: what their sources should be like."""
        return target * self.relations[relation]

    def compare(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Score moved states [queries, channels] with candidates [n, channels] or [queries, n, channels]."""
        return dot(query, candidates)


class ComplEx(DistMult):
    """DistMult over complex numbers, Re Σ h r t̄ (Trouillon et al., ICML 2016); a state's first half is its real part.

    Args:
        n_relations: how many relations; channels: of the nodes' states, even.
    """

    def __init__(self, n_relations: int, channels: int) -> None:
        check_even(channels, "complex")
        super().__init__(n_relations, channels)

    def towards_target(self, source: Tensor, relation: Tensor) -> Tensor:
        """See `DistMult`: h r."""
        return multiply(source, *self.relations[relation].chunk(2, -1))

    def towards_source(self, target: Tensor, relation: Tensor) -> Tensor:
        """See `DistMult`: t r̄, since Re Σ h r t̄ = Re Σ h (t r̄)‾."""
        real, imaginary = self.relations[relation].chunk(2, -1)
        return multiply(target, real, -imaginary)


class RotatE(nn.Module):
    """Score −‖h ∘ r − t‖ with |r| = 1 (Sun et al., ICLR 2019), the Euclidean norm over complex numbers.

    Args:
        n_relations: how many relations; channels: of the nodes' states, even.
    """

    def __init__(self, n_relations: int, channels: int) -> None:
        super().__init__()
        check_even(channels, "rotate")
        self.angles = nn.Parameter((2 * torch.rand(n_relations, channels // 2) - 1) * math.pi)

    def towards_target(self, source: Tensor, relation: Tensor) -> Tensor:
        """See `DistMult`: h turned by the relation's angles."""
        angle = self.angles[relation]
        return multiply(source, angle.cos(), angle.sin())

    def towards_source(self, target: Tensor, relation: Tensor) -> Tensor:
        """See `DistMult`: t turned back."""
        angle = self.angles[relation]
        return multiply(target, angle.cos(), -angle.sin())

    def compare(self, query: Tensor, candidates: Tensor) -> Tensor:
        """See `DistMult`."""
        return -distance(query, candidates)


class TransE(nn.Module):
    """Score −‖h + r − t‖ (Bordes et al., NeurIPS 2013), Euclidean.

    Args:
        n_relations: how many relations; channels: of the nodes' states.
    """

    def __init__(self, n_relations: int, channels: int) -> None:
        super().__init__()
        self.relations = nn.Parameter(torch.randn(n_relations, channels) / channels**0.5)

    def towards_target(self, source: Tensor, relation: Tensor) -> Tensor:
        """See `DistMult`: h + r."""
        return source + self.relations[relation]

    def towards_source(self, target: Tensor, relation: Tensor) -> Tensor:
        """See `DistMult`: t − r."""
        return target - self.relations[relation]

    def compare(self, query: Tensor, candidates: Tensor) -> Tensor:
        """See `DistMult`."""
        return -distance(query, candidates)


DECODERS: dict[str, type[nn.Module]] = {"distmult": DistMult, "complex": ComplEx, "rotate": RotatE, "transe": TransE}


def dot(query: Tensor, candidates: Tensor) -> Tensor:
    """Products [queries, n] of [queries, channels] with [n, channels] or [queries, n, channels]."""
    if candidates.dim() == 2:
        return query @ candidates.T
    return (candidates @ query.unsqueeze(-1)).squeeze(-1)


def distance(query: Tensor, candidates: Tensor) -> Tensor:
    """Euclidean distances, shapes as of `dot`."""
    if candidates.dim() == 2:
        return torch.cdist(query, candidates)
    return torch.cdist(query.unsqueeze(1), candidates).squeeze(1)


def multiply(x: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """Complex product of x [..., 2 × channels], real parts first, with real + i imaginary [..., channels]."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * real - b * imaginary, a * imaginary + b * real], -1)


def check_even(channels: int, name: str) -> None:
    """Refuse states that cannot be halves of complex numbers."""
    if channels % 2:
        raise InputError(
            f"decoder {name!r} takes pairs of channels as complex numbers: {channels} is odd, make it even"
        )
