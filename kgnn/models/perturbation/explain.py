"""Which edges carried a prediction to which genes."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kgnn.nn.knowledge import Bags, KnowledgeNetwork

COLUMNS = ["gene", "source", "target", "channel", "contribution"]


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
    with torch.no_grad():
        change, _ = network(bags, state)
    size = float(torch.linalg.vector_norm(change[0]).sqrt())  # δ = ŷ ‖ŷ‖, so ‖ŷ‖ = √‖δ‖
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
            carried = (gradient * weight.detach()).double().numpy() * size
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
