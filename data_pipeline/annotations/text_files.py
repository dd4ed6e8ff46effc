"""The one way into annotations that are texts (JSON, XML): what they hold is estimated before a parser takes memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from data_pipeline.readers import budget
from data_pipeline.readers.damage import read_or_refuse
from data_pipeline.scan import ScanError

MAX_JSON_BYTES = 128 << 20
"""LabelMe keeps the picture in its file; the largest picture that is read has 90 MiB as text."""

MAX_XML_BYTES = 16 << 20

MAX_PARSED_BYTES = 1 << 30
"""Of what a parser makes of a file: 16 million numbers, or 600,000 boxes of COCO."""

_JSON_COSTS = ((b"{", 200), (b":", 150), (b"[", 100), (b",", 64))
_XML_COSTS = ((b"<", 150), (b"=", 500))
"""Bytes that Python takes at most for what each of these begins; within texts they count too."""


def annotation_json(path: Path) -> Any:
    """Content of a JSON file, or None where it is none.

    Raises:
      ScanError: larger than any annotation, or it cannot be read.
    """
    return read_or_refuse(path, _read_json)


def annotation_xml(path: Path) -> ElementTree.Element | None:
    """Root of an XML file, or None where it is none, or has entities, which can grow without end.

    Raises:
      ScanError: larger than any annotation, or it cannot be read.
    """
    return read_or_refuse(path, _read_xml)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_text(path, MAX_JSON_BYTES, _JSON_COSTS, errors="strict"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ScanError):
            raise
        return None


def _read_xml(path: Path) -> ElementTree.Element | None:
    text = _text(path, MAX_XML_BYTES, _XML_COSTS, errors="replace")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None


def _text(path: Path, most: int, costs: tuple[tuple[bytes, int], ...], *, errors: str) -> str:
    """Text of a file that a parser may be given."""
    budget.check_regular(path)
    if (size := path.stat().st_size) > most:
        raise ScanError(f"{path}: {size / 2**20:.0f} MiB of text; no annotation is that large: split it")
    content = path.read_bytes()
    if sum(content.count(mark) * cost for mark, cost in costs) > MAX_PARSED_BYTES:
        raise ScanError(f"{path}: more entries than annotations of planar scans have; split it into several files")
    return content.decode("utf-8-sig", errors)
