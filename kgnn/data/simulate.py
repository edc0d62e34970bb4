"""Perturbation screens from a known signed network, so that the truth is known."""

from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.special import expit

from kgnn.errors import InputError

Kind = Literal["knock-out", "knock-down", "over-expression"]

HILL = 2.0  # Hill coefficient, no unit: SERGIO's default (Dibaeinia & Sinha, Cell Systems 2020)
DECAY = 0.8  # decay rate, 1/h: SERGIO's default
STRENGTH = (1.0, 5.0)  # largest production that one regulator adds, expression units/h: SERGIO's range
BASAL = (1.0, 10.0)  # basal production of a gene without regulators, expression units/h: chosen here, one decade
LEAK = 0.1  # share of it that a regulated gene keeps: chosen here; in SERGIO it is 0
KNOCK_DOWN = 0.2  # production left: CRISPRi commonly removes 80 % or more (Gilbert et al., Cell 2014)
OVER_EXPRESSION = 5.0  # production factor: the order of magnitude of CRISPRa (Gilbert et al., Cell 2014)
LINE_SPREAD, LINE_SILENT, LINE_SILENCE = 0.7, 0.2, 0.05  # how cell lines differ: chosen here
LIBRARY_SPREAD = 0.3  # standard deviation of the log library size: SERGIO's examples use 0.3 to 0.5
DROPOUT_SHAPE = 6.5  # steepness of drop-out in log expression: SERGIO's example for 10x data


def simulate(
    *,
    n_genes: int = 200,
    n_regulators: int | None = None,
    n_singles: int = 40,
    n_pairs: int = 20,
    cells_per_condition: int = 50,
    n_controls: int = 200,
    kind: Kind = "knock-out",
    regulators_per_gene: float = 3.0,
    repressing: float = 0.3,
    noise: float = 0.2,
    library_size: float = 10_000.0,
    dropout: float = 5.0,
    n_lines: int = 1,
    seed: int = 0,
) -> AnnData:
    """Simulate a Perturb-seq screen from a random signed regulatory network.

    Gene i is produced at the rate p_i · (b_i + Σ_j K_ij · H(x_j)) and decays at the rate λ x_i; the steady state
    is x_i = p_i (b_i + Σ_j K_ij H(x_j)) / λ. H(x) = xⁿ / (hⁿ + xⁿ) for an activator, 1 − that for a repressor,
    with h the regulator's level in unperturbed cells (the form of SERGIO, Dibaeinia & Sinha, Cell Systems 2020).
    A perturbation multiplies p_i: 0 for a knock-out, 0.2 for a knock-down, 5 for an over-expression. Every cell has
    its own log-normal p, so that variation travels along the network and genes are co-expressed. Counts are
    Poisson with log-normal library sizes; drop-out loses entries with a probability logistic in log expression.

    Args:
        n_genes: measured genes, named G000, G001, …
        n_regulators: genes that may regulate others; default a quarter. The network is acyclic.
        n_singles, n_pairs: conditions with one and with two perturbed genes, all drawn from the genes that
            regulate at least one other.
        cells_per_condition, n_controls: numbers of cells.
        kind: what the perturbation does.
        regulators_per_gene: mean number of regulators of a gene (Poisson); few regulators have many targets.
        repressing: share of edges that repress, in [0, 1].
        noise: standard deviation of log p between cells, no unit.
        library_size: median counts a cell.
        dropout: percentile of expected counts at which half of the entries are lost, in [0, 100]; 0 switches
            drop-out off.
        n_lines: cell lines that share the network: each but the first has its own log-normal production factors
            (standard deviation 0.7), and a fifth of its genes at a twentieth of that. Every line has all conditions and
            controls.
        seed: same seed, same screen.

    Returns:
        AnnData, cells × genes: `X` log1p of counts per 10,000 (sparse float32), `layers["counts"]`,
        `obs["condition"]` (`control`, `G001`, `G001+G007`); `uns["network"]`, the true edges `source, target,
        sign, weight`; `varm["true_delta"]`, a table genes × conditions with the noise-free change against
        control, of log1p of expression per 10,000. With several lines `obs["cell_line"]` (`line0`, `line1`, …), and
        one such table a line, `varm["true_delta_line1"]`, …; `true_delta` is the first one's.

    Raises:
        InputError: sizes that do not fit together.
    """
    n_regulators = n_genes // 4 if n_regulators is None else n_regulators
    if not 2 <= n_regulators <= n_genes:
        raise InputError(f"n_regulators must lie between 2 and n_genes = {n_genes}, not {n_regulators}")
    if cells_per_condition < 1 or n_controls < 1 or n_lines < 1:
        raise InputError("cells_per_condition, n_controls and n_lines must be at least 1")
    factor = {"knock-out": 0.0, "knock-down": KNOCK_DOWN, "over-expression": OVER_EXPRESSION}.get(kind)
    if factor is None:
        raise InputError(f"kind must be knock-out, knock-down or over-expression, not {kind!r}")
    rng = np.random.default_rng(seed)
    genes = gene_names(n_genes)
    network = random_network(n_genes, n_regulators, regulators_per_gene, repressing, rng)
    basal = basal_rates(network, n_genes, rng)
    conditions = _draw_conditions(np.unique(network["source"]), n_singles, n_pairs, rng)
    half_level = control_level(network, basal)

    perturbation = np.ones((len(conditions) + 1, n_genes))  # last row: control
    for row, perturbed in enumerate(conditions):
        perturbation[row, list(perturbed)] = factor
    line_factor = _line_factors(n_lines, n_genes, rng)
    truth = [log_normalise(steady_state(network, basal, half_level, perturbation * factors)) for factors in line_factor]
    sizes = [*[cells_per_condition] * len(conditions), n_controls]
    condition = np.tile(np.repeat(np.arange(len(conditions) + 1), sizes), n_lines)
    line = np.repeat(np.arange(n_lines), sum(sizes))
    rates = perturbation[condition] * np.exp(noise * rng.standard_normal((len(condition), n_genes))) * line_factor[line]
    counts = count_cells(steady_state(network, basal, half_level, rates), library_size, dropout, rng)

    names = ["+".join(genes[list(perturbed)]) for perturbed in conditions]
    adata = counted(counts, genes, np.array([*names, "control"], dtype=object)[condition])
    for number, of_line in enumerate(truth):
        name = f"true_delta_line{number}" if number else "true_delta"
        adata.varm[name] = pd.DataFrame((of_line[:-1] - of_line[-1]).T, index=genes, columns=names)
    if n_lines > 1:
        adata.obs["cell_line"] = pd.Categorical([f"line{number}" for number in line])
    adata.uns["network"] = named_edges(network, genes)
    return adata


def gene_names(n_genes: int) -> np.ndarray:
    """G000, G001, …"""
    width = max(3, len(str(n_genes - 1)))
    return np.array([f"G{number:0{width}d}" for number in range(n_genes)], dtype=object)


def random_network(
    n_genes: int, n_regulators: int, per_gene: float, repressing: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Every gene but the first draws regulators among those before it; few regulators are drawn often."""
    popularity = 1 / rng.permutation(np.arange(1, n_regulators + 1))
    edges = []
    for gene in range(1, n_genes):
        candidates = min(gene, n_regulators)
        number = min(candidates, rng.poisson(per_gene))
        weight = popularity[:candidates] / popularity[:candidates].sum()
        edges += [(regulator, gene) for regulator in rng.choice(candidates, number, replace=False, p=weight)]
    network = pd.DataFrame(edges, columns=["source", "target"])
    network["sign"] = np.where(rng.random(len(network)) < repressing, -1, 1)
    network["strength"] = rng.uniform(*STRENGTH, len(network))
    return network


def basal_rates(network: pd.DataFrame, n_genes: int, rng: np.random.Generator) -> np.ndarray:
    """Production [genes] that no regulator adds."""
    regulated = np.isin(np.arange(n_genes), network["target"])
    return rng.uniform(*BASAL, n_genes) * np.where(regulated, LEAK, 1)


def named_edges(network: pd.DataFrame, genes: np.ndarray) -> pd.DataFrame:
    """The network as users see it."""
    ends = {side: genes[network[side]] for side in ("source", "target")}
    return pd.DataFrame(ends | {"sign": network["sign"].to_numpy(), "weight": network["strength"].to_numpy()})


def _line_factors(n_lines: int, n_genes: int, rng: np.random.Generator) -> np.ndarray:
    """Production factors [lines, genes]; ones for the first line."""
    factors = np.ones((n_lines, n_genes))
    for line in range(1, n_lines):
        factors[line] = np.exp(LINE_SPREAD * rng.standard_normal(n_genes))
        factors[line] *= np.where(rng.random(n_genes) < LINE_SILENT, LINE_SILENCE, 1)
    return factors


def _draw_conditions(
    regulators: np.ndarray, n_singles: int, n_pairs: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    n_possible = len(regulators) * (len(regulators) - 1) // 2
    if n_singles > len(regulators) or n_pairs > n_possible:
        raise InputError(
            f"{n_singles} singles and {n_pairs} pairs are too many: {len(regulators)} genes regulate others; "
            "raise n_genes or n_regulators"
        )
    singles = [(int(gene),) for gene in np.sort(rng.choice(regulators, n_singles, replace=False))]
    first, second = np.triu_indices(len(regulators), 1)
    drawn = np.sort(rng.choice(n_possible, n_pairs, replace=False))
    return singles + [(int(regulators[first[k]]), int(regulators[second[k]])) for k in drawn]


def control_level(network: pd.DataFrame, basal: np.ndarray) -> np.ndarray:
    """Steady state of the unperturbed mean cell: there every Hill function is at one half."""
    half = 0.5 * np.bincount(network["target"], network["strength"], minlength=len(basal))
    return (basal + half) / DECAY


def steady_state(network: pd.DataFrame, basal: np.ndarray, half_level: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Levels [cells, genes] for production factors `rates` [cells, genes]; regulators come before their targets."""
    level = np.zeros_like(rates)
    incoming = dict(list(network.groupby("target")))
    for gene in range(rates.shape[1]):
        production = np.full(len(rates), basal[gene])
        if gene in incoming:
            edges = incoming[gene]
            source = edges["source"].to_numpy()
            ratio = (level[:, source] / half_level[source]) ** HILL
            response = ratio / (1 + ratio)
            response = np.where(edges["sign"].to_numpy() > 0, response, 1 - response)
            production += response @ edges["strength"].to_numpy()
        level[:, gene] = rates[:, gene] * production / DECAY
    return level


def count_cells(level: np.ndarray, library_size: float, dropout: float, rng: np.random.Generator) -> np.ndarray:
    size = library_size * np.exp(LIBRARY_SPREAD * rng.standard_normal((len(level), 1)))
    expected = size * level / level.sum(axis=1, keepdims=True)
    counts = rng.poisson(expected)
    if dropout > 0:
        log_expected = np.log(np.maximum(expected, 1e-12))
        lost = expit(-DROPOUT_SHAPE * (log_expected - np.percentile(log_expected, dropout)))
        counts[rng.random(counts.shape) < lost] = 0
    return counts


def log_normalise(level: np.ndarray) -> np.ndarray:
    total = level.sum(axis=1, keepdims=True)
    return np.log1p(1e4 * level / np.maximum(total, 1e-12))


def counted(counts: np.ndarray, genes: np.ndarray, conditions: np.ndarray) -> AnnData:
    """A screen of counted cells [cells, genes], each of one of `conditions` [cells]."""
    adata = AnnData(sparse.csr_matrix(log_normalise(counts), dtype=np.float32))
    adata.layers["counts"] = sparse.csr_matrix(counts, dtype=np.float32)
    adata.var_names = genes
    adata.obs_names = [f"cell{number}" for number in range(adata.n_obs)]
    adata.obs["condition"] = pd.Categorical(conditions)
    return adata
