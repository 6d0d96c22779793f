"""Whatever kind of file rows are written to, the same rows come back; and how far the reading is."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labsupport.training_data.reading import Rows

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
CHAT = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT}), max_size=3
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.fixed_dictionaries({"messages": CHAT, "more": ANYTHING}), min_size=1, max_size=6)
TABLES = st.lists(st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT}), min_size=1, max_size=6)
QUICKLY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path):
    found = list(Rows(path))
    assert [number for number, _, _ in found] == list(range(1, len(found) + 1))
    return [row for _, _, row in found]


@QUICKLY
@given(ROWS, st.booleans())
def test_json_lines(tmp_path, rows, plain):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=plain) + "\n" for row in rows), encoding="utf-8")
    assert read(path) == rows


@QUICKLY
@given(ROWS, st.booleans(), st.sampled_from([None, 1]))
def test_json(tmp_path, rows, wrapped, indent):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"version": 2, "data": rows} if wrapped else rows, indent=indent))
    assert read(path) == rows


@QUICKLY
@given(TABLES, st.sampled_from([",", ";", "\t"]))
def test_csv(tmp_path, rows, separator):
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"], delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    assert read(path) == rows


@QUICKLY
@given(st.lists(st.fixed_dictionaries({"messages": CHAT, "id": st.integers(0, 9)}), min_size=1, max_size=5))
def test_parquet(tmp_path, rows):
    path = tmp_path / "a.parquet"
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("messages", pa.list_(message)), ("id", pa.int64())])
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    assert read(path) == rows


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_how_far_the_reading_is(tmp_path, name):
    rows = [{"prompt": f"question {i} " * 20, "completion": f"answer {i}"} for i in range(5000)]
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name == "a.csv":
        lines = [f"{row['prompt']},{row['completion']}" for row in rows]
        path.write_text("\n".join(["prompt,completion", *lines]))
    else:
        text = json.dumps(rows) if name == "a.json" else "\n".join(map(json.dumps, rows))
        path.write_text(text)
    data = Rows(path)
    shares = [data.fraction for _ in data]
    assert shares == sorted(shares)
    assert shares[0] < 0.95 and shares[-1] > 0.8
    assert data.fraction == 1.0
    assert len(list(data)) == 5000  # and once more from the start
