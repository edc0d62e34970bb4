"""Interactions of genes and proteins: STRING, BioGRID, plain pairs."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.reading import first_fields, numbers, origin_of, read_table, table_batches, text_lines
from kgnn.graph.sources.collect import EdgeCollector
from kgnn.names import as_number
from kgnn.parts import check_number

RELATION = ("gene", "interacts", "gene")
# STRING's alias file names its sources differently from release to release; the first that is there counts
ALIAS_SOURCES = {
    "symbol": ("Ensembl_HGNC_symbol", "Ensembl_HGNC_Approved_Symbol", "Ensembl_HGNC", "BioMart_HUGO",
               "Ensembl_MGI_symbol", "Ensembl_MGI", "Ensembl_UniProt_GN", "UniProt_GN_Name", "Ensembl_EntrezGene"),
    "ensembl": ("Ensembl_gene", "Ensembl_HGNC_ensembl_gene_id", "Ensembl_HGNC_Ensembl_ID(supplied_by_Ensembl)"),
    "entrez": ("Ensembl_HGNC_entrez_id", "Ensembl_HGNC_Entrez_Gene_ID(supplied_by_NCBI)", "UniProt_DR_GeneID",
               "KEGG_GENEID"),
}  # fmt: skip
HEADER = {"source", "target", "gene_a", "gene_b", "gene1", "gene2", "gene_1", "gene_2", "from", "to", "node1", "node2"}
BIOGRID = {
    "symbol": "Official Symbol Interactor {}",
    "entrez": "Entrez Gene Interactor {}",
}


def load_interactions(
    path: str | Path,
    *,
    names: str | Path | None = None,
    namespace: str = "symbol",
    min_score: float = 0,
    organism: int | None = None,
    system_type: str | None = None,
    origin: str | None = None,
) -> KnowledgeGraph:
    """Read interactions; the format is told by the first line. Every interaction becomes an edge in both directions.

    STRING (Szklarczyk et al., NAR 2023; CC BY 4.0): `protein1 protein2 combined_score`, by spaces, ids as
    `9606.ENSP00000000233`, score 0 to 1000; other columns are passed over. Weight and confidence are score / 1000. The
    ids are translated with STRING's `protein.info` (symbols) or `protein.aliases` file; without one, the protein ids
    without the species in front are the genes' names. Proteins without a name, or with several, are dropped with
    their rows and counted.

    BioGRID tab3 (Oughtred et al., Protein Sci 2021; MIT): tab-separated with header. Weight 1; self interactions
    drop; the confidence is the number of rows (publications and methods) of a pair.

    Pairs: two columns of names, perhaps a third of weights, by tab, comma or space; a first line whose third field is
    text, or that names its columns like `source target`, is a header.

    Args:
        path: the file, .gz too.
        names: STRING: `9606.protein.info.v12.0.txt.gz` or `9606.protein.aliases.v12.0.txt.gz`.
        namespace: of the genes: `symbol`, `ensembl` or `entrez` (as far as the file has them).
        min_score: STRING: smallest combined score, 0 to 1000 (700 is "high confidence"); pairs: smallest weight.
            BioGRID has no score.
        organism: BioGRID: NCBI taxon id, 9606 human, 10090 mouse; both interactors must be of it.
        system_type: BioGRID: `physical` or `genetic`; default both.
        origin: name of this source in the graph; default `string`, `biogrid` or the file's name.

    Returns:
        A graph with the relation `("gene", "interacts", "gene")`.

    Raises:
        InputError: missing file or column, a score out of range (with line), several organisms and none chosen; an
            option that the file's format has no use for, a `min_score` between 0 and 1 for STRING.
    """
    path = existing_file(path)
    if namespace not in ALIAS_SOURCES:
        raise InputError(f"namespace {namespace!r} is unknown; choose {', '.join(ALIAS_SOURCES)}")
    check_number(min_score, "min_score", 0)
    line = next((text for _, text in text_lines(path) if text.strip()), "")
    given = {"names": names is not None, "namespace": namespace != "symbol", "min_score": min_score > 0}
    given |= {"organism": organism is not None, "system_type": system_type is not None}

    def takes(kind: str, *options: str) -> None:
        for option, is_given in given.items():
            if is_given and option not in options:
                raise InputError(f"{path}: {kind} has nothing that {option} could choose; leave it out")

    if line.split()[:2] == ["protein1", "protein2"]:
        takes("a STRING file", "names", "namespace", "min_score")
        return _string(path, names, namespace, min_score, origin or "string")
    if "BioGRID Interaction ID" in line:
        takes("a BioGRID file", "namespace", "organism", "system_type")
        return _biogrid(path, namespace, organism, system_type, origin or "biogrid")
    takes("a file of pairs", "min_score")
    return _pairs(path, line, min_score, origin or origin_of(path))


def _string(path: Path, names: str | Path | None, namespace: str, min_score: float, origin: str) -> KnowledgeGraph:
    check_number(min_score, f"{path}: min_score", 0, 1000)
    if 0 < min_score <= 1:
        raise InputError(
            f"{path}: min_score = {min_score}, and STRING's scores run from 0 to 1000: every interaction would stay; "
            f"for {min_score} give {min_score * 1000:g}"
        )
    if names is None and namespace != "symbol":
        raise InputError(f"{path}: {namespace} names need STRING's protein.aliases file: names=…")
    gene_of = None if names is None else _string_names(existing_file(names), namespace)
    collector = EdgeCollector(RELATION)
    low = unnamed = 0
    columns = ["protein1", "protein2", "combined_score"]
    for first, batch in table_batches(path, separator=" ", columns=columns):
        frame = batch.to_pandas()
        score = numbers(frame, "combined_score", str(path), first=first)
        if (wrong := (score < 0) | (score > 1000)).any():
            row = int(np.argmax(wrong))
            raise InputError(f"{path}:{row + first}: combined_score {score[row]:g} is not between 0 and 1000")
        if (wrong := score % 1 != 0).any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"{path}:{row + first}: combined_score {score[row]:g} is no whole number; STRING's run from 0 to 1000. "
                "Read scores from 0 to 1 as pairs or by load_table"
            )
        keep = score >= min_score
        low += int((~keep).sum())
        ends = [frame[column][keep] for column in columns[:2]]
        if gene_of is None:
            ends = [end.str.replace(r"^\d+\.", "", regex=True) for end in ends]
        else:
            ends = [end.map(gene_of) for end in ends]
            named = ends[0].notna() & ends[1].notna()
            unnamed += int((~named).sum())
            ends, score = [end[named] for end in ends], score[keep][named.to_numpy()]
            keep = np.ones(len(score), bool)
        collector.add(ends[0], ends[1], score[keep] / 1000, 0, score[keep] / 1000)
    collector.rows_read += low + unnamed
    dropped = {f"score below {min_score:g}": low, "protein without a single name": unnamed}
    dropped = {reason: n for reason, n in dropped.items() if n}
    return collector.graph(origin, label=str(path), undirected=True, dropped=dropped, confidence="score / 1000")


def _string_names(path: Path, namespace: str) -> dict[str, str]:
    """Return protein id → gene, leaving out proteins with several. The alias file has millions of lines."""
    first = next(text_lines(path), (0, ""))[1]
    columns = [name.lstrip("#").strip() for name in first.split("\t")]
    if first.startswith("##"):  # before release 11.5: ## string_protein_id ## alias ## source ##
        columns = ["string_protein_id", "alias", "source"]
    key = next((name for name in ("string_protein_id", "protein_external_id") if name in columns), None)
    if key and "preferred_name" in columns:
        if namespace != "symbol":
            raise InputError(f"{path}: protein.info holds symbols only; give protein.aliases for {namespace}")
        frame, _ = read_table(path, separator="\t")
        frame.columns = columns
        return dict(zip(frame[key], frame["preferred_name"], strict=True))
    if key is None or not {"alias", "source"} <= set(columns):
        raise InputError(
            f"{path}: neither STRING's protein.info nor protein.aliases; columns {', '.join(columns)[:200]}"
        )
    found: dict[str, list[pa.RecordBatch]] = {wanted: [] for wanted in ALIAS_SOURCES[namespace]}
    seen: set[str] = set()
    for _, batch in table_batches(path, separator="\t", header=columns, comment="#"):
        seen |= set(pc.unique(batch["source"]).to_pylist()[:12])
        for wanted, parts in found.items():
            part = batch.filter(pc.match_substring_regex(batch["source"], rf"(^| ){re.escape(wanted)}( |$)"))
            parts += [part] if len(part) else []
    rows = next((pa.Table.from_batches(parts) for parts in found.values() if parts), None)
    if rows is None:
        there = ", ".join(sorted(map(str, seen))[:12])
        raise InputError(f"{path}: no source of {namespace} names that is known; the file has {there}")
    pairs = rows.select([key, "alias"]).to_pandas().drop_duplicates().dropna()
    return pairs[~pairs[key].duplicated(keep=False)].set_index(key)["alias"].to_dict()


def _biogrid(path: Path, namespace: str, organism: int | None, system_type: str | None, origin: str) -> KnowledgeGraph:
    if namespace not in BIOGRID:
        raise InputError(f"{path}: BioGRID has no {namespace} identifiers; choose {' or '.join(BIOGRID)}")
    if organism is not None and not str(organism).isdigit():
        raise InputError(f"{path}: organism {organism!r} is no NCBI taxon id; human is 9606, mouse 10090")
    if system_type not in (None, "physical", "genetic"):
        raise InputError(f"{path}: system_type {system_type!r} is unknown; choose physical or genetic")
    ends = [BIOGRID[namespace].format(side) for side in "AB"]
    taxa = [f"Organism ID Interactor {side}" for side in "AB"]
    kind = "Experimental System Type"
    parts: list[pd.DataFrame] = []
    seen: set[str] = set()
    dropped: dict[str, int] = {}
    rows_read = 0
    for _, batch in table_batches(path, separator="\t", columns=[*ends, *taxa, kind]):
        frame = batch.to_pandas()
        rows_read += len(frame)
        seen |= set(frame[taxa[0]].dropna()) | set(frame[taxa[1]].dropna())
        filters = {}
        if organism is not None:
            filters[f"not both of organism {organism}"] = (frame[taxa] == str(organism)).all(axis=1)
        elif len(seen) > 1:
            some = ", ".join(sorted(seen)[:6])
            raise InputError(f"{path}: interactions of the organisms {some}; choose one, such as organism=9606")
        if system_type is not None:
            filters[f"not {system_type}"] = frame[kind] == system_type
        for reason, keep in filters.items():
            keep = keep.reindex(frame.index)
            if (~keep).any():
                dropped[reason] = dropped.get(reason, 0) + int((~keep).sum())
            frame = frame[keep]
        part = frame[ends].set_axis(["source", "target"], axis=1)
        parts.append(part.replace("-", None))
    rows = pd.concat(parts) if parts else pd.DataFrame(columns=["source", "target"])
    nameless = rows.isna().any(axis=1)
    if nameless.any():
        dropped["interactor without a name"] = int(nameless.sum())
    rows = rows[~nameless]
    flip = rows["source"] > rows["target"]  # A–B and B–A are the same interaction
    rows = pd.DataFrame(
        {"source": rows["source"].where(~flip, rows["target"]), "target": rows["target"].where(~flip, rows["source"])}
    )
    loops = int((rows["source"] == rows["target"]).sum())
    pairs = rows[rows["source"] != rows["target"]].groupby(["source", "target"]).size().rename("n").reset_index()
    collector = EdgeCollector(RELATION)
    collector.add(pairs["source"], pairs["target"], 1.0, 0, pairs["n"].to_numpy(np.float32))
    counts = {"rows_read": rows_read, "self_loops": loops, "merged": len(rows) - loops - len(pairs)}
    counts["confidence"] = "number of rows of a pair"  # type: ignore[assignment]
    return collector.graph(origin, label=str(path), undirected=True, dropped=dropped, **counts)


def _pairs(path: Path, line: str, min_weight: float, origin: str) -> KnowledgeGraph:
    separator = next((mark for mark in "\t, " if mark in line), None)
    fields = [] if separator is None else first_fields(path, separator)
    if len(fields) not in (2, 3):
        raise InputError(f"{path}: {len(fields)} fields in the first line; pairs have two names and perhaps a weight")
    if min_weight and len(fields) == 2:
        raise InputError(f"{path}: pairs without weights have nothing to compare min_score with; leave it out")
    header = HEADER & {field.strip().lower() for field in fields[:2]}
    if len(fields) == 3 and not header and as_number(fields[2]) is None:
        header = set(fields)
    names = ["source", "target", "weight"][: len(fields)]
    collector, light = EdgeCollector(RELATION), 0
    for first, batch in table_batches(path, separator=separator, header=None if header else names):
        frame = batch.to_pandas().set_axis(names, axis=1)
        weight = numbers(frame, "weight", str(path), first=first) if "weight" in frame else np.ones(len(frame))
        keep = np.abs(weight) >= min_weight
        light += int((~keep).sum())
        collector.add(
            frame["source"][keep], frame["target"][keep], np.abs(weight[keep]), np.where(weight[keep] < 0, -1, 0)
        )
    collector.rows_read += light
    dropped = {f"weight below {min_weight:g}": light} if light else {}
    return collector.graph(origin, label=str(path), undirected=True, dropped=dropped)
