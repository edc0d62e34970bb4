"""Building knowledge graphs at size: seconds and peak memory, against what peers do, in one run.

    python -m benchmarks.graph_build [--data ../shared/data] [--work /tmp]

- go: the Jaccard graph of all genes of a GMT file, top 20, against cell-gears' own loop (`get_GO_edge_list` over a pool
  of as many processes as cores, on a sample of genes, scaled to all).
- pagerank: personalised PageRank of all terms of the Cell Ontology, against networkx' `pagerank` (on a sample of
  terms, scaled) and a dense solve.
- coexpression: 5,000 genes × 200,000 cells, sparse at 10 %, against the dense products of the same blocks alone.
- table: a table of 50 million edges, written here, read, filtered, mapped to symbols, merged with a second graph.
- triples: a whole graph in PrimeKG's layout, 20 million rows of 130,000 nodes of 10 types, written here, read.
- ntriples: an N-Triples file, written here, streamed; two sizes, to show what memory depends on.

Every case runs in a process of its own, the cases of a section in turn.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import describe, peak_memory_mb

CELLS, GENES, DENSITY = 200_000, 5_000, 0.1
EDGES, NAMES = 50_000_000, 20_000
ROWS, NODES = 20_000_000, 130_000
TRIPLES = {"ntriples 4 million": 4_000_000, "ntriples 16 million": 16_000_000}
PREDICATE = "http://bio2rdf.org/ncbigene_vocabulary:x-interacts"
SAMPLE = 48


def timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def gmt(data: Path) -> Path:
    return data / "kg" / "GO_Biological_Process_2021.gmt"


def go_kgnn(data: Path, work: Path) -> dict:
    from kgnn.graph import load_gene_sets

    load_gene_sets(data / "kg" / "ReactomePathways.gmt")  # warm
    return {"seconds": timed(lambda: load_gene_sets(gmt(data)))}


def go_gears(data: Path, work: Path) -> dict:
    from multiprocessing import Pool, cpu_count

    from gears.utils import get_GO_edge_list

    of: dict[str, set[str]] = {}
    for line in gmt(data).read_text().splitlines():
        name, _, *genes = line.rstrip("\t").split("\t")
        for gene in genes:
            of.setdefault(gene, set()).add(name)
    genes = list(np.random.default_rng(0).permutation(list(of))[:SAMPLE])
    with Pool(cpu_count()) as pool:
        list(pool.imap(get_GO_edge_list, ((gene, of) for gene in genes[:2])))  # warm
        seconds = timed(lambda: list(pool.imap(get_GO_edge_list, ((gene, of) for gene in genes))))
    return {"seconds": seconds / SAMPLE * len(of), "note": f"{SAMPLE} genes, scaled to {len(of)}"}


def links(data: Path):
    from scipy import sparse

    from kgnn.graph import load_cell_ontology

    kg = load_cell_ontology(data / "kg" / "cl.obo")
    matrix = kg.to_scipy(("cell_type", "is_a", "cell_type"))
    matrix = sparse.csr_array(((matrix + matrix.T) > 0).astype(float))
    return kg, matrix


def pagerank_kgnn(data: Path, work: Path) -> dict:
    from kgnn.graph import Ontology

    ontology = Ontology(links(data)[0])
    return {"seconds": timed(lambda: ontology.pagerank(alpha=0.9))}


def pagerank_networkx(data: Path, work: Path) -> dict:
    import networkx as nx

    graph = nx.from_scipy_sparse_array(links(data)[1])
    nodes = np.random.default_rng(0).permutation(len(graph))[:SAMPLE].tolist()
    nx.pagerank(graph, alpha=0.9, personalization={nodes[0]: 1})
    seconds = timed(lambda: [nx.pagerank(graph, alpha=0.9, personalization={node: 1}) for node in nodes])
    return {"seconds": seconds / SAMPLE * len(graph), "note": f"{SAMPLE} terms, scaled to {len(graph)}"}


def pagerank_dense(data: Path, work: Path) -> dict:
    matrix = links(data)[1].toarray()
    degree = np.maximum(matrix.sum(1, keepdims=True), 1)
    return {"seconds": timed(lambda: 0.1 * np.linalg.inv(np.eye(len(matrix)) - 0.9 * matrix / degree))}


def cells():
    """A CSR matrix [cells, genes] with some genes that move together, made row block by row block."""
    from scipy import sparse

    rng = np.random.default_rng(0)
    per_cell = int(GENES * DENSITY)
    indices = np.empty(CELLS * per_cell, np.int32)
    values = np.empty(CELLS * per_cell, np.float32)
    for start in range(0, CELLS, 2000):
        chosen = np.argpartition(rng.random((2000, GENES), np.float32), per_cell, axis=1)[:, :per_cell]
        chosen.sort(axis=1)
        part = slice(start * per_cell, (start + 2000) * per_cell)
        indices[part] = chosen.ravel()
        mood = rng.random((2000, 1), np.float32) * (chosen < 200)
        values[part] = np.log1p(3 * mood + rng.random(chosen.shape, np.float32)).ravel()
    pointers = np.arange(0, CELLS * per_cell + 1, per_cell, dtype=np.int64)
    return sparse.csr_matrix((values, indices, pointers), (CELLS, GENES))


def coexpression_kgnn(data: Path, work: Path) -> dict:
    from anndata import AnnData

    from kgnn.graph import load_coexpression

    adata = AnnData(cells())
    before = peak_memory_mb()
    seconds = timed(lambda: load_coexpression(adata, threshold=0.05))
    return {"seconds": seconds, "note": f"{before:.0f} MB before, with the data"}


def coexpression_blas(data: Path, work: Path) -> dict:
    from kgnn.graph.sources.coexpression import DENSE

    x = cells()
    seconds = 0.0
    step = DENSE // GENES
    for start in range(0, CELLS, step):
        block = x[start : start + step].toarray()
        seconds += timed(lambda block=block: block.T @ block)
    return {"seconds": seconds, "note": "the products alone"}


def write_table(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    names = pa.array([f"ALIAS{i}" if i % 4 == 0 else f"GENE{i}" for i in range(NAMES)])
    schema = pa.schema({"gene_a": pa.string(), "gene_b": pa.string(), "score": pa.float32()})
    opened = pq.ParquetWriter(path, schema) if path.suffix == ".parquet" else pa_csv.CSVWriter(path, schema)
    with opened as writer:
        for _ in range(EDGES // 1_000_000):
            a, b = (names.take(pa.array(rng.integers(NAMES, size=1_000_000))) for _ in range(2))
            score = pa.array(rng.random(1_000_000, np.float32).round(3))
            writer.write_table(pa.table([a, b, score], schema))


def make(path: Path) -> None:
    """Write a file in a process of its own, whose memory does not count."""
    if not path.exists():
        subprocess.run([sys.executable, "-m", "benchmarks.graph_build", "--write", str(path)], check=True)


def read_table(path: Path) -> dict:
    import pandas as pd

    from kgnn.graph import GeneNames, load_table

    make(path)
    aliases = [(f"GENE{i}", f"ALIAS{i}") for i in range(NAMES)]
    names = GeneNames(pd.DataFrame(aliases, columns=["symbol", "alias"]))
    steps = {}

    def run() -> None:
        start = time.perf_counter()
        kg = load_table(path, source="gene_a", target="gene_b", weight="score", min_weight=0.1, relation="binds")
        steps["read"] = time.perf_counter() - start
        kg = kg.map_genes(names)
        steps["mapped"] = time.perf_counter() - start
        kg = kg.filter(min_weight=0.2)
        steps["filtered"] = time.perf_counter() - start
        rng = np.random.default_rng(1)
        ends = {side: [f"GENE{i}" for i in rng.integers(NAMES, size=1_000_000)] for side in ("source", "target")}
        kg = kg | load_table(pd.DataFrame(ends), relation="binds", origin="second")
        steps["edges"] = len(kg.edge_arrays(("gene", "binds", "gene")))

    seconds = timed(run)
    note = f"read after {steps['read']:.0f} s, mapped {steps['mapped']:.0f} s, filtered {steps['filtered']:.0f} s; "
    return {"seconds": seconds, "note": note + f"{steps['edges']:,} pairs; file {path.stat().st_size / 1e9:.1f} GB"}


def write_primekg(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    types = ["gene/protein", "disease", "drug", "effect/phenotype", "anatomy", "biological_process",
             "molecular_function", "cellular_component", "pathway", "exposure"]  # fmt: skip
    kind = np.arange(NODES) % len(types)
    node = {
        "index": pa.array(np.arange(NODES)),
        "id": pa.array([str(1000 + i) for i in range(NODES)]),
        "type": pa.array(types).take(pa.array(kind)),
        "name": pa.array([f"{types[i % 10][:4].upper()}{i}" for i in range(NODES)]),
        "source": pa.array(["NCBI", "MONDO", "DrugBank", "HPO", "UBERON", "GO", "GO", "GO", "REACTOME", "CTD"]).take(
            pa.array(kind)
        ),
    }
    order = ["index", "id", "type", "name", "source"]
    fields = [("relation", pa.string()), ("display_relation", pa.string())]
    fields += [(f"{end}_{part}", node[part].type) for end in "xy" for part in order]
    opened = pq.ParquetWriter if path.suffix == ".parquet" else pa_csv.CSVWriter
    with opened(path, pa.schema(fields)) as writer:
        for _ in range(ROWS // 1_000_000):
            a, b = (rng.integers(NODES, size=1_000_000) for _ in range(2))
            b += (a % 10 % 3 - b % 10) * (rng.random(len(b)) < 0.8)  # most ends are genes, diseases, drugs
            relation = pa.array([f"relation {i}" for i in range(30)]).take(pa.array((a % 10 * 3 + b % 3) % 30))
            ends = [node[part].take(pa.array(np.clip(x, 0, NODES - 1))) for x in (a, b) for part in order]
            writer.write_table(pa.table([relation, relation, *ends], pa.schema(fields)))


def read_primekg(path: Path) -> dict:
    from kgnn.graph import load_triples

    make(path)
    found = {}
    before = time.process_time()
    seconds = timed(lambda: found.update(kg=load_triples(path)))
    processor = time.process_time() - before
    kg = found["kg"]
    edges = sum(len(table) for table in kg.tables.edges.values())
    size = path.stat().st_size / 1e9
    note = f"{processor:.0f} s of one processor; {len(kg.relations)} relations, {edges:,} edges"
    return {"seconds": seconds, "note": f"{note}; file {size:.1f} GB"}


def write_triples(path: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for start in range(0, n, 100_000):
            numbers = rng.integers(1, 60_000, size=(100_000, 2))
            lines = []
            for row, (a, b) in enumerate(numbers.tolist(), start):
                subject = f"<http://bio2rdf.org/ncbigene:{a}>"
                if row % 10 == 0 and row < min(TRIPLES.values()):
                    lines.append(f"{subject} <{PREDICATE}> <http://bio2rdf.org/ncbigene:{b}> .\n")
                elif row % 3 == 0:
                    label = f'"a gene called {a} [ncbigene:{a}]"@en'
                    lines.append(f"{subject} <http://www.w3.org/2000/01/rdf-schema#label> {label} .\n")
                else:
                    other = f"<http://bio2rdf.org/ncbigene_vocabulary:x-go> <http://bio2rdf.org/go:{b:07d}>"
                    lines.append(f"{subject} {other} .\n")
            file.writelines(lines)


def read_triples(path: Path, n: int) -> dict:
    from kgnn.graph import load_ntriples

    make(path)
    before = peak_memory_mb()
    types = {"http://bio2rdf.org/ncbigene:": "gene"}
    seconds = timed(lambda: load_ntriples(path, {PREDICATE: "interacts"}, types=types))
    size = path.stat().st_size / 1e9
    hours = seconds / n * 11e9 / 3600
    return {
        "seconds": seconds,
        "note": f"{size:.2f} GB, {n / seconds / 1e6:.2f} million triples a second; 11 billion: {hours:.1f} hours; "
        f"{before:.0f} MB before",
    }


CASES = {  # section: {case: (function, rounds)}
    "go": {"kgnn": (go_kgnn, 7), "cell-gears' loop": (go_gears, 3)},
    "pagerank": {
        "kgnn": (pagerank_kgnn, 7),
        "networkx a term": (pagerank_networkx, 3),
        "dense inverse": (pagerank_dense, 3),
    },
    "coexpression": {"kgnn": (coexpression_kgnn, 3), "BLAS products of the blocks": (coexpression_blas, 3)},
    "table": {
        "kgnn, CSV": (lambda data, work: read_table(work / "edges.csv"), 1),
        "kgnn, Parquet": (lambda data, work: read_table(work / "edges.parquet"), 1),
    },
    "triples": {
        "kgnn, CSV": (lambda data, work: read_primekg(work / "primekg.csv"), 1),
        "kgnn, Parquet": (lambda data, work: read_primekg(work / "primekg.parquet"), 1),
    },
    "ntriples": {
        f"kgnn, {name.removeprefix('ntriples ')}": (lambda data, work, n=n: read_triples(work / f"{n}.nt", n), 1)
        for name, n in TRIPLES.items()
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--work", type=Path, default=None, help="folder for the files written here (5 GB)")
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--case", nargs=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "graph_build.json")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if arguments.write:
        if arguments.write.suffix == ".nt":
            write_triples(arguments.write, int(arguments.write.stem))
        elif arguments.write.stem == "primekg":
            write_primekg(arguments.write)
        else:
            write_table(arguments.write)
        return
    if arguments.case:
        section, case = arguments.case
        result = CASES[section][case][0](arguments.data, arguments.work)
        print(json.dumps(result | {"peak_mb": peak_memory_mb()}))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        rows = []
        for section in arguments.only:
            rows += run_section(section, arguments.data, Path(folder))
    old = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
    rows = [row for row in old if row["section"] not in arguments.only] + rows
    rows.sort(key=lambda row: list(CASES).index(row["section"]))
    write(arguments.out, rows)


def run_section(section: str, data: Path, work: Path) -> list[dict]:
    runs: dict[str, list[dict]] = {case: [] for case in CASES[section]}
    for number in range(max(rounds for _, rounds in CASES[section].values())):
        for case, (_, rounds) in CASES[section].items():
            if number < rounds:
                command = [
                    "-m",
                    "benchmarks.graph_build",
                    "--case",
                    section,
                    case,
                    "--data",
                    str(data),
                    "--work",
                    str(work),
                ]
                output = subprocess.run(
                    [sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True
                ).stdout
                runs[case].append(json.loads(output.splitlines()[-1]))
                print(section, case, runs[case][-1], file=sys.stderr)
    ours = statistics.median(run["seconds"] for run in runs[next(iter(runs))])
    rows = []
    for case, results in runs.items():
        seconds = [run["seconds"] for run in results]
        median = statistics.median(seconds)
        row = {"section": section, "case": case, "runs": len(seconds), "seconds": median}
        row |= {"seconds_min": min(seconds), "seconds_max": max(seconds), "times_kgnn": median / ours}
        rows.append(row | {"peak_mb": max(run["peak_mb"] for run in results), "note": results[-1].get("note", "")})
    return rows


def write(out: Path, rows: list[dict]) -> None:
    machine = describe("cell-gears", "numpy", "scipy", "pyarrow", "networkx")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    lines = [
        "# Building knowledge graphs at size",
        "",
        f"`python -m benchmarks.graph_build` on {machine['cpu']}, {machine['cores']} cores; {machine['versions']}.",
        "Median seconds, the range over runs in brackets; peak memory of the process; seconds as a multiple of the "
        "section's first row.",
        "",
        "| what | who | seconds | of kgnn's | peak MB | runs | |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['section']} | {row['case']} | {row['seconds']:.2f} "
            f"({row['seconds_min']:.2f}–{row['seconds_max']:.2f}) | {row['times_kgnn']:.2f} "
            f"| {row['peak_mb']:.0f} | {row['runs']} | {row['note']} |"
            for row in rows
        ),
    ]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
