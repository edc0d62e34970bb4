"""The human knowledge graph of the benchmarks on real screens: complexes, pathways, processes, families, interactions,
regulation and phosphorylation, each as it is in its file, no options chosen."""

from pathlib import Path

import pandas as pd

from kgnn import KnowledgeGraph
from kgnn.graph import load_gene_sets, load_regulation, load_table

SETS = {
    "CORUM": "corum_core_human.gmt",
    "Reactome": "ReactomePathways.gmt",
    "GO": "GO_Biological_Process_2021.gmt",
}


def human_graph(folder: Path) -> KnowledgeGraph:
    """Read the files of `folder` (docs/results.md names them) into one graph."""
    parts = [load_gene_sets(folder / file, relation="member_of", origin=name) for name, file in SETS.items()]
    groups = _read(folder / "hgnc_gene_group_members.tsv.gz")
    groups = groups.assign(family="HGNC_GROUP:" + groups["family_id"])
    parts.append(
        load_table(groups, source="symbol", target="family", relation="in_family", target_type="family", origin="HGNC")
    )
    pairs = _read(folder / "ppi_hetionet.tsv.gz")
    pairs = pairs.rename(columns={"gene_a": "source", "gene_b": "target"})[["source", "target"]]
    parts.append(load_table(pairs, relation="interacts", undirected=True, origin="hetionet"))
    families = pd.read_csv(folder / "famplex_relations.csv.gz", header=None, dtype=str, keep_default_na=False)
    families = families[families[0] == "HGNC"].rename(columns={1: "source", 4: "target"})[["source", "target"]]
    parts.append(load_table(families, relation="part_of", target_type="complex", origin="FamPlex"))
    parts.append(load_regulation(folder / "collectri_human.tsv.gz", origin="CollecTRI"))
    kinases = _read(folder / "omnipath_kinase_substrate.tsv.gz")
    kinases = kinases.assign(target=kinases["target"].str.split("_").str[0])[["source", "target"]].drop_duplicates()
    parts.append(load_table(kinases, relation="phosphorylates", origin="OmniPath"))
    return KnowledgeGraph.merge(parts)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
