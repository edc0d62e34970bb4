"""`CellModel` on simulated atlases whose hierarchy and network are known."""

import copy
import inspect
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from lightning.pytorch import Callback
from scipy import sparse, stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from kgnn import CellModel, KnowledgeGraph
from kgnn.data import simulate_atlas
from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_table
from kgnn.graph.ontology import Ontology
from kgnn.models import load_model
from kgnn.models.cells.graphs import genomic_positions, principal_components
from kgnn.models.cells.labels import back_off, build_labels
from kgnn.models.cells.tokens import choose_genes
from kgnn.models.cells.training import thin
from kgnn.nn.tokens import sinusoids

SMALL = {"channels": 16, "layers": 1, "heads": 2}
FAST = {"max_epochs": 25, "batch_size": 16, "learning_rate": 3e-3, "enable_progress_bar": False, "accelerator": "cpu"}


def ontology_of(atlas):
    edges = atlas.uns["ontology"]
    terms = sorted({*edges["child"], *edges["parent"]})
    nodes = pd.DataFrame({"label": [f"type {term[2:]}" for term in terms]}, index=terms)
    table = edges.rename(columns={"child": "source", "parent": "target"})
    return Ontology(KnowledgeGraph({"cell_type": nodes}, {("cell_type", "is_a", "cell_type"): table}))


@pytest.fixture(scope="module")
def atlas():
    return simulate_atlas(n_genes=60, branches=(2, 3), cells_per_type=60, inner=0.1, seed=0)


@pytest.fixture(scope="module")
def ontology(atlas):
    return ontology_of(atlas)


@pytest.fixture(scope="module")
def parts(atlas):
    held = np.random.default_rng(0).permutation(atlas.n_obs) < atlas.n_obs // 4
    return atlas[~held].copy(), atlas[held].copy()


@pytest.fixture(scope="module")
def kg(atlas):
    return load_table(atlas.uns["network"], relation="regulates", origin="network")


ALL = dict.fromkeys(("gene", "value", "denoise", "bottleneck", "classify", "coherence", "relation"), 1.0)


@pytest.fixture(scope="module")
def model(parts, ontology):
    model = CellModel(
        classes=["cell_type", "tissue"],
        ontology={"cell_type": ontology},
        objectives=ALL | {"classify": 5.0, "dissimilar": 0.1},
        **SMALL,
    )
    return model.fit(parts[0], **FAST)


def test_it_annotates_cells_that_it_has_not_seen(model, parts):
    out = model.annotate(parts[1], threshold=0.0)
    right = out["cell_type_term"] == parts[1].obs["true_type"].astype(str).to_numpy()
    x, y = (np.log1p(1e4 * part.X.toarray() / part.X.sum(1).A1[:, None]) for part in parts)
    plain = LogisticRegression(max_iter=1000).fit(x, parts[0].obs["true_type"]).score(y, parts[1].obs["true_type"])
    assert right.mean() > plain - 0.05  # that one was told the labels that the model saw only as their parents
    plain = LogisticRegression(max_iter=1000).fit(x, parts[0].obs["tissue"]).score(y, parts[1].obs["tissue"])
    assert (out["tissue"] == parts[1].obs["tissue"].astype(str)).mean() > max(0.6, plain - 0.1)
    assert out.index.equals(parts[1].obs_names)
    assert out["cell_type"].iloc[0].startswith("type ")
    sure = model.annotate(parts[1], threshold=0.99)
    assert sure["cell_type_probability"].between(0, 1).all()
    backed = sure["cell_type_term"].str.count(r"\.") < out["cell_type_term"].str.count(r"\.")
    assert backed.mean() > 0  # only said to belong to a lineage
    true = parts[1].obs["true_type"].astype(str)
    fits = [term == "T:0" or one.startswith(term) for term, one in zip(sure["cell_type_term"], true, strict=True)]
    assert np.mean(fits) > 0.95


def test_embedding_separates_types_and_goes_where_it_is_asked_to(model, parts):
    from sklearn.metrics import silhouette_score

    adata = parts[1].copy()
    found = model.embed(adata)
    np.testing.assert_array_equal(adata.obsm["X_kgnn"], found)
    assert silhouette_score(found, adata.obs["true_type"]) > 0.1
    before = set(parts[1].obsm)
    model.embed(parts[1], key_added=None)
    assert set(parts[1].obsm) == before


def test_save_load_gives_the_same_bits(model, parts, tmp_path):
    model.save(tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    assert isinstance(loaded, CellModel)
    np.testing.assert_array_equal(loaded.embed(parts[1], key_added=None), model.embed(parts[1], key_added=None))
    pd.testing.assert_frame_equal(loaded.annotate(parts[1], threshold=0.7), model.annotate(parts[1], threshold=0.7))
    (tmp_path / "m/arrays.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="damaged"):
        CellModel.load(tmp_path / "m")


def test_a_seed_gives_the_same_model_and_moves_no_random_state(parts):
    state = torch.get_rng_state()
    runs = [CellModel(**SMALL).fit(parts[0], max_epochs=2, enable_progress_bar=False, seed=3) for _ in range(2)]
    np.testing.assert_array_equal(*(run.embed(parts[1], key_added=None) for run in runs))
    assert torch.equal(torch.get_rng_state(), state)
    other = CellModel(**SMALL).fit(parts[0], max_epochs=2, enable_progress_bar=False, seed=4)
    assert not np.array_equal(other.embed(parts[1], key_added=None), runs[0].embed(parts[1], key_added=None))


@pytest.mark.parametrize("encoder", ["graph_transformer", "graph", "alternating"])
@pytest.mark.parametrize("genes", ["all", "sampled", "expressed"])
def test_every_encoder_with_every_choice_of_genes(parts, kg, encoder, genes):
    model = CellModel(
        kg,
        encoder=encoder,
        genes=genes,
        context=60 if genes == "all" else 25,
        classes=["tissue"],
        value="rank",
        objectives={"value": 1, "denoise": 1, "bottleneck": 1, "classify": 1},
        **SMALL,
    )
    model.fit(parts[0], max_epochs=2, enable_progress_bar=False)
    assert np.isfinite(model.embed(parts[1], key_added=None)).all()
    assert np.isfinite(model.history_).all()


def test_denoising_predicts_held_out_counts_better_than_smoothing_over_neighbours():
    atlas = simulate_atlas(n_genes=60, branches=(2, 3), cells_per_type=80, library_size=300, dropout=0, noise=0.2)
    held = np.random.default_rng(0).permutation(atlas.n_obs) < atlas.n_obs // 4
    train, test = atlas[~held].copy(), atlas[held].copy()
    counts = test.X.toarray()
    seen = test.copy()
    seen.X = sparse.csr_matrix(np.random.default_rng(0).binomial(counts.astype(int), 0.4).astype(np.float32))
    left = counts - seen.X.toarray()  # independent of what is seen, given the cell's rates
    model = CellModel(objectives={"denoise": 1, "bottleneck": 1}, **SMALL).fit(train, **FAST)
    found = model.denoise(seen)
    np.testing.assert_allclose(found.X.sum(1), seen.X.sum(1).A1, rtol=1e-3)
    assert list(found.var_names) == list(train.var_names)

    def error(x):
        share = x / x.sum(1, keepdims=True)
        return stats.poisson.logpmf(left, share.clip(1e-4) * left.sum(1, keepdims=True)).mean()

    def logged(x):
        return np.log1p(1e4 * x / x.sum(1, keepdims=True))

    pool = np.concatenate([train.X.toarray(), seen.X.toarray()])
    components = PCA(10).fit(logged(pool))
    near = NearestNeighbors(n_neighbors=20).fit(components.transform(logged(pool)))
    smooth = pool[near.kneighbors(components.transform(logged(seen.X.toarray())))[1]].sum(1)
    assert error(found.X) > error(smooth) + 0.01


def test_a_network_is_read_from_attention_and_from_edges(parts, kg):
    for encoder in ("transformer", "graph_transformer", "alternating", "graph"):
        model = CellModel(None if encoder == "transformer" else kg, encoder=encoder, objectives={"value": 1}, **SMALL)
        model.fit(parts[0], max_epochs=2, enable_progress_bar=False)
        method = "attribution" if encoder == "graph_transformer" else "attention"
        found = model.gene_network(parts[1], groupby="tissue", top=5, method=method, max_cells=8)
        assert found.relations == [("gene", f"influences in tissue{n}", "gene") for n in (0, 1)]
        edges = found.edges(found.relations[0])
        assert (edges.groupby("target").size() <= 5).all()
        assert (edges["weight"] > 0).all()
        share = model.gene_network(parts[1], method="attribution", top=60, max_cells=2).edges(
            ("gene", "influences", "gene")
        )
        heard = share.groupby("target")["weight"].sum()
        np.testing.assert_allclose(heard, 1, atol=1e-5)
        if encoder == "graph":
            known = kg.edges(("gene", "regulates", "gene"))
            linked = {*zip(known["source"], known["target"], strict=True)}
            linked |= {(b, a) for a, b in linked}
            assert set(zip(edges["source"], edges["target"], strict=True)) <= linked


def test_a_network_is_read_from_cells_drawn_from_all(model, parts):
    """Cells are often sorted by sample: the first ones say little of the others."""
    cells = parts[1][np.argsort(parts[1].obs["true_type"].astype(str).to_numpy(), kind="stable")].copy()
    edge = ("gene", "influences", "gene")

    def weights(adata, max_cells):
        read = model.gene_network(adata, max_cells=max_cells, top=60).edges(edge)
        return read.set_index(["source", "target"])["weight"]

    every, some, first = weights(cells, 10**6), weights(cells, 20), weights(cells[:20].copy(), 20)
    assert (some - every).abs().mean() < 0.7 * (first - every).abs().mean()
    pd.testing.assert_series_equal(weights(cells, 20), some)
    with pytest.raises(InputError, match=r"no column 'donor' in adata\.obs; it has"):
        model.gene_network(cells, groupby="donor")
    with pytest.raises(InputError, match="no column 'donor'"):
        model.rank_regulators(cells, ["G000"], groupby="donor", start="a", end="b")
    with pytest.raises(InputError, match="raise max_cells=0"):
        model.gene_network(cells, max_cells=0)


def test_in_silico_perturbation_and_the_ranking_of_regulators(model, parts):
    cells = parts[1]
    moved = model.perturb(cells, ["G000", "G001"], mode="over-express")
    assert moved.shape == (cells.n_obs, 2)
    assert (moved.to_numpy() > 0).mean() > 0.9
    silent = np.flatnonzero(cells.X[:, 0].toarray().ravel() == 0)
    knocked = model.perturb(cells, ["G000"])["G000"].to_numpy()
    np.testing.assert_allclose(knocked[silent], 0, atol=1e-5)  # a gene that is not expressed cannot be removed
    types = sorted(set(cells.obs["true_type"].astype(str)))
    ranked = model.rank_regulators(
        cells, list(cells.var_names[:15]), groupby="true_type", start=types[0], end=types[-1]
    )
    x = np.log1p(1e4 * cells.X.toarray() / cells.X.sum(1).A1[:, None])
    true = cells.obs["true_type"].astype(str).to_numpy()
    higher = x[true == types[-1]].mean(0) - x[true == types[0]].mean(0)
    gain = pd.Series(higher[:15], index=cells.var_names[:15])
    assert ranked["towards"].corr(gain[ranked.index], method="spearman") > 0.4
    with pytest.raises(InputError, match="'NONE' is no token"):
        model.perturb(cells, ["NONE"])
    with pytest.raises(InputError, match="knock-out or over-express"):
        model.perturb(cells, ["G000"], mode="both")
    with pytest.raises(InputError, match="no cell has tissue = 'x'"):
        model.rank_regulators(cells, ["G000"], groupby="tissue", start="x", end="tissue0")


def test_fine_tuning_with_genes_added_and_missing(model, parts, tmp_path):
    model.save(tmp_path / "m")
    tuned = CellModel.load(tmp_path / "m")
    other = parts[1][:, 10:].copy()
    extra = AnnData(sparse.hstack([other.X, other.X[:, :2]], format="csr"), obs=other.obs)
    extra.var_names = [*other.var_names, "new1", "new2"]
    names = ("special.profile", "special.mean", "components")
    before = [tuned.network_.state_dict()[name].clone() for name in names]
    tuned.fine_tune(extra, max_epochs=0, enable_progress_bar=False)
    assert list(tuned.genes_) == [*model.genes_, "new1", "new2"]
    for name, value in zip(names, before, strict=True):
        torch.testing.assert_close(tuned.network_.state_dict()[name][:60], value)
    torch.testing.assert_close(
        tuned.network_.state_dict()["classifiers.1.weight"],
        model.network_.state_dict()["classifiers.1.weight"],
    )
    state = {name: value.clone() for name, value in tuned.network_.state_dict().items()}
    with pytest.raises(InputError, match="validation is a share"):
        tuned.fine_tune(parts[1], validation=1.0)
    torch.testing.assert_close(dict(tuned.network_.state_dict()), state)
    tuned.fine_tune(extra, max_epochs=5, batch_size=16, enable_progress_bar=False)
    out = tuned.annotate(extra, threshold=0.0)
    assert (out["cell_type_term"] == extra.obs["true_type"].astype(str).to_numpy()).mean() > 0.6
    renamed = parts[1].copy()
    renamed.obs["tissue"] = "tissue9"
    tuned.fine_tune(renamed, max_epochs=1, enable_progress_bar=False)
    assert tuned.labels_["tissue"].labels == ["tissue0", "tissue1", "tissue9"]


def test_a_class_with_new_labels_takes_no_outputs_over(parts, ontology):
    """T:1 and T:2 are two leaves; with T:1.2 below T:1 there are two again, and the first one means another type."""
    coarse = parts[1].copy()
    coarse.obs["cell_type"] = coarse.obs["true_type"].astype(str).str[:3]
    finer = coarse.copy()
    finer.obs.loc[finer.obs["true_type"] == "T:1.2", "cell_type"] = "T:1.2"
    model = CellModel(classes=["cell_type"], ontology={"cell_type": ontology}, objectives={"classify": 1}, **SMALL)
    model.fit(coarse, max_epochs=1, enable_progress_bar=False)
    before = model.network_.classifiers[0].weight.clone()
    model.fine_tune(coarse, max_epochs=0, enable_progress_bar=False)
    torch.testing.assert_close(model.network_.classifiers[0].weight, before)
    model.fine_tune(finer, max_epochs=0, enable_progress_bar=False)
    after = model.network_.classifiers[0].weight
    assert model.labels_["cell_type"].leaves == ["T:1.2", "T:2"]
    assert after.shape == before.shape
    assert not torch.isclose(after, before).any()


def test_knowledge_enters_and_unknown_knowledge_is_refused(parts, kg):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 4)), index=parts[0].var_names[:50])
    model = CellModel(kg.with_features("mine", table), knowledge={"told": table}, objectives={"value": 1}, **SMALL).fit(
        parts[0], max_epochs=1, enable_progress_bar=False
    )
    assert model.network_.tokens.sources == ["mine", "told"]
    vectors = model.gene_embeddings()
    assert vectors.index.equals(parts[0].var_names)
    counts = parts[0].X.toarray()
    covariance = np.cov(np.log1p(1e4 * counts / counts.sum(1, keepdims=True)).T)
    pairs = np.triu_indices(60, 1)
    assert stats.spearmanr(covariance[pairs], (vectors @ vectors.T).to_numpy()[pairs])[0] > 0.5
    with pytest.raises(InputError, match="none of the data's genes"):
        CellModel(knowledge={"k": table.rename(index=str.lower)}).fit(parts[0])
    with pytest.raises(InputError, match="two vectors of 'G000'"):
        CellModel(knowledge={"k": pd.concat([table, table[:1]])}).fit(parts[0])
    with pytest.warns(DataWarning, match="says nothing of 55 of 60"):
        CellModel(knowledge={"k": table[:5]}, **SMALL).fit(parts[0], max_epochs=1, enable_progress_bar=False)


def test_genes_are_placed_along_the_genome(parts, tmp_path):
    """G001 starts 10 kb behind G000 and shares its place, G002 10,001 further; G003 has none; X begins 4 kb on."""
    start = [5_000, 15_000, 25_001, None, *range(10**6, 7 * 10**6, 10**6), *range(6_004_000, 56 * 10**6, 10**6)]
    places = pd.DataFrame({"chromosome": ["1"] * 10 + ["X"] * 50, "start": start}, index=parts[0].var_names)
    found = genomic_positions(places.sample(frac=1, random_state=0), parts[0].var_names)
    expected = [1, 1, 2, np.nan, *range(3, 59)]
    np.testing.assert_array_equal(found, expected)
    model = CellModel(positions=places, objectives={"value": 1}, **SMALL)
    model.fit(parts[0], max_epochs=1, enable_progress_bar=False).save(tmp_path / "m")
    code = model.network_.tokens.position
    torch.testing.assert_close(code, sinusoids(found.nan_to_num(0.0), 16) * ~found.isnan()[:, None])
    loaded = CellModel.load(tmp_path / "m")
    torch.testing.assert_close(loaded.network_.tokens.position, code)
    np.testing.assert_array_equal(loaded.embed(parts[1], key_added=None), model.embed(parts[1], key_added=None))
    with pytest.raises(InputError, match=r"set model\.positions"):
        loaded.fine_tune(parts[1])
    loaded.positions = places
    loaded.fine_tune(parts[1], max_epochs=1, enable_progress_bar=False)
    with pytest.raises(InputError, match="no column 'start'"):
        CellModel(positions=places[["chromosome"]]).fit(parts[0])
    with pytest.raises(InputError, match="'12 Mb' of 'G005' is no number"):
        genomic_positions(places.astype(object).replace({"start": {2_000_000: "12 Mb"}}), parts[0].var_names)


def test_vectors_must_be_given_again_to_fine_tune_a_loaded_model(parts, tmp_path):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 4)), index=parts[0].var_names)
    model = CellModel(knowledge={"of mine.": table}, objectives={"value": 1}, **SMALL)
    model.fit(parts[0], max_epochs=1, enable_progress_bar=False).save(tmp_path / "m")
    loaded = CellModel.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.gene_embeddings(), model.gene_embeddings())
    with pytest.raises(InputError, match=r"vectors of 'of mine\.' are not kept"):
        loaded.fine_tune(parts[1])
    loaded.knowledge["of mine."] = table
    loaded.fine_tune(parts[1], max_epochs=1, enable_progress_bar=False)
    assert loaded.network_.tokens.sources == ["of mine."]


def test_a_layer_stands_in_for_an_unusable_x_and_cells_may_share_a_name(model, parts):
    adata = parts[1][:20].copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.toarray() - 3.3
    adata.obs_names = ["cell"] * 20
    said = model.annotate(adata, layer="counts")
    pd.testing.assert_frame_equal(
        said.reset_index(drop=True), model.annotate(parts[1][:20].copy()).reset_index(drop=True)
    )
    np.testing.assert_array_equal(
        model.embed(adata, layer="counts", key_added=None), model.embed(parts[1][:20].copy(), key_added=None)
    )


def test_one_model_over_two_species(ontology):
    atlas = simulate_atlas(n_genes=60, branches=(2, 3), cells_per_type=60, n_species=2, seed=0)
    human, mouse = (atlas[atlas.obs["species"] == name].copy() for name in ("species0", "species1"))
    model = CellModel(classes=["cell_type"], ontology={"cell_type": ontology}, species_key="species", **SMALL)
    few = mouse[::20].copy()
    import anndata

    model.fit(anndata.concat([human, few]), **FAST)
    right = model.annotate(mouse, threshold=0)["cell_type_term"] == mouse.obs["cell_type"].astype(str).to_numpy()
    assert right.mean() > 0.5  # six types
    mouse.obs["species"] = "fly"
    with pytest.raises(InputError, match="species 'fly' is unknown"):
        model.embed(mouse)


def test_backing_off_by_hand(ontology):
    labels = build_labels(["T:1.1", "T:1.2", "T:2.1"], ontology)
    assert labels.leaves == ["T:1.1", "T:1.2", "T:2.1"]
    outputs = {item.term: item.output for item in labels.above}
    assert outputs == {"T:1.1": 0, "T:1.2": 1, "T:2.1": 2, "T:1": 3, "T:0": -1}
    logits = np.array([[4.0, -5, -5, 5], [0.2, 0.1, -5, 1.5], [-3.0, -4, -5, -2], [1.0, 1.5, -1.2, 2]])
    out = back_off(labels, logits, 0.6)
    assert out["term"].tolist() == ["T:1.1", "T:1", "T:0", "T:1.2"]
    np.testing.assert_allclose(out["probability"], [1 / (1 + np.exp(-x)) for x in (4, 1.5, np.inf, 1.5)])
    assert out["label"][1] == "type 1"
    plain = build_labels(["a", "b"], None)
    out = back_off(plain, np.array([[0.0, np.log(3)]]), 0.9)
    assert (out["label"][0], out["probability"][0]) == ("b", pytest.approx(0.75))


def test_trees_know_leaves_inner_terms_and_levels(ontology):
    labels = build_labels(["T:1", "T:1.1", "T:1.2", "T:2.1"], ontology)
    tree = labels.tree
    assert tree.leaf.tolist() == [-1, 0, 1, 2]
    assert tree.below.tolist() == [
        [True, True, False],
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]
    assert tree.ancestor.tolist() == [
        [False] * 4,
        [True, False, False, False],
        [True, False, False, False],
        [False] * 4,
    ]
    assert tree.inner.tolist() == [[1], [1], [1], [0]]  # T:1
    assert tree.level[1, 2] > tree.level[1, 3]
    wide = build_labels(["T:0", "T:1.1", "T:1.2", "T:2.1"], ontology).tree
    assert wide.inner.tolist() == [[-1], [1], [1], [0]]  # a cell that is only T:0 may or may not be T:1


def test_far_terms_have_levels_of_their_own():
    terms = [f"T:{n}" for n in range(60)]
    table = pd.DataFrame({"source": terms[1:], "target": terms[:-1]})
    nodes = pd.DataFrame({"label": terms}, index=terms)
    chain = Ontology(KnowledgeGraph({"cell_type": nodes}, {("cell_type", "is_a", "cell_type"): table}))
    chosen = ["T:0", "T:25", "T:40", "T:59"]
    rank = chain.pagerank().loc[chosen, chosen].to_numpy()
    tree = build_labels(chosen, chain).tree
    assert rank.min() < 1e-4 / 2
    assert len(tree.level[0].unique()) == 4
    np.testing.assert_array_equal(tree.level, np.floor(np.log2(rank / rank.min() + 1)))


def test_components_that_stand_out_are_kept():
    rng = np.random.default_rng(0)
    loading = np.linalg.qr(rng.standard_normal((30, 3)))[0]
    signal = rng.standard_normal((400, 3)) * [9.0, 6.0, 4.0] @ loading.T
    values = (5 + signal + rng.standard_normal((400, 30))).astype(np.float32)
    found = principal_components(values, 10, 0)
    plain = PCA(10, svd_solver="full").fit(values)
    assert (found.kept > 0).tolist() == [True] * 3 + [False] * 7
    np.testing.assert_allclose(found.spread**2, plain.explained_variance_, rtol=0.02)  # randomised
    np.testing.assert_allclose(np.abs(np.diag(plain.components_[:3] @ found.components[:, :3])), 1, rtol=1e-3)
    noise = PCA(3, svd_solver="full").fit(values).noise_variance_  # Tipping and Bishop's estimate
    np.testing.assert_allclose(1 - found.kept[:3], noise / plain.explained_variance_[:3], rtol=1e-3)
    assert not principal_components(rng.standard_normal((200, 30)).astype(np.float32), 10, 0).kept.any()


def test_gene_choice_prefers_expressed_genes():
    torch.manual_seed(0)
    x = torch.tensor([[0.0, 3, 0, 1, 2], [0, 1, 0, 0, 0]])
    for training in (True, False):
        genes, present = choose_genes(x, "expressed", 4, torch.arange(5), training)
        assert genes.shape == (2, 3)
        assert set(genes[0].tolist()) == {1, 3, 4}
        assert genes[1][present[1]].tolist() == [1]
        assert present.tolist()[0] == [True] * 3
        genes, present = choose_genes(x, "sampled", 3, torch.arange(5), training)
        assert present is None
        assert genes.tolist() == [1, 3, 4]


def test_thinning_keeps_two_fifths_of_the_counts_of_half_of_the_cells():
    torch.manual_seed(0)
    x = torch.full((400, 50), 20.0)
    found = thin(x).sum(1)
    some = found < x.sum(1)
    assert 0.4 < some.float().mean() < 0.6
    assert float(found[some].mean()) == pytest.approx(400, rel=0.02)


def bad(**options):
    return lambda atlas, ontology: CellModel(**options).fit(atlas)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (bad(encoder="rnn"), "unknown encoder"),
        (bad(encoder="graph"), "give one as kg="),
        (bad(genes="some"), "genes must be one of"),
        (bad(value="x"), "value must be one of"),
        (bad(genes="all", context=20), "60 genes are more than context=20"),
        (bad(classes=["nothing"]), "no column 'nothing' in adata.obs"),
        (bad(objectives={"valu": 1}), "unknown objective 'valu'"),
        (bad(objectives={"value": 0}), "nothing to learn"),
        (bad(objectives={"value": -1}), "give 0 or more"),
        (bad(objectives={"relation": 1}), "needs a class with an ontology"),
        (bad(kg=load_table(pd.DataFrame({"source": ["X"], "target": ["Y"]})), encoder="graph"), "links no two genes"),
        (lambda a, o: CellModel(ontology={"cell_type": o}), "none of the classes"),
        (lambda a, o: CellModel(classes=["tissue"], ontology={"tissue": o}).fit(a), "no terms of the ontology"),
        (bad(context=-1), "context must be at least 1, not -1"),
        (bad(channels=18), "18 channels do not divide into 4 heads"),
        (lambda a, o: CellModel(**SMALL).fit(a, validation=-0.1), "validation is a share of the cells"),
        (lambda a, o: CellModel(**SMALL).fit(a, batch_size=0), "batch_size = 0; it must be"),
        (lambda a, o: CellModel(**SMALL).fit(a, max_epochs=-1), "max_epochs = -1; it must be"),
        (lambda a, o: CellModel(classes=["tissue"]).annotate(a, threshold=90), "threshold is a probability"),
        (lambda a, o: CellModel().annotate(a), "has no classes"),
        (lambda a, o: CellModel().embed(a), "not fitted"),
    ],
)
def test_bad_input_is_told(atlas, ontology, make, match):
    with pytest.raises(InputError, match=match):
        make(atlas, ontology)


def test_values_of_another_kind_are_refused(model, parts):
    import scanpy as sc

    logged = parts[1].copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    with pytest.raises(InputError, match="fitted on raw counts, these data are log-normalised"):
        model.embed(logged)
    with pytest.raises(InputError, match="'denoise' needs raw counts"):
        CellModel(objectives={"denoise": 1}).fit(logged)
    with pytest.raises(InputError, match="not trained to denoise"):
        CellModel(objectives={"value": 1}, **SMALL).fit(logged, max_epochs=1, enable_progress_bar=False).denoise(logged)


def test_lonely_labels_and_silent_cells_are_told(parts):
    adata = parts[0][:40].copy()
    adata.X = adata.X.toarray()
    adata.X[3] = 0
    adata.obs["kind"] = ["rare", *["often"] * 39]
    with (
        pytest.warns(DataWarning, match="1 labels have one cell each"),
        pytest.warns(DataWarning, match="1 of 40 cells"),
    ):
        model = CellModel(classes=["kind"], **SMALL).fit(adata, max_epochs=1, enable_progress_bar=False)
    with pytest.warns(DataWarning, match="1 of 40 cells"):
        assert np.isnan(model.embed(adata)).any(1).nonzero()[0].tolist() == [3]
    with pytest.warns(DataWarning, match="1 of 40 cells"):
        assert model.annotate(adata)["kind"].isna().to_numpy().nonzero()[0].tolist() == [3]
    adata.obs["kind"] = "one"
    with pytest.raises(InputError, match="one label only"):
        CellModel(classes=["kind"]).fit(adata)


SCRIPT = """
import sys
import torch
from kgnn import CellModel

model = CellModel(classes=["tissue"], channels=16, layers=1, heads=2)
options = dict(devices=2, strategy="ddp", accelerator="cpu", num_nodes=1)
model.fit(sys.argv[1], max_epochs=3, batch_size=16, enable_progress_bar=False, **options)
total = sum(parameter.double().sum() for parameter in model.network_.parameters())
assert len(model.history_) == 3
both = [torch.zeros_like(total) for _ in range(2)]
torch.distributed.all_gather(both, total)
assert both[0] == both[1], both
if torch.distributed.get_rank() == 0:
    model.save(sys.argv[2])
"""


def test_two_processes_train_one_model_from_disk(parts, tmp_path):
    parts[0].write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "train.py", tmp_path / "cells.h5ad", tmp_path / "model"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.isfinite(CellModel.load(tmp_path / "model").embed(parts[1], key_added=None)).all()


def test_a_loss_that_is_no_number_is_told(parts):
    model = CellModel(objectives={"value": 1}, **SMALL)
    with pytest.raises(InputError, match="epoch 1; lower learning_rate"):
        model.fit(parts[0], max_epochs=2, learning_rate=1e30, enable_progress_bar=False)


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_weights_that_run_away_are_told(parts, validation):
    model = CellModel(classes=["tissue"], **SMALL)
    with pytest.raises(InputError, match=r"training diverged.*; lower learning_rate="):
        model.fit(parts[0], max_epochs=2, learning_rate=1e12, validation=validation, enable_progress_bar=False)
    assert not hasattr(model, "network_")


def test_a_fit_that_fails_leaves_the_model_as_it_was(parts):
    model = CellModel(classes=["tissue"], **SMALL)
    unlabelled, diverging = parts[0].copy(), {"learning_rate": 1e30}
    unlabelled.obs["tissue"] = "one"
    for cells, options in ((unlabelled, {}), (parts[0], diverging)):
        with pytest.raises(InputError):
            model.fit(cells, max_epochs=1, enable_progress_bar=False, **options)
        assert not any(hasattr(model, name) for name in ("genes_", "labels_", "kind_", "network_", "history_"))
        with pytest.raises(InputError, match="not fitted"):
            model.embed(parts[1])
    model.fit(parts[0], max_epochs=1, enable_progress_bar=False)
    before = model.embed(parts[1], key_added=None), model.annotate(parts[1]), list(model.genes_), model.history_
    fewer, renamed = parts[0][:, 5:].copy(), parts[0].copy()
    renamed.obs["tissue"] = [f"tissue{n % 7}" for n in range(len(renamed))]
    for learn in (model.fit, model.fine_tune):
        for cells, options in ((unlabelled[:, 5:].copy(), {}), (fewer, diverging), (renamed, diverging)):
            if learn == model.fine_tune and not options:
                continue  # one new label is fine there
            with pytest.raises(InputError):
                learn(cells, max_epochs=1, enable_progress_bar=False, **options)
            np.testing.assert_array_equal(model.embed(parts[1], key_added=None), before[0])
            pd.testing.assert_frame_equal(model.annotate(parts[1]), before[1])
            assert (list(model.genes_), model.history_) == before[2:]


class CtrlC(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 8:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_fit_keeps_what_was_learned(parts):
    model = CellModel(classes=["tissue"], **SMALL)
    with pytest.raises(KeyboardInterrupt):
        model.fit(parts[0], max_epochs=50, batch_size=64, callbacks=[CtrlC()], enable_progress_bar=False)
    assert 1 <= len(model.history_) < 50
    assert np.isfinite(model.embed(parts[1], key_added=None)).all()


def test_options_that_nobody_takes_are_refused(parts):
    model = CellModel(**SMALL)
    with pytest.raises(InputError, match="'accumulate_grad_batch'; did you mean accumulate_grad_batches"):
        model.fit(parts[0], accumulate_grad_batch=2)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"(?i)gpu|cuda"):
            model.fit(parts[0], max_epochs=1, accelerator="gpu")
    model.fit(parts[0], max_epochs=1, enable_progress_bar=False)
    with pytest.raises(InputError, match="'learn_rate'"):
        model.fine_tune(parts[0], learn_rate=1e-3)


def test_cells_that_differ_in_their_genes_are_not_read_as_if_they_shared_them(parts):
    for genes in ("sampled", "expressed"):
        model = CellModel(objectives={"denoise": 1}, genes=genes, context=20, **SMALL)
        model.fit(parts[0], max_epochs=1, enable_progress_bar=False)
        for read in (model.denoise, model.gene_network):
            with pytest.raises(InputError, match=f"with genes='{genes}' cells differ in their genes"):
                read(parts[1])


def test_methods_say_what_they_take():
    for name in ("embed", "denoise", "gene_network", "perturb", "rank_regulators"):
        method = getattr(CellModel, name)
        assert method.__doc__
        assert {"adata", "layer", "batch_size"} <= set(inspect.signature(method).parameters)
    model = copy.deepcopy(CellModel(channels=8, heads=2))
    assert (model.channels, model.classes, model.kg, hasattr(model, "genes_")) == (8, [], None, False)


def test_half_precision_and_accumulated_gradients_train(parts):
    model = CellModel(classes=["tissue"], objectives=ALL | {"coherence": 0, "relation": 0}, **SMALL)
    options = {"precision": "bf16-mixed", "accumulate_grad_batches": 2, "accelerator": "cpu"}
    model.fit(parts[0], max_epochs=3, enable_progress_bar=False, **options)
    assert model.history_[-1] < model.history_[0]
