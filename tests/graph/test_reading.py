import gzip
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn.data.effect_tables import read_file
from kgnn.errors import InputError
from kgnn.graph import load_table, load_triples, reading
from kgnn.graph.reading import numbers, read_table, table_batches, text_lines
from kgnn.graph.sources.collect import EdgeCollector, Names

fields = st.text(st.characters(codec="utf-8", exclude_characters='\t\r\n",\0', exclude_categories=["Cs"]), max_size=6)


@given(st.lists(st.tuples(fields, fields), min_size=1, max_size=20), st.booleans(), st.sampled_from([",", "\t"]))
def test_tables_are_read_as_pandas_wrote_them(tmp_path_factory, rows, zipped, separator):
    frame = pd.DataFrame(rows, columns=["a", "b"])
    text = frame.to_csv(sep=separator, index=False).encode()
    path = tmp_path_factory.mktemp("t") / ("t.csv" if separator == "," else "t.tsv")
    path.write_bytes(gzip.compress(text) if zipped else text)
    found, _ = read_table(path)
    expected = frame.mask(frame == "", None)
    assert found.to_numpy(object, na_value=None).tolist() == expected.to_numpy(object).tolist()


@pytest.mark.parametrize("block", [1 << 23, 64])
def test_line_numbers_survive_blocks_comments_and_blank_lines(tmp_path, monkeypatch, block):
    monkeypatch.setattr(reading, "BLOCK", block)
    path = tmp_path / "t.tsv"
    path.write_text("# about\na\tb\n" + "x\t1\n" * 40 + "\ny\tz\n" + "x\t1\n" * 40)

    def read():
        for first, batch in table_batches(path, comment="#"):
            numbers(batch.to_pandas(), "b", str(path), first=first)

    with pytest.raises(InputError, match=r"t.tsv:43: b is missing"):
        read()
    path.write_text("# about\na\tb\n" + "x\t1\n" * 40 + "y\tz\tq\n")
    with pytest.raises(InputError, match=r"t.tsv:43: 3 fields where the first line has 2"):
        list(table_batches(path, comment="#"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\tb\nx\t\xff\n", r"t.tsv:2: not UTF-8 text \(byte 3 of the line\)"),
        (b"a\ta\nx\ty\n", r"t.tsv:1: the column 'a' stands twice"),
        (b"a\tb\n" + b"x" * 5000 + b"\ty\n", r"t.tsv:2: a line longer than"),
        (b"a\tb\nx\ty\nx\t\0y\n", r"t.tsv:3: a null character in the line"),
        (gzip.compress(b"a\tb\n" + bytes(range(48, 58)) * 50, mtime=0)[:-20], "gzip data damaged or cut short"),
        (gzip.compress(b"a\tb\nx\ty\n", mtime=0)[:12] + b"junkjunkjunk", "gzip data damaged or cut short"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, monkeypatch, data, message):
    monkeypatch.setattr(reading, "MAX_LINE", 4000)
    monkeypatch.setattr(reading, "BLOCK", 2000)
    (tmp_path / "t.tsv").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "t.tsv")


def test_a_field_that_is_no_name_of_a_column_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a" * 200_000 + ",b\n")
    for load in (read_table, load_triples):
        with pytest.raises(InputError, match=r"t\.csv:1: cannot be parted into fields"):
            load(tmp_path / "t.csv")


def test_parquet_whose_texts_are_not_utf8_is_refused(tmp_path):
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xc1"))
    pq.write_table(pa.table({"source": bad, "target": pa.array(["A"])}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t.parquet: cannot be read as Parquet: .*UTF8"):
        load_table(tmp_path / "t.parquet")


def test_quotes_are_quotes_in_csv_and_letters_in_tsv_unless_the_header_has_them(tmp_path):
    (tmp_path / "t.csv").write_text('a,b\n"x,y",z\n')
    (tmp_path / "t.tsv").write_text("a\tb\nA-GAMMA3'E\t5\"-end\n")
    (tmp_path / "r.tsv").write_text('"a"\t"b"\n"x"\t"y"\n')  # as R's write.table writes
    assert read_table(tmp_path / "t.csv")[0].to_numpy().tolist() == [["x,y", "z"]]
    assert read_table(tmp_path / "t.tsv")[0].to_numpy().tolist() == [["A-GAMMA3'E", '5"-end']]
    assert read_table(tmp_path / "r.tsv")[0].to_dict("list") == {"a": ["x"], "b": ["y"]}


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfa,b\n1,2\n")
    assert next(text_lines(tmp_path / "t.csv")) == (1, "a,b")
    assert list(read_table(tmp_path / "t.csv")[0].columns) == ["a", "b"]


def test_a_header_alone_is_an_empty_table(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n")
    frame, _ = read_table(tmp_path / "t.csv")
    assert list(frame.columns) == ["a", "b"]
    assert len(frame) == 0


@given(st.lists(st.one_of(st.none(), st.sampled_from(["A", " A ", "", "  ", "B", "c"])), max_size=20))
def test_names_are_numbered_whatever_holds_them(values):
    expected = []
    known: dict = {}
    for value in values:
        word = (value or "").strip()
        expected.append(known.setdefault(word, len(known)) if word else -1)
    arrow = pa.array(values, pa.string())
    for column in (
        arrow,
        arrow.dictionary_encode(),
        pa.chunked_array([arrow, arrow[:0]]),
        pd.Series(values, dtype=object),
    ):
        assert Names().codes(column).tolist() == expected


def test_batches_of_edges_are_one_graph():
    collector = EdgeCollector(("gene", "binds", "gene"))
    for part in np.array_split(np.arange(100), 7):
        collector.add([f"G{i % 10}" for i in part], [f"G{i % 7}" for i in part], part.astype(float))
    kg = collector.graph("x", label="x")
    expected = {}
    for i in range(100):
        if i % 10 != i % 7:
            expected[f"G{i % 10}", f"G{i % 7}"] = float(i)  # the largest is the last
    assert {(e.source, e.target): e.weight for e in kg.edges(kg.relations[0]).itertuples()} == expected


@pytest.mark.parametrize("ending", ["csv", "tsv.gz"])
def test_a_table_wider_than_any_is_refused_at_once(tmp_path, ending):
    path = tmp_path / f"wide.{ending}"
    line = ("\t" if "tsv" in ending else ",").join(f"c{number}" for number in range(200_000)) + "\n"
    path.write_bytes(gzip.compress(line.encode()) if ending.endswith("gz") else line.encode())
    start = time.process_time()
    with pytest.raises(InputError, match=r"200,000 columns, where 100,000 are the most"):
        read_table(path)
    with pytest.raises(InputError, match=r"200,000 columns, where 100,000 are the most"):
        read_file(path)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(("text", "comment"), [("\n", None), ("\n", "#"), ("\n\n\r\n", "#")])
def test_a_file_of_blank_lines_is_refused(tmp_path, text, comment):
    path = tmp_path / "t.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"t\.tsv: holds no table; the first line must name the columns"):
        read_table(path, **{} if comment is None else {"comment": comment})
