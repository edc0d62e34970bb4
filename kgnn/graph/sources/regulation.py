"""Gene regulation: transcription factor → target gene, with a sign."""

from pathlib import Path

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.options import LEVEL, LEVELS, SIGN_OF, as_signs, check_measure, confidence_limit
from kgnn.graph.reading import (
    check_columns,
    first_fields,
    numbers,
    origin_of,
    place,
    read_table,
    text_lines,
)
from kgnn.graph.sources.collect import graph_of
from kgnn.names import as_name
from kgnn.parts import check_number

RELATION = ("gene", "regulates", "gene")
TRRUST_SIGNS = {"Activation": 1, "Repression": -1, "Unknown": 0}
REFERENCES, PUBLICATIONS, ONE_MINUS_P = "number of references", "number of publications", "1 − p"


def load_regulation(
    path: str | Path | pd.DataFrame, *, min_confidence: str | float | None = None, origin: str | None = None
) -> KnowledgeGraph:
    """Read a gene regulatory network; the format is told by its columns.

    - DoRothEA (Garcia-Alonso et al., Genome Res 2019; GPL-3): columns `tf, confidence, target, mor`. Sign and weight
      from `mor`; confidence from the levels A (best) to E, as 5 to 1.
    - CollecTRI from OmniPath (Müller-Dott et al., NAR 2023; parts are for non-commercial use only):
      `source_genesymbol, target_genesymbol` and `consensus_stimulation, consensus_inhibition` or `is_stimulation,
      is_inhibition`. Sign +1, −1, or 0 where both or neither hold; confidence: number of `references`.
      Where a column `collectri` says which rows are CollecTRI's, the others are dropped and counted. DoRothEA from
      OmniPath has `dorothea_level` too (of several, `A;D`, the best counts): with `min_confidence="C"` the levels are
      the confidence, and rows without one are dropped and counted.
    - CollecTRI from decoupler: `source, target`, and `weight` or `mor`, of which sign and size are taken.
    - TRRUST v2, human or mouse (Han et al., NAR 2018; CC BY-SA 4.0): no header; TF, target, mode, PubMed ids joined
      by `;`. Sign by majority; confidence: number of publications.
    - SIF: no header; source, interaction, target(s), by tab or space. Sign by the interaction's name.
    - GRNBoost2 and GENIE3 (arboreto): `TF, target, importance`, which is the weight; sign 0.
    - ARACNe-AP: `Regulator, Target, MI, pvalue`. Weight: mutual information; confidence 1 − p; sign 0.
    - A plain table: `tf` (or `source`, `regulator`), `target`, and `sign`, `mor` or `weight`, perhaps `confidence`.

    A TRRUST pair may stand in several rows with several modes: it becomes one edge whose sign is that of the mode
    with more publications behind it (each PubMed id of a row counts once), 0 when tied or when no row knows the mode.
    OmniPath's complexes (`COMPLEX:P01100_P05412`, symbols `FOS_JUN`) become one edge a member, counted as added. A
    SIF line with several targets is as many edges; an interaction that is neither activation, repression nor
    regulation is dropped and counted by its name.

    Args:
        path: the file (.gz too), or a DataFrame with the columns of one of the formats.
        min_confidence: smallest confidence to keep: a letter where the file has levels (`"C"` keeps A, B and C), a
            number where it has numbers: of references (OmniPath), of publications (TRRUST), 1 − p (ARACNe).
        origin: name of this source in the graph; default `dorothea`, `collectri`, `trrust`, else the file's name.

    Returns:
        A graph with the relation `("gene", "regulates", "gene")`, regulator to target.

    Raises:
        InputError: missing or empty file, unknown columns, an unknown confidence or mode, a weight that is not a
            number, a negative importance (with file and line), a level for a file of numbers or the reverse.
    """
    if isinstance(path, pd.DataFrame):
        (frame, label), columns = read_table(path), list(path.columns)
    else:
        file = existing_file(path)
        label = str(file)
        if file.name.lower().removesuffix(".gz").endswith(".sif"):
            return _sif(file, origin or origin_of(path), min_confidence)
        if file.name.lower().endswith(".parquet"):
            frame, _ = read_table(file)
        else:
            fields = [field.strip() for field in first_fields(file, "," if ".csv" in file.name.lower() else "\t")]
            if len(fields) == 4 and fields[2] in TRRUST_SIGNS:
                frame, _ = read_table(file, header=["tf", "target", "mode", "pubmed"])
                return _trrust(frame, label, origin or "trrust", min_confidence)
            frame, _ = read_table(file)
        columns = list(frame.columns)
    if {"tf", "confidence", "target", "mor"} <= set(columns):
        return _dorothea(frame, label, min_confidence, origin or "dorothea")
    if {"source_genesymbol", "target_genesymbol"} <= set(columns):
        return _omnipath(frame, label, min_confidence, origin)
    return _plain(frame, label, min_confidence, origin or origin_of(path))


def _finish(
    edges: pd.DataFrame,
    label: str,
    origin: str,
    min_confidence: str | float | None,
    measure: str | None = None,
    rows_read: int | None = None,
    dropped: dict[str, int] | None = None,
    **record: int,
) -> KnowledgeGraph:
    """Drop edges below the confidence, counted, and make the graph.

    A level is compared with the column `level`, a number with the column `confidence`, in units of `measure`.
    """
    rows_read = len(edges) if rows_read is None else rows_read
    dropped = dict(dropped or {})
    limit, by_level = confidence_limit(min_confidence)
    if limit is not None:
        if "level" not in edges and measure is None:
            raise InputError(f"{label}: this format has no confidences to filter by; leave min_confidence out")
        if "level" not in edges:
            check_measure(min_confidence, {label: measure})
        elif measure is None and not by_level:
            raise InputError(
                f"{label}: min_confidence {min_confidence!r} is a number, and the file has levels; give A to E"
            )
    if "level" in edges and (by_level or measure is None):
        edges, measure = edges.assign(confidence=edges["level"]), LEVEL
    if limit is not None:
        if measure == ONE_MINUS_P:
            check_number(limit, f"{label}: min_confidence", 0, 1, hint="the confidence is 1 − p")
        low = ~(edges["confidence"] >= limit)
        if low.any():
            dropped[f"confidence below {min_confidence}"] = int(low.sum())
        edges = edges[~low]
        if edges.empty:
            raise InputError(f"{label}: no edge left; lower min_confidence or check the file")
    if measure is not None:
        record["confidence"] = measure  # type: ignore[assignment]
    return graph_of(edges, RELATION, origin, label=label, rows_read=rows_read, dropped=dropped, **record)


def _levels(column: pd.Series, label: str) -> pd.Series:
    """Return levels as numbers, of several (`A;D`) the best, NaN where there is none."""
    best = column.map(
        lambda text: max(LEVELS.get(part.strip(), 0) for part in str(text).split(";")), na_action="ignore"
    )
    best = best.astype(float)
    if (best == 0).any():
        row = int(np.argmax(best == 0))
        raise InputError(f"{place(label, row)}: {column.name} {column.iloc[row]!r} is none of A, B, C, D, E")
    return best


def _dorothea(frame: pd.DataFrame, label: str, min_confidence: str | float | None, origin: str) -> KnowledgeGraph:
    mor = numbers(frame, "mor", label)
    level = _levels(frame["confidence"].astype(object).fillna("missing"), label)
    weight = np.where(mor != 0, np.abs(mor), 1.0)
    edges = pd.DataFrame({"source": frame["tf"], "target": frame["target"], "weight": weight, "sign": np.sign(mor)})
    return _finish(edges.assign(level=level), label, origin, min_confidence)


def _omnipath(
    frame: pd.DataFrame, label: str, min_confidence: str | float | None, origin: str | None
) -> KnowledgeGraph:
    stem = "consensus" if {"consensus_stimulation", "consensus_inhibition"} <= set(frame.columns) else "is"
    check_columns(frame, [f"{stem}_stimulation", f"{stem}_inhibition"], label, "an OmniPath table")
    signs = [_truth(frame, f"{stem}_{kind}", label) for kind in ("stimulation", "inhibition")]
    edges = pd.DataFrame(
        {
            "source": frame["source_genesymbol"],
            "target": frame["target_genesymbol"],
            "weight": 1.0,
            "sign": signs[0].astype(int) - signs[1].astype(int),
        }
    )
    measure = None
    if "references" in frame:
        measure = REFERENCES
        edges["confidence"] = [len(set(str(ids).split(";"))) if pd.notna(ids) else 0 for ids in frame["references"]]
    if "dorothea_level" in frame:
        edges["level"] = _levels(frame["dorothea_level"], label)
    leveled = "level" in edges and (isinstance(min_confidence, str) or bool(edges["level"].notna().all()))
    n_rows = len(edges)
    dropped = {}
    if leveled:
        mine, other = edges["level"].notna().to_numpy(), "no level of DoRothEA's"
    else:
        mine = _truth(frame, "collectri", label) if "collectri" in frame else np.ones(n_rows, bool)
        other = "of another data set than CollecTRI"
    if not mine.all():
        edges, dropped = edges[mine], {other: int((~mine).sum())}
    n_mine = len(edges)
    for end in ("source", "target"):
        if end in frame:
            joined = frame[end].astype(str).str.startswith("COMPLEX:").to_numpy()[edges.index]
            names = [
                name.split("_") if c and isinstance(name, str) else name
                for name, c in zip(edges[end], joined, strict=True)
            ]
            edges = edges.assign(**{end: names}).explode(end)
    added = len(edges) - n_mine
    origin = origin or ("dorothea" if leveled else "collectri")
    edges = edges.reset_index(drop=True)
    return _finish(edges, label, origin, min_confidence, measure, n_rows, dropped, added=added)


def _truth(frame: pd.DataFrame, column: str, label: str) -> np.ndarray:
    words = {"true": True, "false": False, "1": True, "0": False}
    values = frame[column].map(lambda x: words.get((as_name(x) or "").lower()))
    if values.isna().any():
        row = int(np.argmax(values.isna()))
        raise InputError(
            f"{place(label, row)}: {column} {frame[column].iloc[row]!r} is neither true nor false, 1 nor 0"
        )
    return values.to_numpy(bool)


def _trrust(frame: pd.DataFrame, label: str, origin: str, min_confidence: str | float | None) -> KnowledgeGraph:
    unknown = ~frame["mode"].isin(TRRUST_SIGNS)
    if unknown.any():
        row = int(np.argmax(unknown))
        raise InputError(f"{label}:{row + 1}: mode {frame['mode'].iloc[row]!r} is none of {', '.join(TRRUST_SIGNS)}")
    nameless = frame["tf"].isna() | frame["target"].isna()
    if nameless.any():
        raise InputError(f"{label}:{int(np.argmax(nameless)) + 1}: a TF or target is missing")
    papers = frame["pubmed"].fillna("").astype(str).str.split(";").map(len)
    votes = frame["mode"].map(TRRUST_SIGNS) * papers
    rows = pd.DataFrame({"source": frame["tf"], "target": frame["target"], "votes": votes, "confidence": papers})
    loops = rows["source"] == rows["target"]
    edges = rows[~loops].groupby(["source", "target"], as_index=False)[["votes", "confidence"]].sum()
    edges["sign"] = np.sign(edges.pop("votes"))
    counts = {"self_loops": int(loops.sum()), "merged": int((~loops).sum()) - len(edges)}
    return _finish(edges, label, origin, min_confidence, PUBLICATIONS, len(frame), None, **counts)


def _sif(path: Path, origin: str, min_confidence: str | float | None) -> KnowledgeGraph:
    rows: list[tuple[str, str, int]] = []
    dropped: dict[str, int] = {}
    n_lines = 0
    for number, line in text_lines(path):
        if not line.strip():
            continue
        n_lines += 1
        fields = [field.strip() for field in (line.split("\t") if "\t" in line else line.split())]
        if len(fields) < 3 or not all(fields):
            raise InputError(f"{path}:{number}: a SIF line is source, interaction and target(s), by tabs or spaces")
        kind = fields[1].lower()
        if kind not in SIGN_OF:
            dropped[f"interaction {fields[1][:40]!r}"] = dropped.get(f"interaction {fields[1][:40]!r}", 0) + 1
            continue
        rows += [(fields[0], target, SIGN_OF[kind]) for target in fields[2:]]
    if not rows:
        raise InputError(
            f"{path}: no line is a regulation ({', '.join(dropped) or 'no line'}); use names like activates, inhibits"
        )
    edges = pd.DataFrame(rows, columns=["source", "target", "sign"])
    added = len(rows) - (n_lines - sum(dropped.values()))
    if min_confidence is not None:
        raise InputError(f"{path}: SIF has no confidences to filter by; leave min_confidence out")
    return graph_of(edges, RELATION, origin, label=str(path), rows_read=n_lines, dropped=dropped, added=added)


def _plain(frame: pd.DataFrame, label: str, min_confidence: str | float | None, origin: str) -> KnowledgeGraph:
    lower = {str(name).lower(): name for name in frame.columns}
    source = next((lower[name] for name in ("tf", "source", "regulator") if name in lower), None)
    target = lower.get("target")
    if source is None or target is None:
        has = ", ".join(map(str, frame.columns))[:100]
        raise InputError(
            f"{label}: neither DoRothEA (columns tf, confidence, target, mor), CollecTRI (source_genesymbol, …), "
            f"TRRUST (TF, target, mode, PubMed ids, no header), arboreto (TF, target, importance), ARACNe (Regulator, "
            f"Target, MI) nor a plain table (tf, target, sign); the first line is {has}. Other tables: load_table"
        )
    edges = pd.DataFrame({"source": frame[source], "target": frame[target]})
    strength = next((name for name in ("importance", "mi", "weight", "mor") if name in lower), None)
    value = np.ones(len(frame)) if strength is None else numbers(frame, lower[strength], label)
    if strength in ("importance", "mi") and (value < 0).any():
        row = int(np.argmax(value < 0))
        raise InputError(f"{place(label, row)}: {lower[strength]} {value[row]} is negative; it must be 0 or more")
    edges["weight"] = np.where((value == 0) & (strength == "mor"), 1.0, np.abs(value))
    if "sign" in lower:
        edges["sign"] = as_signs(frame[lower["sign"]], lambda row: place(label, row))
    elif strength in ("weight", "mor"):
        edges["sign"] = np.sign(value)
    measure = None
    if "pvalue" in lower:
        p, measure = numbers(frame, lower["pvalue"], label), ONE_MINUS_P
        if (wrong := (p < 0) | (p > 1)).any():
            row = int(np.argmax(wrong))
            raise InputError(f"{place(label, row)}: {lower['pvalue']} {p[row]:g} is not between 0 and 1")
        edges["confidence"] = 1 - p
    elif "confidence" in lower:
        given = frame[lower["confidence"]]
        if given.map(lambda text: isinstance(text, str) and text.strip() in LEVELS).any():
            edges["level"] = _levels(given, label)
        else:
            edges["confidence"], measure = numbers(frame, lower["confidence"], label), "column confidence"
    return _finish(edges, label, origin, min_confidence, measure)
