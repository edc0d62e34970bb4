"""From the states of all nodes of the typed graph to what perturbed ones, at their doses, do to measured genes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kgnn.nn.conditions import ConditionBatch
from kgnn.nn.hetero import HeteroEncoder


class NodeEffects(nn.Module):
    """Δ[c, g] = e_c · v_g + x[c, g] (e_c · w_g) + Σ_{p ∈ c, p = g} a_p (α + β x[c, g]), x the control state.

    With the nodes' states z: a perturbed node counts a_p = strength × `DoseCurve`; u_p = a_p MLP(z_p);
    e_c = Σ_p u_p + Σ_{p < q} (M u_p) ∘ (M u_q); v_g = MLP(z_g) + o_g, w_g = MLP(z_g), o_g a learned vector a gene. So
    nothing changes where nothing is perturbed, each gene's change is monotone in each dose, and a node that was never
    perturbed has an effect through its state alone. No array is [conditions, genes, channels].

    Args:
        encoder: of the graph that batches refer to; `batch.nodes` are numbers among all its nodes, one type after the
            other.
        channels: of its states.
        dose: log of a usual dose of each type, [types].
    """

    columns: Tensor
    kinds: Tensor

    def __init__(self, encoder: HeteroEncoder, channels: int, dose: Tensor) -> None:
        super().__init__()
        self.encoder, graph = encoder, encoder.graph
        self.dose = DoseCurve(channels, dose)
        self.effect, self.answer, self.by_level = (_mlp(channels) for _ in range(3))
        for parameter in self.effect[-1].parameters():
            nn.init.zeros_(parameter)  # training begins at no change
        self.pair = nn.Linear(channels, channels, bias=False)
        self.own_answer = nn.Parameter(torch.zeros(graph.n_genes, channels))
        self.own_effect = nn.Parameter(torch.zeros(2))  # α, β
        sizes = torch.tensor(list(graph.n_nodes.values()))
        columns = torch.full((int(sizes.sum()),), -1)
        columns[graph.measured] = torch.arange(graph.n_genes)  # genes are the first type
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("kinds", torch.repeat_interleave(torch.arange(len(sizes)), sizes), persistent=False)

    def forward(self, batch: ConditionBatch) -> Tensor:
        graph = self.encoder.graph
        states = self.encoder.propagate(self.encoder.inputs(graph), graph)
        genes, perturbed = states[graph.measured], states[batch.nodes]
        share = batch.strengths * self.dose(batch.doses, perturbed, self.kinds[batch.nodes])
        e = self.together(share.unsqueeze(1) * self.effect(perturbed), batch)
        change = e @ (self.answer(genes) + self.own_answer).T + batch.state * (e @ self.by_level(genes).T)
        column = self.columns[batch.nodes]
        there, rows = column >= 0, batch.condition
        place = rows[there], column[there]
        own = share[there] * (self.own_effect[0] + self.own_effect[1] * batch.state[place])
        return change.index_put(place, own.to(change.dtype), accumulate=True)

    def together(self, u: Tensor, batch: ConditionBatch) -> Tensor:
        """What perturbations u [entries, channels] do together in each condition, [conditions, channels]."""
        v = self.pair(u)
        pairs = (_sum(v, batch).square() - _sum(v.square(), batch)) / 2
        return _sum(u, batch) + pairs


class DoseCurve(nn.Module):
    """s(d) = dʰ / (dʰ + kʰ) (Hill, J Physiol 1910), monotone in the dose d; 1 where none is told.

    log h = a_T + a · z and log k = m_T + b_T + b · z, T the node's type and z its state. a, b are 0 at the start, and
    weight decay draws every node's curve towards its type's.

    Args:
        channels: of the states.
        usual: m, [types].

    Shapes: doses [entries], states [entries, channels], kinds [entries], numbers of types → [entries].
    """

    usual: Tensor

    def __init__(self, channels: int, usual: Tensor) -> None:
        super().__init__()
        self.register_buffer("usual", usual)
        self.of_type = nn.Parameter(torch.zeros(len(usual), 2))
        self.of_node = nn.Linear(channels, 2, bias=False)
        nn.init.zeros_(self.of_node.weight)

    def curves(self, states: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        """h and log k, [entries] each."""
        log_h, shift = (self.of_type[kinds] + self.of_node(states)).unbind(-1)
        return log_h.exp(), self.usual[kinds] + shift

    def forward(self, doses: Tensor, states: Tensor, kinds: Tensor) -> Tensor:
        h, log_k = self.curves(states, kinds)
        told = doses.isfinite()
        log_dose = torch.where(told, doses, 1.0).log()
        return torch.where(told, torch.sigmoid(h * (log_dose - log_k)), 1.0)


def _mlp(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))


def _sum(x: Tensor, batch: ConditionBatch) -> Tensor:
    """[entries, channels] → [conditions, channels]."""
    return x.new_zeros(len(batch.counts), x.shape[1]).index_add(0, batch.condition, x)
