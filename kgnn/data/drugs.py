"""Screens of drugs at several doses, with known targets and dose curves."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.conditions import Part
from kgnn.data.simulate import (
    basal_rates,
    control_level,
    count_cells,
    counted,
    gene_names,
    log_normalise,
    named_edges,
    random_network,
    steady_state,
)
from kgnn.errors import InputError

DOSES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
HALF, HILL = (0.1, 3.0), (1.0, 3.0)  # dose of half the effect, log-uniform; Hill's coefficient, uniform: chosen here
TARGETS = 3  # of a drug, at most


def simulate_drugs(
    *,
    n_genes: int = 100,
    n_drugs: int = 12,
    doses: Sequence[float] = DOSES,
    n_singles: int = 15,
    cells_per_condition: int = 30,
    n_controls: int = 200,
    noise: float = 0.2,
    library_size: float = 10_000.0,
    seed: int = 0,
) -> AnnData:
    """Simulate cells under drugs on the network of `simulate`: a drug inhibits one to three regulators.

    At the dose d the production of a drug's targets is multiplied by 1 − dʰ / (dʰ + kʰ) (Hill, J Physiol 1910), with
    its own h and k.

    Args:
        n_genes: measured genes, G000, G001, …; a quarter may regulate others.
        n_drugs: D00, D01, …; each is given at each of `doses`.
        n_singles: genes knocked out, among those that regulate others.
        cells_per_condition, n_controls, noise, library_size, seed: as `simulate`; there is no drop-out.

    Returns:
        AnnData as `simulate` makes it; `obs["condition"]` holds `D00@0.3`, `G001` and `control`; `uns["targets"]` is a
        table `drug, gene`, `uns["curves"]` one `drug, k, h`.

    Raises:
        InputError: sizes that do not fit together; a dose that is not above 0 or stands twice.
    """
    if min(n_drugs, len(doses), cells_per_condition, n_controls) < 1:
        raise InputError("n_drugs, cells_per_condition, n_controls and the number of doses must be at least 1")
    for dose in doses:
        if not 0 < dose < math.inf:
            raise InputError(f"doses must be above 0, not {dose:g}")
    if len({*doses}) < len(doses):
        raise InputError("a dose stands twice; give each once")
    if n_genes < 8:
        raise InputError(f"n_genes must be at least 8, not {n_genes}")
    rng = np.random.default_rng(seed)
    genes = gene_names(n_genes)
    drugs = [f"D{number:02d}" for number in range(n_drugs)]
    network = random_network(n_genes, n_genes // 4, 3.0, 0.3, rng)
    basal = basal_rates(network, n_genes, rng)
    regulators = np.unique(network["source"])
    if n_singles > len(regulators):
        raise InputError(f"{n_singles} knock-outs are too many: {len(regulators)} genes regulate others")
    most = min(TARGETS, len(regulators))
    targets = [rng.choice(regulators, rng.integers(1, most + 1), replace=False) for _ in drugs]
    half = np.exp(rng.uniform(np.log(HALF[0]), np.log(HALF[1]), n_drugs))
    steepness = rng.uniform(*HILL, n_drugs)
    knocked = np.sort(rng.choice(regulators, n_singles, replace=False))

    production = np.ones((n_drugs * len(doses) + n_singles + 1, n_genes))  # last row: control
    names = [str(Part(drug, dose)) for drug in drugs for dose in doses] + [*genes[knocked], "control"]
    left = 1 / (1 + (np.array(doses) / half[:, None]) ** steepness[:, None])
    for row, (drug, dose) in enumerate(np.ndindex(n_drugs, len(doses))):
        production[row, targets[drug]] = left[drug, dose]
    production[n_drugs * len(doses) + np.arange(n_singles), knocked] = 0
    level = control_level(network, basal)
    truth = log_normalise(steady_state(network, basal, level, production))
    condition = np.repeat(np.arange(len(names)), [*[cells_per_condition] * (len(names) - 1), n_controls])
    rates = production[condition] * np.exp(noise * rng.standard_normal((len(condition), n_genes)))
    counts = count_cells(steady_state(network, basal, level, rates), library_size, 0.0, rng)

    adata = counted(counts, genes, np.array(names, dtype=object)[condition])
    adata.varm["true_delta"] = pd.DataFrame((truth[:-1] - truth[-1]).T, index=genes, columns=names[:-1])
    pairs = [(drug, genes[target]) for drug, of_drug in zip(drugs, targets, strict=True) for target in of_drug]
    adata.uns["network"] = named_edges(network, genes)
    adata.uns["targets"] = pd.DataFrame(pairs, columns=["drug", "gene"])
    adata.uns["curves"] = pd.DataFrame({"drug": drugs, "k": half, "h": steepness})
    return adata
