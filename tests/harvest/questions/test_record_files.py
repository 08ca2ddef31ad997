"""Records of a file: packed or plain, an array, a page, Parquet, and a torn end."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from test_import import completion, line

from harvest.endpoint.reply import read_document
from harvest.questions.files import Record, Records, content_key
from harvest.questions.imported_answers import read_answer
from harvest.questions.rows import BadRow


def values(path: Path) -> list[Any]:
    return [r.value for r in Records(path)]


def test_packed_and_plain_json_lines_have_the_same_keys(tmp_path: Path) -> None:
    data = "".join(json.dumps(line(i)) + "\n" for i in range(50)).encode()
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(data))
    keys = [[content_key(r) for r in Records(p)] for p in sorted(tmp_path.iterdir())]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys[0])) == 50


def test_an_array_is_read_entry_by_entry_however_it_is_spread(tmp_path: Path) -> None:
    rows = [line(i, "x" * 3000) for i in range(1000)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.json").write_text("\n " + json.dumps(rows, indent=2))
    assert values(tmp_path / "a.json") == values(tmp_path / "b.json") == rows


def test_a_page_of_a_list_is_its_entries(tmp_path: Path) -> None:
    page = {"object": "list", "data": [completion("1"), completion("2")], "has_more": False}
    (tmp_path / "a.json").write_text(json.dumps(page, indent=2))
    records = list(Records(tmp_path / "a.json"))
    assert [r.value["choices"][0]["message"]["content"] for r in records if isinstance(r.value, dict)] == ["1", "2"]
    assert len({content_key(r) for r in records}) == 2


def test_parquet_gives_the_same_rows_with_exact_money(tmp_path: Path) -> None:
    rows = [line(i, completion(f"\\boxed{{{2 * i + 1}}}", usage={"cost": 0.1})) for i in range(200)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=50)
    found = [read_answer(v, read_document) for v in values(tmp_path / "a.parquet")]
    assert [f.reply.answer for f in found] == [f"\\boxed{{{2 * i + 1}}}" for i in range(200)]
    assert {f.cost_pusd for f in found} == {10**11}


def test_a_torn_end_is_told_from_a_bad_line(tmp_path: Path) -> None:
    def last(name: str, data: bytes) -> Record:
        (tmp_path / name).write_bytes(data)
        return list(Records(tmp_path / name))[-1]

    whole = json.dumps(line(1)).encode() + b"\n"
    torn = [
        last("a.jsonl", whole + b'{"question": "wh'),
        last("a.json", b'[{"a": 1}, {"question": "wh'),
        last("b.json", b'[{"a": 1}, '),
        last("a.jsonl.gz", gzip.compress(whole * 5000)[:-20]),
    ]
    bad = [last("b.jsonl", whole + b"{]\n"), last("c.json", b'[{"a": 1}, {]}, {"b": 1}]'), last("c.jsonl", b"3\n")]
    assert all(r.torn and isinstance(r.value, BadRow) for r in torn)
    assert not any(r.torn for r in bad)
    assert all(isinstance(r.value, BadRow) for r in bad)
