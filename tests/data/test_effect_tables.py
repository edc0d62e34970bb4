"""Tables of effects: how they are read, what is refused, and that they say what the cells they come from say."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData, read_h5ad
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

import kgnn
from kgnn.cli.main import app
from kgnn.data import effects, long_table
from kgnn.data.effect_tables import read_file
from kgnn.data.effects import read_data
from kgnn.data.screen import read_screen
from kgnn.errors import DataWarning, InputError

DATA = Path(os.environ.get("KGNN_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")
WIDE = pd.DataFrame(
    {"g1": [1.0, -2.0, np.nan, 0.5], "g2": [0.0, 3.0, 1.5, -1.0], "g3": [2.0, 1.0, -0.5, np.nan]},
    index=["A", "B+A", "C", "D"],
)
LONG = pd.DataFrame({"pert": ["A", "A", "B"], "gene": ["x", "y", "x"], "value": [1.0, 2.0, -3.0]})


def as_frame(adata):
    return pd.DataFrame(adata.X, adata.obs["condition"].to_numpy(), adata.var_names)


def test_a_wide_table_keeps_values_and_what_is_missing():
    found = effects(WIDE)
    assert list(found.obs["condition"]) == ["A", "A+B", "C", "D"]
    np.testing.assert_array_equal(found.X, WIDE.to_numpy(np.float32))
    np.testing.assert_array_equal(effects(WIDE.T, conditions="columns").X, found.X)


def test_long_and_de_tables():
    expected = pd.DataFrame([[1, 2], [-3, np.nan]], ["A", "B"], ["x", "y"], dtype=np.float32)
    scanpy_like = pd.DataFrame({"group": LONG["pert"], "names": LONG["gene"], "scores": 9.0,
                                "logfoldchanges": LONG["value"], "pvals": 0.1, "pvals_adj": 0.2})  # fmt: skip
    deseq = LONG.set_index("gene").rename(columns={"value": "log2FoldChange"}).assign(baseMean=5.0, lfcSE=0.5, padj=0.1)
    by_name = {name: part.drop(columns="pert") for name, part in deseq.groupby("pert")}
    for table in (LONG, scanpy_like, deseq, by_name):
        found = as_frame(effects(table))
        np.testing.assert_array_equal(found.loc[["A", "B"], ["x", "y"]], expected)
    np.testing.assert_array_equal(effects(by_name).layers["se"], [[0.5, 0.5], [0.5, np.nan]])


def test_scanpys_own_table(screen):
    cells = screen.copy()
    cells.obs["condition"] = cells.obs["condition"].astype("category")
    sc.tl.rank_genes_groups(cells, "condition", reference="control", method="t-test")
    table = sc.get.rank_genes_groups_df(cells, group=None)
    found = effects(table)
    row = table.iloc[7]
    one = as_frame(found).loc[kgnn.data.ConditionNames().canonical(row["group"]), row["names"]]
    assert one == pytest.approx(row["logfoldchanges"], rel=1e-5)


def test_control_rows_are_dropped_and_told(caplog):
    found = effects(pd.concat([WIDE, pd.DataFrame(0.0, ["control"], WIDE.columns)]))
    assert list(found.obs["condition"]) == ["A", "A+B", "C", "D"]
    assert "1 rows of control" in caplog.text


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (pd.concat([LONG, LONG[:1]]), {}, "stands a second time"),
        (pd.concat([WIDE, WIDE[:1]]), {}, "stands in several rows"),
        (WIDE.replace(3.0, np.inf), {}, "row 2 .*'g2'.*no finite number"),
        (WIDE.astype(object).mask(WIDE == 3.0, "high"), {}, "'high' is no finite number"),
        (WIDE, {"kind": "binary"}, "takes 0, 1 and missing"),
        (WIDE, {"kind": "both"}, "choose change or binary"),
        (LONG, {"value": "valeu"}, "did you mean value"),
        (LONG.rename(columns={"pert": "what"}).assign(logFC=1.0), {}, "without a column of conditions"),
        (WIDE * np.nan, {}, "no value was measured"),
        (WIDE.set_axis(["g", "g", "h"], axis=1), {}, "stands twice"),
        (WIDE[:0], {}, "no condition besides control"),
        (3, {}, "a table of effects is asked for"),
    ],
)
def test_what_is_wrong_is_refused(table, options, message):
    with pytest.raises(InputError, match=message):
        effects(table, **options)


def test_what_is_doubtful_is_told():
    with pytest.warns(DataWarning, match="look turned"):
        effects(WIDE.T)
    with pytest.warns(DataWarning, match="kind='binary'"):
        effects((WIDE > 0).astype(float))


@given(arrays(np.float32, (4, 3), elements=st.floats(-100, 100, width=32) | st.just(np.nan)))
@settings(max_examples=30, deadline=None)
def test_wide_and_long_are_the_same(x):
    if np.isnan(x).all(axis=0).any() or np.isnan(x).all(axis=1).any() or np.isin(x, [0, 1]).all(where=~np.isnan(x)):
        return
    wide = effects(pd.DataFrame(x, list("ABCD"), ["x", "y", "z"]))
    again = effects(long_table(wide))
    pd.testing.assert_frame_equal(as_frame(again).loc[list("ABCD"), ["x", "y", "z"]], as_frame(wide), check_names=False)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "parquet"])
def test_files(tmp_path, ending):
    path = tmp_path / f"table.{ending}"
    if ending == "parquet":
        WIDE.to_parquet(path)
    else:
        WIDE.to_csv(path, sep="\t" if ending == "tsv" else ",", index_label="pert")
    found = effects(path)
    np.testing.assert_array_equal(found.X, effects(WIDE).X)
    found.write_h5ad(tmp_path / "e.h5ad")
    assert kgnn.data.split(tmp_path / "e.h5ad", "random_condition")["test"]
    np.testing.assert_array_equal(read_screen(read_h5ad(tmp_path / "e.h5ad")).measured[:4], WIDE.notna())


def test_the_mean_is_over_the_conditions_that_measured_a_gene():
    with pytest.warns(DataWarning, match=r"2 of 12 effects of 4 .* \(in 2 genes\)"):
        model = kgnn.PerturbationModel(encoder="mean").fit(effects(WIDE))
    np.testing.assert_allclose(model.predict(["D"]).X[0], WIDE.mean().to_numpy(), rtol=1e-6)


@pytest.fixture(scope="module")
def screen():
    rng = np.random.default_rng(0)
    names = np.repeat(["control", *(f"G{i}" for i in range(8))], 30)
    base, change = rng.uniform(1, 3, 12), rng.normal(0, 0.5, (9, 12))
    change[0] = 0
    x = np.abs(base + np.repeat(change, 30, axis=0) + rng.normal(0, 0.1, (270, 12)))
    adata = AnnData(x.astype(np.float32), obs=pd.DataFrame({"condition": names}, index=[str(i) for i in range(270)]))
    adata.var_names = [f"G{i}" for i in range(12)]
    return adata


@pytest.mark.parametrize("encoder", ["mean", "no_change", "composition_ridge", "additive"])
def test_effects_of_cells_give_what_the_cells_give(screen, encoder):
    cells = read_screen(screen)
    table = effects(cells.changes(cells.conditions))
    split = kgnn.data.split(screen, "random_condition", seed=1)
    assert split == kgnn.data.split(table, "random_condition", seed=1)
    found = []
    for data in (screen, table):
        prediction = kgnn.PerturbationModel(encoder=encoder).fit(data, split).predict(split["test"])
        found.append((prediction.layers["delta"], kgnn.metrics.evaluate(prediction, data, split)))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-5)
    for column in ("mse", "pearson_delta", "pearson_centred"):
        np.testing.assert_allclose(found[0][1][column], found[1][1][column], atol=1e-4)


def test_genes_that_the_truth_lacks_are_not_scored():
    prediction = AnnData(np.array([[9.0, 0.0, 4.0]], np.float32), obs=pd.DataFrame({"condition": ["C"]}, index=["C"]))
    prediction.var_names = WIDE.columns
    scores = kgnn.metrics.evaluate(prediction, effects(WIDE), metrics=["mse", "pearson_centred"])
    assert scores.loc["C", "mse"] == pytest.approx((1.5**2 + 4.5**2) / 2)
    assert np.isfinite(scores.loc["C", "pearson_centred"])


def test_the_centre_without_a_split_is_over_the_others_that_measured_a_gene():
    from kgnn.evaluation.metrics.truth import read_truth

    names = {"condition_key": "condition", "control": None, "group_key": None}
    center = read_truth(effects(WIDE), None, names).center
    for name in ("A", "C", "D"):
        others = WIDE.drop(index=name)
        np.testing.assert_allclose(center.loc[name], others.mean(), rtol=1e-6)


def test_standard_errors_are_the_noise():
    table = WIDE.fillna(0)
    prediction = AnnData(table.to_numpy(np.float32), obs=pd.DataFrame({"condition": table.index}, index=table.index))
    prediction.var_names = table.columns
    scores = kgnn.metrics.evaluate(prediction, effects(table, se=table * 0 + 0.5), metrics=["mse_unbiased"])
    np.testing.assert_allclose(scores["mse_unbiased"], -3 * 0.25)


def test_effects_have_no_cells_to_predict():
    model = kgnn.PerturbationModel(encoder="mean").fit(effects(WIDE.fillna(0)))
    with pytest.raises(InputError, match="leave n_cells="):
        model.predict(["A"], n_cells=3)


def test_answers_give_probabilities(tmp_path):
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.integers(0, 2, (12, 5)).astype(float), [f"P{i}" for i in range(12)], list("vwxyz"))
    model = kgnn.PerturbationModel(encoder="composition_ridge").fit(effects(table, kind="binary"))
    model.save(tmp_path / "m")
    for found in (model, kgnn.load_model(tmp_path / "m")):
        x = found.predict(["P1", "P1+P2", "P2+P3+P4"]).X
        assert x.min() >= 0
        assert x.max() == 1


def test_the_command_line(tmp_path):
    rng = np.random.default_rng(2)
    table = pd.DataFrame(rng.normal(size=(20, 6)), [f"P{i}" for i in range(20)], list("uvwxyz"))
    table.to_csv(tmp_path / "t.csv", index_label="pert")
    run = CliRunner().invoke
    paths = {name: str(tmp_path / name) for name in ("t.csv", "m", "p.h5ad", "s.json", "m/split.json")}
    for command in (
        ["train", paths["t.csv"], "-o", paths["m"], "--model", "mean", "--split", "random_condition"],
        ["predict", paths["m"], "--split", paths["m/split.json"], "-o", paths["p.h5ad"]],
        ["evaluate", paths["p.h5ad"], paths["t.csv"], "--split", paths["m/split.json"], "--json", paths["s.json"]],
    ):
        result = run(app, command)
        assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "s.json").read_text())
    assert written["summary"]["pearson_centred"]["mean"] == 0
    assert "gene_auc" not in written


def test_a_long_table_whose_conditions_have_a_column_of_another_name(tmp_path):
    LONG.rename(columns={"pert": "what"}).to_csv(tmp_path / "t.csv", index=False)
    found = read_data(tmp_path / "t.csv", "change", condition_key="what")
    assert list(found.obs["what"]) == list(found.obs["condition"]) == ["A", "B"]


def test_the_command_line_of_answers(tmp_path):
    rng = np.random.default_rng(2)
    names = [f"P{i}" for i in range(20)]
    table = pd.DataFrame((rng.random((20, 6)) < 0.4).astype(float), names, [*names[:5], "z"])
    table.to_csv(tmp_path / "t.csv", index_label="what")
    edges = pd.DataFrame({"source": names[:-1], "target": names[1:]})
    kgnn.graph.load_table(edges, relation="binds").save(tmp_path / "kg")
    kgnn.data.save_split(kgnn.data.split(names, "random_condition", test_fraction=0.4), tmp_path / "split.json")
    answers = ["--effects", "binary", "--condition-key", "what", "--split", str(tmp_path / "split.json")]
    run, data, found = CliRunner().invoke, str(tmp_path / "t.csv"), str(tmp_path / "s.json")
    result = run(app, ["evaluate", "mean", data, *answers, "--json", found])
    assert result.exit_code == 0, result.output
    assert "AUC of each gene over conditions, mean of" in result.output
    assert "MSE ratio" not in result.output  # there is no noise to take off: a row without a number is none
    assert json.loads(Path(found).read_text())["gene_auc"]["mean"] == 0.5
    result = run(
        app, ["ablate", data, "--graph", str(tmp_path / "kg"), *answers, "-o", str(tmp_path / "a"), "--seeds", "1",
              "--controls", "true,none", "--json", found]
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert set(json.loads(Path(found).read_text())["summary"]) == {"true graph", "no graph"}
    one = {"train": names[1:], "val": [], "test": names[:1]}
    kgnn.data.save_split(one, tmp_path / "split.json")  # no gene has both answers: the rest is told
    result = run(app, ["evaluate", "mean", data, *answers, "--json", found])
    assert result.exit_code == 0, result.output
    assert "gene_auc" not in json.loads(Path(found).read_text())


@real
@pytest.mark.parametrize("name", ["k562", "hepg2", "rpe1", "jurkat", "k562_set"])
def test_answers_of_perturbqa(name):
    for question in ("de", "dir"):
        path = DATA / f"perturbqa/{name}-{question}.csv.gz"
        pairs = pd.read_csv(path)
        found = effects(path, kind="binary")
        assert np.isfinite(found.X).sum() == len(pairs)
        assert np.nansum(found.X) == pairs["label"].sum()


@real
def test_other_real_tables():
    for path in sorted((DATA / "yeast_tf_ko_and_induction").glob("*.tsv.gz")):
        assert effects(path).shape == (179, 573)
    for cell, rows in {"k562": 468, "rpe1": 364}.items():
        ranks = pd.read_parquet(DATA / f"replogle_upranks/{cell}_uprank.parquet")
        assert effects(((1001.0 - ranks) / 1000).where(ranks > 0, 0)).shape == (rows, 7225)
    z = np.load(DATA / "replogle_affected/k562_affected.npz")
    bits = np.unpackbits(z["affected"], axis=1)[:, : len(z["genes"])]
    assert effects(pd.DataFrame(bits, z["perturbed"], z["genes"]), kind="binary").n_vars == len(z["genes"])


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufeffcondition,Gé1\nA,0.5\n".encode())
    table, label = read_file(tmp_path / "a.csv")
    assert list(table.columns) == ["condition", "Gé1"]
    assert label == f"{tmp_path / 'a.csv'}: "


def test_files_that_are_no_tables_are_told_in_one_line(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + b"\xff" * 100 + b"\x10\0\0\0PAR1")
    (tmp_path / "t.csv").write_bytes(b"a" * (1 << 25))
    for name, told in (("t.parquet", "cannot be read as a table"), ("t.csv", r"t\.csv:1: a line longer than 16 MB")):
        with pytest.raises(InputError, match=told) as error:
            effects(tmp_path / name)
        assert "\n" not in str(error.value)
