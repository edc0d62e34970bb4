"""Which edges carried a prediction to which genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from kgnn.data.conditions import ConditionNames
from kgnn.data.screen import perturbed_genes
from kgnn.errors import InputError
from kgnn.models.perturbation.predictions import check_known, read_conditions
from kgnn.nn.knowledge import KnowledgeNetwork

if TYPE_CHECKING:
    from kgnn.models.perturbation.model import PerturbationModel

COLUMNS = ["gene", "source", "target", "channel", "contribution"]


def explain(self: PerturbationModel, condition: str, *, n_genes: int = 20) -> pd.DataFrame:
    """Return which edges carried the predicted change of a condition to its `n_genes` most reached genes (`"kg"`).

    One row a gene and edge: `gene, source, target, channel, contribution`, largest first. The contribution is the
    edge's weight times the gradient of the gene's propagated change to it, in expression units: for a path of one edge
    all that it carries; an edge of longer paths counts in each. What the kernel over conditions adds did not travel
    along edges. Drawn by `kgnn.plotting.explanation`.

    Raises:
        InputError: a model of another encoder, or not fitted; a gene that the model does not know.
    """
    model, network = self, getattr(self, "network_", None)
    if not isinstance(network, KnowledgeNetwork):
        raise InputError("explain needs a fitted model of encoder='kg'; fit one on the same data and graph")
    name = read_conditions(condition, ConditionNames(model.control))[0]
    check_known([name], model.perturbable_)
    bags, state = model.inputs([name])
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
                        "gene": model.genes_[gene],
                        "source": model.perturbable_[source],
                        "target": model.perturbable_[target],
                        "channel": channel,
                        "contribution": carried[edges],
                    }
                )
            )
    table = pd.concat([part for part in rows if len(part)] or rows, ignore_index=True)
    order = table["contribution"].abs().sort_values(ascending=False, kind="stable").index
    table = table.loc[order].reset_index(drop=True)
    table.attrs = {"condition": name, "perturbed": list(perturbed_genes(name))}
    return table
