"""Which edges carried a prediction to which genes; which training conditions, by which source, it was taken from."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kgnn.nn.condition_kernel import Bags, ConditionKernel
from kgnn.nn.knowledge import KnowledgeNetwork

COLUMNS = ["gene", "source", "target", "channel", "contribution"]
ITSELF = "the gene itself"


def edges_carried(network: KnowledgeNetwork, bags: Bags, state: Tensor, nodes: pd.Index, n_genes: int) -> pd.DataFrame:
    """Contribution of each edge to the `n_genes` most reached genes of one condition, largest first.

    An edge's weight times the gradient of the gene's propagated change to it, in expression units: for a path of one
    edge all that it carries; an edge of longer paths counts in each.

    Args:
        bags, state: of one condition. nodes: names of the gene nodes.
    """
    propagation = network.propagation
    weights = [adjacency.edge_weight.clone().requires_grad_() for adjacency in propagation.adjacencies]  # type: ignore[operator]
    with torch.enable_grad():
        along = propagation(bags, state, weights)[0].double() @ network.beta if weights else torch.zeros(0)
    strongest = along.detach().abs().argsort(descending=True)[:n_genes].tolist()
    rows = [pd.DataFrame(columns=COLUMNS)]
    for gene in strongest:
        if not float(along[gene].detach()):
            continue
        gradients = torch.autograd.grad(along[gene], weights, retain_graph=True, allow_unused=True)
        for channel, adjacency, weight, gradient in zip(
            propagation.names, propagation.adjacencies, weights, gradients, strict=True
        ):
            if gradient is None:
                continue
            carried = (gradient * weight.detach()).double().numpy()
            edges = np.flatnonzero(carried)
            source, target = adjacency.edge_index[:, edges].numpy()  # type: ignore[index]
            rows.append(
                pd.DataFrame(
                    {
                        "gene": nodes[int(propagation.measured[gene])],
                        "source": nodes[source],
                        "target": nodes[target],
                        "channel": channel,
                        "contribution": carried[edges],
                    }
                )
            )
    table = pd.concat([part for part in rows if len(part)] or rows, ignore_index=True)
    order = table["contribution"].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


@torch.no_grad()
def conditions_told(
    network: KnowledgeNetwork, bags: Bags, state: Tensor, conditions: list[str], n: int
) -> pd.DataFrame:
    """What each training condition told of one condition by each source, the `n` largest.

    Columns `condition, source, similarity, share, through`. share: of the predicted change, along its direction; the
    rest of it is the mean effect, the propagated signal, interactions and the perturbed gene itself. through: up to
    three of what both have in common, what weighs most first.

    Args:
        bags, state: of one condition. conditions: names of the training samples.
    """
    training, kernel = network.training_bags, network.kernel
    reached = network.propagation.reached(bags)
    parts = kernel.parts(bags, training, reached, network.training_reached)[:, 0]
    change = network(bags, state)[0][0]
    along = change / change.square().sum().clamp_min(1e-12)
    told = network.weights @ (network.programmes @ along if len(network.programmes) else along)
    share = parts * told
    names = [ITSELF, *(source.name for source in kernel.sources)]
    rows = []
    for place in share.abs().ravel().argsort(descending=True)[:n].tolist():
        source, row = divmod(place, len(conditions))
        if share[source, row]:
            of = bags.genes.numpy(), training.take(slice(row, row + 1)).genes.numpy()
            through = "" if not source else ", ".join(_common(kernel, source - 1, *of))
            rows.append((conditions[row], names[source], float(parts[source, row]), float(share[source, row]), through))
    return pd.DataFrame(rows, columns=["condition", "source", "similarity", "share", "through"])


def _common(kernel: ConditionKernel, number: int, a: np.ndarray, b: np.ndarray) -> list[str]:
    """Up to three of the features that genes a and b have in common, by how much they weigh."""
    source = kernel.sources[number]
    if source.labels is None:
        return []
    product = source.rows(a).sum(axis=0) * source.rows(b).sum(axis=0)
    product = np.asarray(product).ravel()
    return [str(source.labels[place]) for place in np.argsort(-np.abs(product))[:3] if product[place]]


@torch.no_grad()
def source_weights(kernel: ConditionKernel, genes: Tensor) -> pd.DataFrame:
    """Mean gate of each source over the perturbed `genes` (numbers of nodes), and the share of them that it knows."""
    known = [1.0, *(float(known[genes].double().mean()) for known in kernel.known)]
    names = [ITSELF, *(source.name for source in kernel.sources)]
    weight = kernel.gates(genes).mean(1).numpy()
    return pd.DataFrame({"weight": weight, "known": known}, index=pd.Index(names, name="source"))
