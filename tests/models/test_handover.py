"""scanpy and cell-eval read and score what `predict` and `kgnn predict` write: means and cells."""

import anndata
import numpy as np
import pytest
import scanpy as sc
from scipy.stats import false_discovery_control, mannwhitneyu, ttest_ind
from typer.testing import CliRunner

from kgnn.cli import app
from kgnn.data import save_split, split
from kgnn.models import make_model

N = 14


@pytest.fixture(scope="module", params=["predict", "kgnn predict"])
def written(request, _screen, tmp_path_factory):
    """Means and cells as read from files, and the real cells of the same conditions."""
    folder = tmp_path_factory.mktemp("handover")
    parts = split(_screen, "simulation", seed=1)
    model = make_model("composition_ridge").fit(_screen, parts)
    wanted = ["control", *parts["test"]]
    if request.param == "predict":
        model.predict(wanted).write_h5ad(folder / "means.h5ad")
        model.predict(wanted, n_cells=N).write_h5ad(folder / "cells.h5ad")
    else:
        model.save(folder / "m")
        save_split(parts, folder / "split.json")
        command = ["predict", str(folder / "m"), "control", "--split", str(folder / "split.json"), "-o"]
        for name, options in (("means", []), ("cells", ["--n-cells", str(N)])):
            done = CliRunner().invoke(app, [*command, str(folder / f"{name}.h5ad"), *options])
            assert done.exit_code == 0, done.output
    real = _screen[_screen.obs["condition"].isin(wanted)].copy()
    return anndata.read_h5ad(folder / "means.h5ad"), anndata.read_h5ad(folder / "cells.h5ad"), real


def values(adata, name):
    x = adata[adata.obs["condition"] == name].X
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=float)


def test_scanpy_finds_in_predicted_cells_what_scipy_finds(written):
    _, cells, _ = written
    name = next(n for n in cells.obs["condition"].cat.categories if n != "control")
    of_scipy = {
        "t-test": lambda a, b: ttest_ind(a, b, equal_var=False),
        "wilcoxon": lambda a, b: mannwhitneyu(a, b, use_continuity=False, method="asymptotic"),
    }
    for method, test in of_scipy.items():
        options = {"tie_correct": True} if method == "wilcoxon" else {}
        sc.tl.rank_genes_groups(cells, "condition", groups=[name], reference="control", method=method, **options)
        found = sc.get.rank_genes_groups_df(cells, name).set_index("names").loc[cells.var_names, "pvals_adj"]
        with np.errstate(all="ignore"):
            p = np.nan_to_num(test(values(cells, name), values(cells, "control")).pvalue, nan=1.0)
        assert (p < 1).sum() > 10
        np.testing.assert_allclose(found, false_discovery_control(p), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("of", ["means", "cells"])
def test_cell_eval_scores_them(written, of, tmp_path):
    cell_eval = pytest.importorskip("cell_eval", reason="needs the [bench] extra")
    means, cells, real = written
    predicted = means if of == "means" else cells
    options = {"control_pert": "control", "pert_col": "condition", "num_threads": 1, "outdir": str(tmp_path)}
    evaluator = cell_eval.MetricsEvaluator(predicted.copy(), real.copy(), skip_de=of == "means", **options)
    profile = "anndata" if of == "means" else "full"  # one row a condition has no differential expression
    scores, _ = evaluator.compute(profile=profile, write_csv=False, break_on_error=True)
    scores = scores.to_pandas().set_index("perturbation")
    assert sorted(scores.index) == sorted(set(real.obs["condition"]) - {"control"})
    for name, row in scores.iterrows():
        a, b = (values(adata, name).mean(axis=0) for adata in (predicted, real))
        assert row["mse"] == pytest.approx(np.square(a - b).mean(), rel=1e-3)
        change, observed = (m - values(x, "control").mean(axis=0) for m, x in ((a, predicted), (b, real)))
        assert row["pearson_delta"] == pytest.approx(np.corrcoef(change, observed)[0, 1], abs=1e-3)
    if of == "cells":
        called = evaluator.de_comparison.pred.data.to_pandas()
        one = called[called["target"] == scores.index[0]].set_index("feature").loc[cells.var_names]
        p = mannwhitneyu(values(cells, scores.index[0]), values(cells, "control"), method="asymptotic").pvalue
        np.testing.assert_allclose(one["p_value"], np.nan_to_num(p, nan=1.0), rtol=0.05, atol=1e-3)
        assert scores["de_nsig_counts_pred"].between(1, cells.n_vars - 1).all()
