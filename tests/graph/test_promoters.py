from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn.errors import InputError
from kgnn.graph import load_gene_embedding, load_promoter_motifs, load_promoter_sequences
from kgnn.graph.sources.promoters import canonical_kmers, reverse_complement

RELATION = ("gene", "binds_promoter", "gene")
HITS = pd.DataFrame(
    {
        "peak_id": ["p1", "p2", "p3", "p4"],
        "gene_short_name": ["A", "A", "B", None],
        "KLF1": [1.0, 0.0, 1.0, 1.0],
        "MYC": [0.0, 0.0, 1.0, 1.0],
    }
)


def test_motif_hits_become_edges_weighted_by_the_share_of_peaks(tmp_path):
    HITS.to_parquet(tmp_path / "hits.parquet")
    kg = load_promoter_motifs(tmp_path / "hits.parquet")
    edges = kg.edges(RELATION).set_index(["source", "target"])["weight"].to_dict()
    assert edges == {("KLF1", "A"): 0.5, ("KLF1", "B"): 1.0, ("MYC", "B"): 1.0}
    assert kg.account[0]["dropped"] == {"no gene": 1}
    assert kg.account[0]["rows_read"] == 4


def test_motif_hits_as_a_feature(tmp_path):
    HITS.set_index("peak_id").reset_index().to_parquet(tmp_path / "hits.parquet")
    kg = load_promoter_motifs(tmp_path / "hits.parquet", features=True)
    assert kg.nodes("gene").index.tolist() == ["A", "B"]
    assert kg.features("gene")["promoter_motifs"].tolist() == [[0.5, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (HITS.drop(columns="peak_id"), "no column 'peak_id'"),
        (HITS[["peak_id", "gene_short_name"]], "no column of a transcription factor"),
        (HITS.assign(MYC=[0.0, 2.0, 0.0, 0.0]), r"row 1: MYC of A is 2.0, neither 0 nor 1"),
        (HITS.assign(MYC=list("abcd")), "column 'MYC' holds (large_)?string"),
        (HITS.assign(gene_short_name=None, MYC=0.0), "no row names a gene"),
    ],
)
def test_bad_motif_tables_are_refused(tmp_path, frame, message):
    frame.to_parquet(tmp_path / "hits.parquet")
    with pytest.raises(InputError, match=message):
        load_promoter_motifs(tmp_path / "hits.parquet")


def test_the_real_mouse_motifs_agree_with_pandas(real_data):
    path = real_data / "kg" / "mm10_promoter_motifs.parquet"
    kg = load_promoter_motifs(path)
    table = pd.read_parquet(path)
    share = table.drop(columns="peak_id").groupby("gene_short_name").mean()
    assert kg.account[0]["rows_read"] == 29_308
    matrix = kg.to_scipy(RELATION)
    index = kg.nodes("gene").index
    for factor in ("Klf1", "Gata1", "Myc"):
        column = matrix[[index.get_loc(factor)]].toarray().ravel()
        expected = share[factor].reindex(index).fillna(0).to_numpy()
        expected[index.get_loc(factor)] = 0  # self loops drop
        np.testing.assert_allclose(column, expected, atol=1e-6)


def slow_profile(sequence, k):
    counts = Counter(
        min(kmer, reverse_complement(kmer))
        for kmer in (sequence[i : i + k] for i in range(len(sequence) - k + 1))
        if set(kmer) <= set("ACGT")
    )
    return [counts[kmer] for kmer in canonical_kmers(k)]


@given(st.text("ACGTN", min_size=1, max_size=60), st.integers(1, 4))
def test_kmer_profiles_equal_a_count_by_hand_and_that_of_the_other_strand(tmp_path_factory, sequence, k):
    path = tmp_path_factory.mktemp("fasta") / "p.fa"
    path.write_text(f">A some gene\n{sequence[:20].lower()}\n{sequence[20:]}\n>B\n{reverse_complement(sequence)}\n")
    a, b = load_promoter_sequences(path, k=k).features("gene")["promoter_kmers"]
    counts = np.array(slow_profile(sequence, k))
    np.testing.assert_allclose(a, counts / max(counts.sum(), 1), atol=1e-6)
    np.testing.assert_array_equal(a, b)


def test_there_are_136_canonical_4_mers_and_sequences_of_a_gene_add_up(tmp_path):
    assert len(canonical_kmers(4)) == 136
    (tmp_path / "p.fa").write_text(">A\nAAAA\n>A\nCCCCC\n>B\nNN\n")
    kg = load_promoter_sequences(tmp_path / "p.fa")
    profile = dict(zip(canonical_kmers(4), kg.features("gene")["promoter_kmers"][0], strict=True))
    assert profile["AAAA"] == pytest.approx(1 / 3)
    assert profile["CCCC"] == pytest.approx(2 / 3)
    assert kg.account[0]["merged"] == 1
    assert kg.account[0]["dropped"] == {"no 4-mer without N (profile of zeros)": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ACGT\n", r"p.fa:1: sequence before the first"),
        (">A\n>B\nAC\n", r"p.fa:1: A has no sequence"),
        (">\nAC\n", r"p.fa:1: a record without a name"),
        (">A\nAC1\n", r"p.fa:2: '1' is no nucleotide code"),
        ("\n\n", "no sequence in the file"),
    ],
)
def test_bad_fasta_is_refused(tmp_path, text, message):
    (tmp_path / "p.fa").write_text(text)
    with pytest.raises(InputError, match=message):
        load_promoter_sequences(tmp_path / "p.fa")


VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2)
GENES = ["A", "B", "C"]


def test_ready_embeddings_of_every_format_are_the_same(tmp_path):
    frame = pd.DataFrame(VECTORS, index=GENES, columns=["d0", "d1"])
    frame.to_parquet(tmp_path / "index.parquet")
    frame.reset_index(names="gene").to_parquet(tmp_path / "column.parquet", index=False)
    np.savez(tmp_path / "e.npz", genes=np.array(GENES), vectors=VECTORS)
    np.save(tmp_path / "e.npy", VECTORS)
    (tmp_path / "genes.txt").write_text("A\nB\nC\n")
    loaded = [
        load_gene_embedding(tmp_path / "index.parquet", name="e"),
        load_gene_embedding(tmp_path / "column.parquet", name="e"),
        load_gene_embedding(tmp_path / "e.npz"),
        load_gene_embedding(tmp_path / "e.npy", GENES),
        load_gene_embedding(tmp_path / "e.npy", tmp_path / "genes.txt"),
    ]
    assert all(kg == loaded[0] for kg in loaded)
    np.testing.assert_array_equal(loaded[0].features("gene")["e"], VECTORS)


def test_bad_embeddings_are_refused(tmp_path):
    np.save(tmp_path / "e.npy", VECTORS)
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "nan.npy", np.full((3, 2), np.nan))
    np.savez(tmp_path / "two.npz", genes=np.array(GENES), a=VECTORS, b=VECTORS)
    pd.DataFrame({"a": ["x"], "b": ["y"], "c": [1.0]}).to_parquet(tmp_path / "texts.parquet")
    for name, genes, message in (
        ("e.npy", None, "the rows have no names"),
        ("e.npy", ["A"], "1 names for an array of shape"),
        ("e.npy", ["A", "B", "A"], "'A' stands twice"),
        ("pickled.npy", GENES, "without pickles"),
        ("nan.npy", GENES, "the vector of 'A' has values that are not finite"),
        ("two.npz", None, "2 matrices of numbers"),
        ("texts.parquet", None, "column 'a' is not of numbers"),
    ):
        with pytest.raises(InputError, match=message):
            load_gene_embedding(tmp_path / name, genes)
