import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.nn import HGTConv, SAGEConv, to_hetero

from kgnn import KnowledgeGraph


@pytest.fixture
def hetero():
    rng = np.random.default_rng(0)
    genes, families = [f"G{i}" for i in range(30)], ["f0", "f1", "f2"]
    ends = {side: rng.choice(genes, 80) for side in ("source", "target")}
    edges = {
        ("gene", "regulates", "gene"): pd.DataFrame(
            {**ends, "weight": rng.random(80), "sign": rng.choice([-1, 1], 80)}
        ),
        ("gene", "in_family", "family"): pd.DataFrame({"source": genes, "target": rng.choice(families, 30)}),
    }
    features = {"gene": {"a": rng.random((30, 5)), "b": rng.random((30, 3))}, "family": {"c": np.eye(3)}}
    return KnowledgeGraph({"gene": genes, "family": families}, edges, features=features).reverse().to_hetero()


def test_the_data_are_valid_and_carry_weights_signs_names_and_features(hetero):
    assert hetero.validate()
    assert hetero["gene"].x.shape == (30, 8)
    torch.testing.assert_close(hetero["gene"].x[:, :5], hetero["gene"].a)
    assert hetero.node_names["gene"][3] == "G3"
    store = hetero["gene", "regulates", "gene"]
    assert store.edge_weight.shape == store.edge_sign.shape == (store.edge_index.shape[1],)
    assert ("family", "rev_in_family", "gene") in hetero.edge_types


def test_pyg_layers_run_on_it(hetero):
    layer = HGTConv({"gene": 8, "family": 3}, 16, hetero.metadata(), heads=2)
    out = layer(hetero.x_dict, hetero.edge_index_dict)
    assert out["gene"].shape == (30, 16)
    assert out["family"].shape == (3, 16)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = SAGEConv((-1, -1), 4)

        def forward(self, x, edge_index):
            return self.conv(x, edge_index).relu()

    net = to_hetero(Net(), hetero.metadata())
    assert net(hetero.x_dict, hetero.edge_index_dict)["gene"].shape == (30, 4)


def test_the_neighbour_loader_samples_it(hetero):
    pytest.importorskip("torch_sparse", reason="NeighborLoader needs torch-sparse or pyg-lib; see make test-scatter")
    from torch_geometric.loader import NeighborLoader

    batches = list(NeighborLoader(hetero, [4, 4], input_nodes="gene", batch_size=10))
    assert sum(batch["gene"].batch_size for batch in batches) == 30
    first = batches[0]
    torch.testing.assert_close(first["gene"].x, hetero["gene"].x[first["gene"].n_id])
