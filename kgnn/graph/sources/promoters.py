"""Promoters: which motifs lie in them, what their sequence is made of, or a ready embedding of it."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.reading import origin_of, parquet_batches, parquet_frame, text_lines
from kgnn.graph.sources.collect import EdgeCollector, Names, check_genes
from kgnn.names import all_named
from kgnn.parts import check_number

RELATION = ("gene", "binds_promoter", "gene")
COMPLEMENT = str.maketrans("ACGT", "TGCA")
PEAK, GENE = "peak_id", "gene_short_name"


def load_promoter_motifs(
    path: str | Path, *, features: bool = False, origin: str = "promoter_motifs"
) -> KnowledgeGraph:
    """Read a table of motif hits, CellOracle's base GRN (Kamimoto et al., Nature 2023; Apache-2.0).

    Parquet, one row a promoter peak: `peak_id`, `gene_short_name`, then a 0/1 column a transcription factor. A factor
    with a motif in a gene's promoter becomes an edge from the factor to the gene; its weight is the share of the
    gene's peaks that hold the motif.

    Args:
        path: Parquet file.
        features: instead of edges, give each gene the feature `promoter_motifs` [genes, factors], the same shares.
        origin: name of this source in the graph.

    Returns:
        A graph with the relation `("gene", "binds_promoter", "gene")`, or with the feature. Factors of a heterodimer
        stand in their own columns, as the table has them.

    Raises:
        InputError: missing file or column, no factor column, a value that is neither 0 nor 1 (with gene and factor).
    """
    path = existing_file(path)
    names, codes, hits = Names(), list[np.ndarray](), list[np.ndarray]()
    factors: list[str] = []
    for first, batch in parquet_batches(path):
        for column in (PEAK, GENE):
            if column not in batch.schema.names:
                raise InputError(f"{path}: no column {column!r}; it has {', '.join(batch.schema.names[:6])}, …")
        factors = [name for name in batch.schema.names if name not in (PEAK, GENE) and not name.startswith("__index")]
        if not factors:
            raise InputError(f"{path}: no column of a transcription factor beside {PEAK} and {GENE}")
        codes.append(names.codes(batch[GENE].cast(pa.string())))
        hits.append(_hits(batch, factors, path, first))
    if not names.code:
        raise InputError(f"{path}: no row names a gene")
    genes, new = names.sorted()
    gene = np.concatenate(codes)
    rows_read, nameless = len(gene), int((gene < 0).sum())
    rows = np.flatnonzero(gene >= 0)
    of_gene = sparse.csr_array((np.ones(len(rows), np.int32), (new[gene[rows]], rows)), (len(genes), rows_read))
    count = of_gene @ np.concatenate(hits).astype(np.int32)
    share = count / of_gene.sum(axis=1)[:, None]
    dropped = {"no gene": nameless} if nameless else {}
    if features:
        counts = {"kept": len(genes), "rows_read": rows_read, "unit": "peaks", "dropped": dropped}
        return _featured(path, "gene", genes, "promoter_motifs", share, origin, **counts)
    row, hit = np.nonzero(count)
    collector = EdgeCollector(RELATION)
    collector.add(np.array(factors, object)[hit], np.array(genes, object)[row], share[row, hit])
    return collector.graph(origin, label=str(path), dropped=dropped, rows_read=rows_read, unit="peaks")


def _hits(batch: pa.RecordBatch, factors: list[str], path: Path, first: int) -> np.ndarray:
    columns = []
    for factor in factors:
        values = batch[factor]
        if not (
            pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)
        ):
            raise InputError(f"{path}: column {factor!r} holds {values.type}; a factor's column holds 0 and 1")
        numbers = values.to_pandas().to_numpy(np.float32, na_value=np.nan)
        wrong = (numbers != 0) & (numbers != 1)
        if wrong.any():
            row = int(np.argmax(wrong))
            gene = batch[GENE][row].as_py()
            raise InputError(f"{path}, row {first + row}: {factor} of {gene} is {numbers[row]}, neither 0 nor 1")
        columns.append(numbers.astype(np.int8))
    return np.stack(columns, axis=1)


def load_promoter_sequences(path: str | Path, *, k: int = 4, origin: str = "promoter_kmers") -> KnowledgeGraph:
    """Read promoter sequences and give each gene its canonical k-mer profile, the feature `promoter_kmers`.

    FASTA, .gz too: `>gene description`, then the sequence over any number of lines. A k-mer and its reverse
    complement count as one (the first of the two in the alphabet); k-mers with N or another ambiguity code are left
    out. The profile is the share of each canonical k-mer; several sequences of a gene add up. For k = 4 there are
    136 canonical k-mers, in alphabetical order.

    Args:
        path: FASTA file.
        k: length, 1 to 8.
        origin: name of this source in the account.

    Raises:
        InputError: not FASTA, a record without name or sequence, a character that is no nucleotide code (line).
    """
    path = existing_file(path)
    check_number(k, "k", 1, 8, whole=True, hint="the length of the k-mers")
    order = canonical_kmers(k)
    index = np.full(4**k, -1)
    for number, kmer in enumerate(order):
        index[_kmer_number(kmer)] = index[_kmer_number(reverse_complement(kmer))] = number
    counts: dict[str, np.ndarray] = {}
    gene, pieces, begin, records = "", list[str](), 0, 0

    def close() -> None:
        if gene:
            if not pieces:
                raise InputError(f"{path}:{begin}: {gene} has no sequence; add it or remove the record")
            profile = counts.setdefault(gene, np.zeros(len(order), np.int64))
            profile += _count("".join(pieces), k, index, len(order))

    for number, line in text_lines(path):
        text = line.strip()
        if text.startswith(">"):
            close()
            gene, pieces, begin = (text[1:].split() or [""])[0], [], number
            records += 1
            if not gene:
                raise InputError(f"{path}:{number}: a record without a name; a FASTA record begins with >gene")
        elif text and not gene:
            raise InputError(f"{path}:{number}: sequence before the first >gene; is it a FASTA file?")
        elif text:
            if bad := re.search("[^ACGTUNRYSWKMBDHV.-]", text.upper()):
                raise InputError(f"{path}:{number}: {bad.group()!r} is no nucleotide code")
            pieces.append(text.upper().replace("U", "T"))
    close()
    if not counts:
        raise InputError(f"{path}: no sequence in the file; is it a FASTA file?")
    total = np.array([profile.sum() for profile in counts.values()])
    profiles = np.stack(list(counts.values())) / np.maximum(total, 1)[:, None]
    short = int((total == 0).sum())
    dropped = {f"no {k}-mer without N (profile of zeros)": short} if short else {}
    record = {"rows_read": records, "unit": "sequences", "kept": len(counts), "merged": records - len(counts)}
    return _featured(path, "gene", list(counts), "promoter_kmers", profiles, origin, **record, dropped=dropped)


def _featured(
    path: Path, node_type: str, names: list[str], feature: str, matrix: np.ndarray, origin: str, **record: Any
) -> KnowledgeGraph:
    """Return a graph of nodes with one feature `[nodes, channels]` and no edge, and its record in the account."""
    if node_type == "gene":
        check_genes(names, str(path))
    record = {"origin": origin, "relation": f"feature {feature}", "path": str(path), **record}
    return KnowledgeGraph({node_type: names}, {}, [record], {node_type: {feature: matrix}})


def canonical_kmers(k: int) -> list[str]:
    """Return the k-mers that do not come after their reverse complement, in alphabetical order."""
    return [kmer for kmer in map("".join, product("ACGT", repeat=k)) if kmer <= reverse_complement(kmer)]


def reverse_complement(sequence: str) -> str:
    return sequence.translate(COMPLEMENT)[::-1]


def _kmer_number(kmer: str) -> int:
    return int("".join(str("ACGT".index(base)) for base in kmer), 4)


def _count(sequence: str, k: int, index: np.ndarray, n: int) -> np.ndarray:
    table = np.full(256, -1)
    table[[ord(base) for base in "ACGT"]] = np.arange(4)
    codes = table[np.frombuffer(sequence.encode("ascii"), np.uint8)]
    if len(codes) < k:
        return np.zeros(n, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, k)
    windows = windows[(windows >= 0).all(axis=1)]
    return np.bincount(index[windows @ 4 ** np.arange(k - 1, -1, -1)], minlength=n)


def load_gene_embedding(
    path: str | Path,
    genes: list[str] | str | Path | None = None,
    *,
    name: str | None = None,
    gene_column: str | None = None,
    node_type: str = "gene",
) -> KnowledgeGraph:
    """Read a ready table of gene vectors (of a DNA or protein language model, gene2vec, …) as a node feature.

    Args:
        path: Parquet (one row a gene: names in `gene_column`, in the index, or in the only text column; all other
            columns numbers), NPZ (arrays `genes` and one matrix) or NPY (the matrix). No pickles.
        genes: names of the rows for NPY, or for an NPZ without them: a list, or a text file with one name a line.
        name: name of the feature; by default the file's name without its ending.
        gene_column: Parquet: the column of names.
        node_type: type of the nodes.

    Raises:
        InputError: missing file, no names, another number of names than rows, a gene twice, a value not finite.
    """
    path = existing_file(path)
    name = name or origin_of(path)
    names, matrix = _parquet(path, gene_column) if path.name.lower().endswith(".parquet") else _numpy(path)
    if genes is not None:
        names = (
            [line.strip() for _, line in text_lines(existing_file(genes)) if line.strip()]
            if isinstance(genes, str | Path)
            else list(genes)
        )
    if names is not None:
        names = all_named(names, f"{path}: names of rows")
    else:
        raise InputError(f"{path}: the rows have no names; give genes=, a list or a text file with one name a line")
    if matrix.ndim != 2 or len(names) != len(matrix):
        raise InputError(f"{path}: {len(names)} names for an array of shape {matrix.shape}; one row a gene is needed")
    bad = ~np.isfinite(matrix).all(axis=1)
    if bad.any():
        raise InputError(f"{path}: the vector of {names[int(np.argmax(bad))]!r} has values that are not finite")
    counts = {"rows_read": len(names), "unit": "vectors", "kept": len(names), "dropped": {}}
    return _featured(path, node_type, names, name, matrix, name, **counts)


def _parquet(path: Path, gene_column: str | None) -> tuple[list[str] | None, np.ndarray]:
    frame = parquet_frame(path)
    if gene_column is not None and gene_column not in frame and frame.index.name != gene_column:
        raise InputError(f"{path}: no column {gene_column!r}; it has {', '.join(map(str, frame.columns[:8]))}")
    text = [column for column in frame if not pd.api.types.is_numeric_dtype(frame[column])]
    if gene_column is None and len(text) == 1:
        gene_column = text[0]
    if gene_column in frame:
        frame = frame.set_index(gene_column)
    for column in frame:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            raise InputError(f"{path}: column {column!r} is not of numbers; name the genes' column by gene_column")
    plain = isinstance(frame.index, pd.RangeIndex)
    return None if plain else list(frame.index), frame.to_numpy(np.float32)


def _numpy(path: Path) -> tuple[list[str] | None, np.ndarray]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return None, loaded.astype(np.float32)
        with loaded:
            arrays = {key: loaded[key] for key in loaded.files}
    except Exception as error:  # NumPy and zipfile raise many kinds for what is not an array file
        what = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as NPY or NPZ without pickles ({what})") from None
    names = list(arrays["genes"].ravel()) if "genes" in arrays else None
    matrices = [array for array in arrays.values() if array.ndim == 2 and np.issubdtype(array.dtype, np.number)]
    if len(matrices) != 1:
        raise InputError(f"{path}: {len(matrices)} matrices of numbers among {', '.join(arrays)}; one is needed")
    return names, matrices[0].astype(np.float32)
