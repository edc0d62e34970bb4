"""Mutated files for every parser: nothing but our own error may come out, in time and in bounded memory.

python -m tests.fuzz [--mutations 10000] [--only gmt gaf ...]
"""

import argparse
import gzip
import io
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from kgnn import graph as g
from kgnn.errors import InputError
from kgnn.folders import seal
from kgnn.graph import config

SECONDS, MEGABYTES = 20, 800  # for one file; for all files of a parser
TOKENS = [
    b"\t",
    b"\n",
    b"\r\n",
    b",",
    b'"',
    b"\x00",
    b"\xff",
    b"nan",
    b"inf",
    b"-1",
    b"1e999",
    b" ",
    b"[Term]\n",
    b"id: ",
    b"!",
]
TOKENS += [
    b"|",
    b"<",
    b">",
    b"_:",
    b" .",
    b"is_a: A:2\n",
    b"\xef\xbb\xbf",
    "ß漢".encode(),
    b"A" * 300,
    b"#",
    b"0",
    b"name: x\n",
]


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, write_page_checksum=True)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


OBO = (
    b'format-version: 1.2\n\n[Term]\nid: A:1\nname: one\nalt_id: A:9\nsynonym: "CYP1" RELATED OMO:0003000 []\n\n[Term]\n'
    b'id: A:2\nname: two\nsynonym: "zwei" EXACT []\nis_a: A:1 ! one\nrelationship: part_of A:1\n\n[Term]\nid: A:3\nname: old\n'
    b"is_obsolete: true\n\n[Typedef]\nid: part_of\nname: part of\n"
)
GAF = b"!gaf-version: 2.2\n" + b"".join(
    b"UniProtKB\tP1\t%s\t%s\tA:2\tPMID:1\t%s\t\tP\tname\tx|y\tprotein\ttaxon:9606\t20200101\tUniProt\t\t\n" % row
    for row in ((b"TP53", b"involved_in", b"IDA"), (b"MDM2", b"NOT|part_of", b"IEA"), (b"MYC", b"enables", b"ND"))
)
GMT = b"set one\t\tTP53\tMDM2\tMYC\t\nset two\tabout\tTP53\tKLF1\n"
TABLE = b"source,target,weight,sign\nTP53,MDM2,1.5,1\nMYC,TP53,-2,-1\nA,A,1,0\n"
TRIPLES = (
    b'<http://x/g/1> <http://x/p> <http://x/g/2> .\n<http://x/g/1> <http://x/l> "text \\" \\u03B1"@en .\n'
    b"_:b1 <http://x/p> <http://x/g/2> . # c\n"
)
BIOGRID = (
    b"#BioGRID Interaction ID\tEntrez Gene Interactor A\tEntrez Gene Interactor B\tOfficial Symbol Interactor A\t"
    b"Official Symbol Interactor B\tExperimental System Type\tOrganism ID Interactor A\tOrganism ID Interactor B\n"
    b"1\t7157\t4193\tTP53\tMDM2\tphysical\t9606\t9606\n2\t1\t2\tA\t-\tgenetic\t9606\t9606\n"
)
ALIASES = (
    b"#string_protein_id\talias\tsource\n9606.ENSP1\tTP53\tEnsembl_HGNC_symbol\n9606.ENSP2\tMDM2\tEnsembl_HGNC_symbol\n"
)
OMNIPATH = (
    b"source\ttarget\tsource_genesymbol\ttarget_genesymbol\tis_stimulation\tis_inhibition\treferences\n"
    b"P1\tP2\tTP53\tMDM2\tTrue\tFalse\tx:1;x:2\nCOMPLEX:P3_P4\tP2\tFOS_JUN\tMMP1\t0\t1\t\n"
)
MOTIFS = pd.DataFrame({"peak_id": ["p", "q"], "gene_short_name": ["A", None], "KLF1": [1.0, 0.0], "MYC": [0.0, 1.0]})
KGX_NODES = b"id\tcategory\tname\nH:1\tbiolink:Gene\tTP53\nG:1\tbiolink:BiologicalProcess\tdeath\n"
KGX_EDGES = b"subject\tpredicate\tobject\tweight\tprimary_knowledge_source\nH:1\tbiolink:regulates\tG:1\t-0.5\tx\n"
PRIMEKG = (
    b"relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source\n"
    b"protein_protein,ppi,0,9796,gene/protein,PHYHIP,NCBI,8889,56992,gene/protein,KIF15,NCBI\n"
    b"disease_protein,associated with,0,9796,gene/protein,PHYHIP,NCBI,7,5044,disease,hypertension,MONDO\n"
)
HETIONET = b"source\tmetaedge\ttarget\nGene::9021\tGpBP\tBiological Process::GO:0071357\nGene::2063\tGr>G\tGene::9021\n"
HETIONET_NODES = (
    b"id\tname\tkind\nGene::9021\tSOCS3\tGene\nBiological Process::GO:0071357\tresponse\tBiological Process\n"
)
DRKG = b"Gene::2157\tbioarx::HumGenHumGen:Gene:Gene\tGene::5264\nGene::2157\tGNBR::E+::Compound:Gene\tCompound::DB1\n"
SSSOM = (
    b"#curie_map:\n#  MONDO: http://x/MONDO_\n#license: CC0\nsubject_id\tpredicate_id\tobject_id\n"
    b"NANDO:1\tskos:exactMatch\tMONDO:19\nMONDO:5\towl:sameAs\tDOID:5\n"
)
TYPES = {"http://x/g/": "gene", "_:": "blank"}


def with_file(name: str, data: bytes, load: Callable[[Path, Path], object]) -> Callable[[Path], object]:
    """A parser that needs an unmutated second file."""

    def run(path: Path) -> object:
        other = path.parent / f"other_{name}"
        if not other.exists():
            other.write_bytes(data)
        return load(path, other)

    return run


# name: (file name, contents, what reads it)
PARSERS: dict[str, tuple[str, bytes, Callable[[Path], object]]] = {
    "gmt": ("s.gmt", GMT, g.load_gene_sets),
    "gmt.gz": ("s.gmt.gz", gzip.compress(GMT, mtime=0), g.load_gene_sets),
    "gaf": ("a.gaf", GAF, lambda path: g.load_gene_sets(path, relation="member_of")),
    "gaf with ontology": ("a.gaf", GAF, with_file("o.obo", OBO, lambda a, b: g.load_gene_sets(a, ontology=b, threshold=0))),
    "gaf synonyms": ("a.gaf", GAF, g.gaf_aliases),
    "obo": ("c.obo", OBO, lambda path: g.Ontology(g.load_cell_ontology(path)).match(["one", "A:9", "zwei"])),
    "obo families": ("c.obo", OBO, lambda path: g.load_gene_families(path, genes=["CYP1A1", "TP53"], gene_edges=True)),
    "hgnc": (
        "hgnc.txt",
        b"hgnc_id\tsymbol\tgene_group\tgene_group_id\nH:1\tTP53\ta|b\t1|2\nH:2\tMDM2\ta\t1\nH:3\tMYC\t\t\n",
        lambda path: g.load_gene_families(None, path, gene_edges=True),
    ),
    "dorothea": ("d.tsv", b"tf\tconfidence\ttarget\tmor\nTP53\tA\tMDM2\t1\nMYC\tE\tTP53\t-1\n", g.load_regulation),
    "omnipath": ("c.tsv", OMNIPATH, g.load_regulation),
    "trrust": ("t.tsv", b"AATF\tBAX\tRepression\t1;2\nAATF\tBAX\tActivation\t3\nA\tB\tUnknown\t4\n", g.load_regulation),
    "sif": ("n.sif", b"TP53\tactivates\tMDM2\tCDKN1A\nA inhibits B\nA binds C\n", g.load_regulation),
    "grnboost": ("a.tsv", b"TF\ttarget\timportance\nKLF1\tHBB\t12.5\nMYC\tTP53\t0.1\n", g.load_regulation),
    "string": ("l.txt", b"protein1 protein2 combined_score\n9606.ENSP1 9606.ENSP2 900\n9606.ENSP2 9606.ENSP1 900\n",
               with_file("a.txt", ALIASES, lambda a, b: g.load_interactions(a, names=b))),
    "string aliases": ("a.txt", ALIASES, with_file("l.txt", b"protein1 protein2 combined_score\n9606.ENSP1 9606.ENSP2 900\n",
                       lambda a, b: g.load_interactions(b, names=a))),
    "biogrid": ("b.txt", BIOGRID, g.load_interactions),
    "pairs": ("p.tsv", b"A\tB\t1\nB\tC\t0.5\n", g.load_interactions),
    "csv": ("t.csv", TABLE, lambda path: g.load_table(path, undirected=True)),
    "tsv.gz": ("t.tsv.gz", gzip.compress(TABLE.replace(b",", b"\t"), mtime=0), g.load_table),
    "parquet": ("t.parquet", parquet(pd.read_csv(io.BytesIO(TABLE))), g.load_table),
    "triples primekg": ("kg.csv", PRIMEKG, g.load_triples),
    "triples hetionet": ("e.sif.gz", gzip.compress(HETIONET, mtime=0),
                         with_file("n.tsv", HETIONET_NODES, lambda a, b: g.load_triples(a, nodes=b))),
    "triples drkg": ("drkg.tsv", DRKG, g.load_triples),
    "triples parquet": ("k.parquet", parquet(pd.read_csv(io.BytesIO(PRIMEKG))), g.load_triples),
    "nodes of triples": ("n.tsv", HETIONET_NODES, with_file("e.tsv", HETIONET, lambda a, b: g.load_triples(b, nodes=a))),
    "mappings": ("m.sssom.tsv", SSSOM, lambda path: g.load_mappings(path).pairs("MONDO")),
    "motifs": ("m.parquet", parquet(MOTIFS), g.load_promoter_motifs),
    "fasta": ("p.fa", b">A gene\nACGTNACGT\nacg\n>B\nTTTT\n", g.load_promoter_sequences),
    "npz": ("e.npz", npz(genes=np.array(["A", "B"]), x=np.eye(2)), g.load_gene_embedding),
    "embedding parquet": ("e.parquet", parquet(pd.DataFrame(np.eye(2), ["A", "B"], ["x", "y"])), g.load_gene_embedding),
    "kgx nodes": ("n.tsv", KGX_NODES, with_file("e.tsv", KGX_EDGES, lambda a, b: g.load_kgx(a, b, use_names=True))),
    "kgx edges": ("e.tsv", KGX_EDGES, with_file("n.tsv", KGX_NODES, lambda a, b: g.load_kgx(b, a))),
    "ntriples": ("t.nt", TRIPLES, lambda path: g.load_ntriples(path, {"http://x/p": "p"}, types=TYPES)),
    "genes": ("g.tsv", b"symbol\tentrez\talias\nTP53\t7157.0\tp53\nMDM2\t4193\t\n", lambda path: g.GeneNames(path).map(["p53", "1"])),
    "orthologs": ("o.tsv", b"human_symbol\tmouse_symbol\nTP53\tTrp53\nF2\tF2\n", lambda path: g.Orthologs(path).one_to_one()),
    "toml": ("g.toml", b'[graph]\nspecies = "human"\n[[source]]\nkind = "gene_sets"\npath = "other_s.gmt"\nk = 3\n',
             with_file("s.gmt", GMT, lambda a, b: config.build(a))),
    "saved graph": ("manifest.json", b'{"format": "kgnn.KnowledgeGraph", "format_version": 2, "nodes": [], "edges": [], '
                    b'"features": [], "cells": [], "provenance": {}, "account": [], "history": []}', lambda path: sealed_graph(path.parent)),
}  # fmt: skip


def sealed_graph(folder: Path) -> object:
    """Load a folder whose hashes are made to fit: what comes after them is tested."""
    seal(folder, "graph")
    return g.KnowledgeGraph.load(folder)


def saved_edges(path: Path) -> object:
    """Load a saved graph, one of whose files was mutated."""
    folder = path.parent / "kg"
    if not folder.exists():
        SAVED.save(folder)
    (folder / "edges_0.parquet").write_bytes(path.read_bytes())
    return sealed_graph(folder)


SAVED = g.load_table(pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"]}), origin="x")
PARSERS["saved edges"] = ("edges.parquet", parquet(SAVED.tables.edges["gene", "interacts", "gene"]), saved_edges)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change a file in one to three ways: bytes, pieces, lines, tokens, its end."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        spot = rng.randrange(len(out) + 1)
        end = min(len(out), spot + rng.randint(1, 12))
        kind = rng.randrange(8)
        if kind == 0 and spot < len(out):
            out[spot] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[spot:end]
        elif kind in (2, 3):
            out[spot:spot] = rng.choice(TOKENS)
        elif kind == 4:
            out[spot:spot] = out[spot:end] * rng.randint(1, 30)
        elif kind == 5:
            lines = bytes(out).split(b"\n")
            rng.shuffle(lines)
            out = bytearray(b"\n".join(lines))
        elif kind == 6:
            lines = bytes(out).split(b"\n")
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            out = bytearray(b"\n".join(lines))
        else:
            del out[spot:]
    return bytes(out)


def fuzz(name: str, mutations: int, seed: int = 0) -> tuple[str, int, float, list[str]]:
    """Return the parser's name, how many files were refused, megabytes of memory that it took, and what went wrong."""
    file, data, load = PARSERS[name]
    rng = random.Random(f"{name} {seed}")
    wrong: list[str] = []
    refused = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000

    def late(*_: object) -> None:
        raise TimeoutError(f"took more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["KGNN_CACHE"] = f"{folder}/cache"
        path = Path(folder) / file
        path.write_bytes(data)
        try:
            load(path)
        except InputError as error:
            wrong.append(f"the file as it should be is refused: {error}")
        for _ in range(mutations):
            broken = (
                gzip.compress(mutate(gzip.decompress(data), rng), mtime=0)
                if rng.random() < 0.5 and file.endswith(".gz")
                else mutate(data, rng)
            )
            path.write_bytes(broken)
            signal.alarm(SECONDS)
            try:
                load(path)
            except InputError as error:
                refused += 1
                if not str(error).strip() or "\n" in str(error):
                    wrong.append(f"an error of several lines or none: {str(error)!r} for {broken!r}")
            except Exception as error:
                wrong.append(f"{type(error).__name__}: {str(error)[:200]} for {broken!r}")
            finally:
                signal.alarm(0)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 - before
    if taken > MEGABYTES:
        wrong.append(f"took {taken:.0f} MB")
    return name, refused, taken, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(PARSERS), choices=list(PARSERS))
    arguments = parser.parse_args()
    start, failed = time.perf_counter(), False
    with ProcessPoolExecutor(2, max_tasks_per_child=1) as pool:
        tasks = [pool.submit(fuzz, name, arguments.mutations, arguments.seed) for name in arguments.only]
        for task in tasks:
            name, refused, taken, wrong = task.result()
            sys.stdout.write(
                f"{name}: {arguments.mutations} files, {refused} refused, {len(wrong)} wrong, {taken:.0f} MB\n"
            )
            for line in wrong[:3]:
                sys.stdout.write(f"    {line[:1500]}\n")
            failed |= bool(wrong)
    sys.stdout.write(f"{time.perf_counter() - start:.0f} s\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
