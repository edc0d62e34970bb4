"""Gene regulation: transcription factor → target gene, with a sign."""

from pathlib import Path

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.sources.tables import numbers, one_relation, read_table

RELATION = ("gene", "regulates", "gene")
CONFIDENCES = "ABCDE"
TRRUST_SIGNS = {"Activation": 1, "Repression": -1, "Unknown": 0}


def load_regulation(
    path: str | Path, *, min_confidence: str | None = None, origin: str | None = None
) -> KnowledgeGraph:
    """Read a gene regulatory network: DoRothEA or TRRUST, recognised by its columns.

    DoRothEA (Garcia-Alonso et al., Genome Research 2019; GPL-3): TSV or TSV.gz with the header
    `tf, confidence, target, mor`; confidence A (best) to E; `mor` > 0 activates, < 0 represses, its size is the
    weight. TRRUST v2 (Han et al., NAR 2018; CC BY-SA 4.0): TSV without header, `TF, target, mode, PubMed ids`
    (joined by `;`), mode Activation, Repression or Unknown. A pair may stand in several rows: it becomes one edge
    whose sign is that of the mode with more publications behind it (each PubMed id of a row counts once), 0 when
    tied or when no row knows the mode.

    Args:
        path: the file.
        min_confidence: keep DoRothEA's levels down to this one (`"C"` keeps A, B and C); default: all.
        origin: name of this source in the graph; default `dorothea` or `trrust`.

    Returns:
        A graph with the relation `("gene", "regulates", "gene")`, regulator to target.

    Raises:
        InputError: missing or empty file, unknown columns, an unknown confidence or mode (with file and line).
    """
    path = existing_file(path)
    frame, label = read_table(path)
    if {"tf", "target", "mor"} <= set(frame.columns):
        return _dorothea(frame, label, min_confidence, origin or "dorothea")
    if len(frame.columns) == 4 and frame.columns[2] in TRRUST_SIGNS:  # the first row was taken for a header
        if min_confidence is not None:
            raise InputError(f"{label}: TRRUST has no confidence levels; leave min_confidence out")
        first = pd.DataFrame([frame.columns], columns=range(4))
        return _trrust(
            pd.concat([first, frame.set_axis(range(4), axis=1)], ignore_index=True), label, origin or "trrust"
        )
    raise InputError(
        f"{label}: neither DoRothEA (columns tf, confidence, target, mor) nor TRRUST (TF, target, mode, PubMed ids, "
        f"no header); the first line is {', '.join(map(str, frame.columns))[:100]}. For other tables use load_table"
    )


def _dorothea(frame: pd.DataFrame, label: str, min_confidence: str | None, origin: str) -> KnowledgeGraph:
    dropped: dict[str, int] = {}
    rows_read = len(frame)
    mor = numbers(frame, "mor", label)
    keep = frame["tf"].notna() & frame["target"].notna()
    if (~keep).any():
        dropped["no tf or target"] = int((~keep).sum())
    if min_confidence is not None:
        if "confidence" not in frame:
            raise InputError(f"{label}: no column 'confidence' to filter by; leave min_confidence out")
        if min_confidence not in CONFIDENCES:
            raise InputError(f"min_confidence {min_confidence!r} is none of A, B, C, D, E")
        level = frame["confidence"].map({name: rank for rank, name in enumerate(CONFIDENCES)})
        if level.isna().any():
            row = int(np.argmax(level.isna()))
            raise InputError(f"{label}:{row + 2}: confidence {frame['confidence'][row]!r} is none of A, B, C, D, E")
        low = keep & (level > CONFIDENCES.index(min_confidence))
        if low.any():
            dropped[f"confidence below {min_confidence}"] = int(low.sum())
        keep &= ~low
    if not keep.any():
        raise InputError(f"{label}: no edge left; lower min_confidence or check the file")
    edges = pd.DataFrame(
        {
            "source": frame["tf"],
            "target": frame["target"],
            "weight": mor.abs().where(mor != 0, 1.0),
            "sign": np.sign(mor),
        }
    )[keep]
    return one_relation(edges, RELATION, origin, path=label, rows_read=rows_read, dropped=dropped)


def _trrust(frame: pd.DataFrame, label: str, origin: str) -> KnowledgeGraph:
    unknown = ~frame[2].isin(TRRUST_SIGNS)
    if unknown.any():
        row = int(np.argmax(unknown))
        raise InputError(f"{label}:{row + 1}: mode {frame[2][row]!r} is none of {', '.join(TRRUST_SIGNS)}")
    nameless = frame[0].isna() | frame[1].isna()
    if nameless.any():
        raise InputError(f"{label}:{int(np.argmax(nameless)) + 1}: a TF or target is missing")
    votes = frame[2].map(TRRUST_SIGNS) * frame[3].fillna("").astype(str).str.split(";").map(len)
    rows = pd.DataFrame({"source": frame[0], "target": frame[1], "votes": votes})
    loops = rows["source"] == rows["target"]
    edges = rows[~loops].groupby(["source", "target"], as_index=False)["votes"].sum()
    edges["sign"] = np.sign(edges.pop("votes"))
    counts = {"self_loops": int(loops.sum()), "merged": int((~loops).sum()) - len(edges)}
    return one_relation(edges, RELATION, origin, path=label, rows_read=len(frame), dropped={}, **counts)
