import faulthandler
import os
import sys
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
import torch
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import HealthCheck, settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton: its kernels then run on the CPU
matplotlib.use("Agg")
# a busy machine is no failure
settings.register_profile("kgnn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kgnn")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the public data sets; absent on most machines, required in CI."""
    folder = Path(os.environ.get("KGNN_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        message = f"no real data at {folder}; set KGNN_TEST_DATA"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    return folder


@pytest.fixture(autouse=True, scope="session")
def _cache_of_built_graphs(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # what one worker compiles the others take
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGNN_CACHE", str(base / "cache"))
        yield


@pytest.fixture(autouse=True, scope="module")
def _crashes_are_told(request):
    """Lightning sets every signal's handler after a fit, so that a later crash would end a worker without a word."""
    yield
    faulthandler.disable()
    faulthandler.enable(request.config.stash[fault_handler_stderr_fd_key])


@pytest.fixture(autouse=True, scope="module")
def _figures_are_closed():
    """matplotlib warns of more than 20, which would be a failure of the test that opens the next one."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="module")
def few_steps():
    """The default model learns for ten steps: for tests that do not ask how good its predictions are."""
    from kgnn.models.perturbation import solving

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solving, "STEPS", 10)
        yield


@pytest.fixture(scope="session")
def norman(real_data):
    import anndata

    return anndata.read_h5ad(real_data / "perturb" / "norman19_k562_hvg500.h5ad")


@pytest.fixture(scope="session")
def _screen():
    from kgnn.data import simulate

    return simulate(n_genes=40, n_singles=8, n_pairs=6, cells_per_condition=12, n_controls=30, seed=3)


@pytest.fixture
def screen(_screen):
    """A small simulated screen: 40 genes, 8 singles, 6 pairs."""
    return _screen.copy()


@pytest.fixture
def network(screen):
    """The screen's true network as a graph."""
    from kgnn.graph import load_table

    return load_table(screen.uns["network"], relation="regulates", origin="truth")


@pytest.fixture
def small_kg():
    """Three relations, two node types, two origins."""
    from kgnn import KnowledgeGraph

    return KnowledgeGraph(
        {
            "gene": ["A", "B", "C", "D"],
            "cell_type": pd.DataFrame({"label": ["cell", "T cell"]}, index=["CL:0", "CL:1"]),
        },
        {
            ("gene", "regulates", "gene"): pd.DataFrame(
                {
                    "source": ["A", "A", "B", "A"],
                    "target": ["B", "C", "D", "B"],
                    "weight": [1.0, 0.5, 2.0, 3.0],
                    "sign": [1, -1, 0, -1],
                    "origin": ["one", "one", "one", "two"],
                }
            ),
            ("gene", "coexpressed", "gene"): pd.DataFrame({"source": ["C"], "target": ["D"], "origin": ["two"]}),
            ("cell_type", "is_a", "cell_type"): pd.DataFrame(
                {"source": ["CL:1"], "target": ["CL:0"], "origin": ["cl"]}
            ),
        },
    )
