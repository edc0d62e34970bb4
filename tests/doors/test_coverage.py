"""How many genes the graph, the data and the model share is kept, told below half, refused at none."""

import numpy as np
import pandas as pd
import pytest

from kgnn import CellModel, PerturbationModel
from kgnn.data import simulate_atlas
from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_table
from kgnn.graph.coverage import Coverage, check_coverage
from tests.doors.conftest import GENES, relabelled, renamed_graph, told

ENSEMBL = {gene: f"ENSG{number:011d}" for number, gene in enumerate(GENES)}
QUICK = {"max_epochs": 1, "enable_progress_bar": False, "accelerator": "cpu"}


def test_coverage_is_kept_and_saved(screen, kg, parts, tmp_path):
    part = kg.subset([gene for gene in GENES if gene not in ("GENE0", "GENE39")])
    model = PerturbationModel(part).fit(screen, parts)
    assert model.coverage_ == {"measured": Coverage(38, 40), "perturbed": Coverage(7, 8)}
    assert model.coverage_["measured"].share == 0.95
    model.save(tmp_path / "m")
    assert PerturbationModel.load(tmp_path / "m").coverage_ == model.coverage_
    assert PerturbationModel(encoder="mean").fit(screen, parts).coverage_ == {}


@pytest.mark.parametrize("encoder", ["kg", "gears", "txpert"])
def test_measured_genes_in_another_namespace_are_refused(screen, kg, parts, encoder):
    """Before, such a fit was bit-identical to one without a graph."""
    screen.var_names = [ENSEMBL[gene] for gene in GENES]
    options = {} if encoder == "kg" else {"channels": 8}
    (text,) = told(PerturbationModel(kg, encoder=encoder, **options).fit, screen, parts)
    assert text.startswith("refused: none of the 40 measured genes is in the graph, which lacks ENSG00000000000")
    assert "look like Ensembl gene ids (human) (40 of 40)" in text
    assert "kg.map_genes" in text


def test_a_graph_in_another_namespace_is_refused(screen, kg, parts):
    (text,) = told(PerturbationModel(renamed_graph(kg, ENSEMBL)).fit, screen, parts)
    assert text.startswith("refused: the graph shares no gene with the data")


def test_few_known_genes_are_told(screen, kg, parts):
    few = kg.subset(GENES[:19])
    assert told(PerturbationModel(kg.subset(GENES[:20])).fit, screen, parts) == []
    (text,) = told(PerturbationModel(few).fit, screen, parts)
    assert text.startswith("19 of the 40 measured genes are in the graph, which lacks GENE19, GENE20, GENE21, …")
    (text,) = told(PerturbationModel(kg.subset(GENES[5:])).fit, screen, parts)
    assert text.startswith("3 of the 8 perturbed genes are in the graph, which lacks GENE0")


def test_conditions_outside_the_split_are_not_counted(screen, kg, parts):
    """Before, unused conditions brought the warning of above."""
    part, used = kg.subset(GENES[5:]), {"train": ["GENE5", "GENE6"], "val": [], "test": ["GENE7"]}
    assert told(PerturbationModel(part).fit, screen, used) == []
    assert PerturbationModel(part).fit(screen, used).coverage_["perturbed"] == Coverage(3, 3)
    (text,) = told(PerturbationModel(part).fit, screen, used | {"test": ["GENE0", "GENE1", "GENE2", "GENE3"]})
    assert text.startswith("2 of the 6 perturbed genes are in the graph, which lacks GENE0")


def test_nodes_that_are_no_genes_are_told_of_an_encoder_that_takes_genes_alone(screen, kg, parts):
    """Before, they were told as genes of another namespace, or as labels to be mapped."""
    adata = relabelled(screen, GENE0="Drug0", GENE1="Drug1")
    drugs = load_table(
        pd.DataFrame({"source": ["Drug0", "Drug1"], "target": GENES[:2]}), source_type="drug", relation="affects"
    )
    genes = parts | {"train": parts["train"][2:]}
    both = parts | {"train": ["Drug0", "Drug1", *genes["train"]]}
    (text,) = told(PerturbationModel(kg | drugs).fit, adata, both)
    assert text.startswith("the graph knows 2 of the 8 perturbed names (Drug0, Drug1) as nodes of other types")
    assert "encoder='hetero'" in text
    assert PerturbationModel(kg | drugs).fit(adata, genes).coverage_["perturbed"] == Coverage(6, 6)
    hetero = PerturbationModel(kg | drugs, encoder="hetero", channels=4)
    assert told(lambda: hetero.fit(adata, both, **QUICK)) == []
    assert hetero.coverage_["perturbed"] == Coverage(8, 8)


def test_the_warning_points_to_the_line_that_calls_fit(screen, kg, parts):
    with pytest.warns(DataWarning, match="which lacks") as caught:
        PerturbationModel(kg.subset(GENES[5:])).fit(screen, parts)
    assert [warning.filename for warning in caught] == [__file__]


def test_perturbed_genes_in_another_namespace_are_refused(screen, kg, parts):
    adata = relabelled(screen, **{gene: ENSEMBL[gene] for gene in GENES[:8]})
    names = {part: [ENSEMBL[gene] for gene in parts[part]] for part in ("train", "val", "test")}
    (text,) = told(PerturbationModel(kg).fit, adata, names)
    assert text.startswith("refused: none of the 8 perturbed genes is in the graph")


def test_models_without_a_graph_ask_for_none(screen, kg, parts):
    screen.var_names = [ENSEMBL[gene] for gene in GENES]
    assert told(PerturbationModel(kg, encoder="mean").fit, screen, parts) == []


def atlas_and_graph():
    atlas = simulate_atlas(cells_per_type=6, seed=0)
    genes = list(atlas.var_names)
    return atlas, load_table(pd.DataFrame({"source": genes, "target": np.roll(genes, 1)}), relation="linked")


def test_cell_models_keep_and_tell_it_too(tmp_path):
    atlas, kg = atlas_and_graph()
    n = atlas.n_vars
    fit = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}
    model = CellModel(kg, encoder="graph", channels=8, heads=2, objectives={"value": 1.0})
    model.fit(atlas, layer="counts" if "counts" in atlas.layers else None, **fit)
    assert model.coverage_ == {"measured": Coverage(n, n)}
    model.save(tmp_path / "m")
    assert CellModel.load(tmp_path / "m").coverage_ == model.coverage_
    few = atlas[:, : n // 3].copy()
    with pytest.warns(DataWarning, match=rf"{n // 3} of the {n} genes of the model are in the data"):
        model.embed(few, layer="counts" if "counts" in atlas.layers else None)
    few.var_names = [f"ENSG{i:011d}" for i in range(few.n_vars)]
    with pytest.raises(InputError, match=r"none of the .* genes of the data"):
        model.embed(few)
    atlas.var_names = [f"ENSG{i:011d}" for i in range(n)]
    with pytest.raises(InputError, match=r"the graph links no two genes of the data"):
        CellModel(kg, encoder="graph", channels=8, heads=2, objectives={"value": 1.0}).fit(atlas, **fit)


def test_counting_by_hand():
    assert check_coverage(["A", "B", "B"], {"A", "C"}, "genes", "it") == (1, 2)
    assert check_coverage([], {"A"}, "genes", "it").share == 1
    with pytest.warns(DataWarning, match="1 of the 3 genes is in it, which lacks B, C"):
        assert check_coverage(["A", "B", "C"], {"A"}, "genes", "it") == (1, 3)
    with pytest.raises(InputError, match="none of the 2 genes is in it"):
        check_coverage(["B", "C"], {"A"}, "genes", "it")
    with pytest.warns(DataWarning, match="none of the 2 genes is in it"):
        check_coverage(["B", "C"], {"A"}, "genes", "it", none=False)
    with pytest.raises(InputError, match=r"look like Entrez numbers.*one namespace"):
        check_coverage(["12", "13"], {"A"}, "genes", "it", none=False)
