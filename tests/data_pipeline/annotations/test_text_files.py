"""JSON and XML of annotations: their memory is estimated before a parser takes it, and reading them has an end."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline.annotations import text_files
from data_pipeline.annotations.outlines import voc_boxes
from data_pipeline.annotations.text_files import annotation_json, annotation_xml
from data_pipeline.intake.sorting import Sorted
from data_pipeline.readers import budget
from data_pipeline.readers.sources import SourceFile
from data_pipeline.scan import ScanError

NUMBER = 20_000
NESTED = f"[{','.join(['[' * 100 + ']' * 100] * (NUMBER // 100))}]"
TEXTS = {
    "nested.json": NESTED,
    "lists.json": f"[{','.join(['[]'] * NUMBER)}]",
    "lists of one.json": f"[{','.join(['[1]'] * NUMBER)}]",
    "objects.json": f"[{','.join(['{}'] * NUMBER)}]",
    "objects of one.json": json.dumps([{f"{n}": n + 1000} for n in range(NUMBER)]),
    "one object.json": json.dumps({f"{n}": n + 1000 for n in range(NUMBER)}),
    "numbers.json": json.dumps([n + 0.5 for n in range(NUMBER)]),
    "texts.json": json.dumps([f"{n}" for n in range(NUMBER)]),
    "elements.xml": f"<a>{'<b/>' * NUMBER}</a>",
    "texts.xml": f"<a>{'<b>c</b>d' * NUMBER}</a>",
    "attributes.xml": f"<a>{''.join(f'<b c{n}={chr(34)}{n}{chr(34)}/>' for n in range(NUMBER))}</a>",
    "deep.xml": "<a>" * NUMBER + "</a>" * NUMBER,
}


def _read(path: Path) -> object:
    return annotation_json(path) if path.suffix == ".json" else annotation_xml(path)


def _refusal(read: Callable[[], object]) -> str:
    with pytest.raises(ScanError) as refused:
        read()
    return str(refused.value)


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_parsed_takes_no_more_than_was_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_text(TEXTS[name])
    _read(path)
    tracemalloc.start()
    try:
        assert _read(path) is not None
        taken = tracemalloc.get_traced_memory()[1] - 3 * len(TEXTS[name])  # bytes, text, and the parser's own copy
        tracemalloc.reset_peak()
        monkeypatch.setattr(text_files, "MAX_PARSED_BYTES", taken - 1)
        line = _refusal(lambda: _read(path))
        assert line == f"{path}: more entries than annotations of planar scans have; split it into several files"
        assert tracemalloc.get_traced_memory()[1] < taken / 2 + 3 * len(TEXTS[name])
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["nested.json", "elements.xml"])
def test_texts_larger_than_any_annotation_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_text(TEXTS[name])
    monkeypatch.setattr(text_files, f"MAX_{path.suffix[1:].upper()}_BYTES", len(TEXTS[name]) - 1)
    assert _refusal(lambda: _read(path)) == f"{path}: 0 MiB of text; no annotation is that large: split it"


def test_an_import_tells_of_a_bomb_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "MAX_PARSED_BYTES", 100_000)
    path = tmp_path / "scan_lesions.json"
    path.write_text(NESTED)
    found = Sorted()
    found.take(SourceFile(path.name, path))
    assert [line for _, line in found.problems] == [
        f"{path}: more entries than annotations of planar scans have; split it into several files"
    ]


def test_reading_texts_has_an_end_in_any_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_SECONDS", -1.0)
    lines: list[str] = []
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "a.xml").write_text("<annotation/>")

    def read() -> None:
        lines.append(_refusal(lambda: annotation_json(tmp_path / "a.json")))
        lines.append(_refusal(lambda: voc_boxes(tmp_path / "a.xml", labels={})))

    reading = threading.Thread(target=read)
    reading.start()
    reading.join(60)
    assert [line.partition(": ")[2] for line in lines] == [
        "reading it took more than -1 s; damaged or a trap: export it again"
    ] * 2
