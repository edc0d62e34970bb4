import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from kgnn import plotting
from kgnn.data import read_screen, split, top_de_genes
from kgnn.errors import InputError
from kgnn.metrics import metric, summarize
from kgnn.models import make_model
from kgnn.plotting.style import TARGET


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_predicted_dots_stand_at_the_predicted_changes(screen):
    parts = split(screen, "simulation", seed=1)
    name = next(name for name in parts["test"] if "+" in name)
    prediction = make_model("additive").fit(screen, parts).predict(parts["test"])
    ax = plotting.predicted_vs_observed(prediction, screen, "+".join(reversed(name.split("+"))), n_top=9)
    genes = screen.var_names[top_de_genes(read_screen(screen), [name], 9)[name]]
    assert [label.get_text() for label in ax.get_xticklabels()] == genes.tolist()
    dots = ax.collections[0].get_offsets()
    expected = prediction[prediction.obs["condition"] == name, genes].layers["delta"][0]
    np.testing.assert_allclose(dots[:, 1], expected, atol=1e-6)
    coloured = [t.get_text() for t in ax.get_xticklabels() if to_hex(t.get_color()) == TARGET]
    assert set(coloured) == set(genes) & set(name.split("+"))
    with pytest.raises(InputError, match="no prediction of 'G999'"):
        plotting.predicted_vs_observed(prediction, screen, "G999")


def test_neighbourhood_draws_the_gene_and_its_heaviest_neighbours(small_kg):
    ax = plotting.neighbourhood(small_kg, "A", max_neighbours=1)
    assert {text.get_text() for text in ax.texts} == {"A", "B"}
    assert ax.get_title() == "A and 1 neighbours of 2"
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"regulates"}
    signed = plotting.neighbourhood(small_kg, "A").get_legend()
    assert "→ activates, ⊣ represses" in [text.get_text() for text in signed.get_texts()]
    assert plotting.neighbourhood(small_kg, "D").get_title() == "D and 2 neighbours"
    with pytest.raises(InputError, match="'Z' is not in the graph"):
        plotting.neighbourhood(small_kg, "Z")
    alone = small_kg.drop_source("one", "two")
    assert plotting.neighbourhood(alone, "A").get_title() == "A and 0 neighbours"


@pytest.mark.parametrize(("score", "top"), [("pearson_delta", "b"), ("mse", "a")])
def test_models_are_sorted_with_the_best_at_the_top(score, top):
    summaries = {
        name: summarize(pd.DataFrame({score: np.arange(5) * scale})) for name, scale in (("a", 1.0), ("b", 2.0))
    }
    ax = plotting.model_scores(summaries, score, highlight=["a"])
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == top


def test_a_metric_of_one_s_own_says_what_is_best():
    error = metric(larger_is_better=False)(lambda predicted, observed, reference: 0)
    summaries = {name: summarize(pd.DataFrame({error.name: [value] * 2})) for name, value in (("a", 1.0), ("b", 2.0))}
    ax = plotting.model_scores(summaries, error)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    assert "lower is better" in ax.get_xlabel()


def covered(ax):
    """Whether the legend lies over the axes' own field."""
    ax.figure.canvas.draw()
    return ax.get_legend().get_window_extent().overlaps(ax.get_window_extent())


def test_legends_lie_beside_what_they_tell(small_kg):
    table = pd.DataFrame({"weight": [0.6, 0.4], "known": [1.0, 0.9]}, index=["the gene itself", "walks"])
    assert not covered(plotting.sources(table))
    assert not covered(plotting.graph_account(small_kg).axes[1])
