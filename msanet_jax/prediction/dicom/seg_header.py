"""What a DICOM Segmentation may take over from its scan's header: values that the standard allows, and no others."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

import pydicom
from pydicom.charset import python_encoding

_WHOLE = re.compile(r"[+-]?[0-9]{1,11}")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_UID_LETTERS_MAX, _NAME_LETTERS_MAX = 64, 64


def _is_date(text: str) -> bool:
    try:
        return bool(re.fullmatch("[0-9]{8}", text)) and bool(datetime.datetime.strptime(text, "%Y%m%d"))
    except ValueError:
        return False


def _is_time(text: str) -> bool:
    found = re.fullmatch(r"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:\.[0-9]{1,6})?)?)?", text)
    return found is not None and all(
        int(part or 0) < limit for part, limit in zip(found.groups(), (24, 60, 60), strict=True)
    )


def _is_text(letters: int) -> Callable[[str], bool]:
    return lambda text: len(text) <= letters and text.isprintable() and "\\" not in text


def _is_name(text: str) -> bool:
    parts = text.split("=")
    return len(parts) <= 3 and all(
        len(part) <= _NAME_LETTERS_MAX and part.count("^") <= 4 and _is_text(_NAME_LETTERS_MAX)(part) for part in parts
    )


_RULES: dict[str, Callable[[str], bool]] = {
    "PatientName": _is_name,
    "PatientID": _is_text(64),
    "IssuerOfPatientID": _is_text(64),
    "PatientBirthDate": _is_date,
    "PatientSex": lambda text: text in ("M", "F", "O"),
    "StudyDate": _is_date,
    "StudyTime": _is_time,
    "StudyID": _is_text(16),
    "AccessionNumber": _is_text(16),
    "ReferringPhysicianName": _is_name,
    "StudyDescription": _is_text(64),
}
TAKEN_OVER = tuple(_RULES)
"""Keywords of the modules of patient and study."""


def valid_value(header: pydicom.Dataset, keyword: str) -> tuple[str, bool]:
    """An entry as text, and whether the standard allows it; what it does not allow is empty."""
    try:
        text = str(header.get(keyword, None) or "").strip()
        allowed = not text or (_RULES[keyword](text) and (text.isascii() or _is_decoded(header)))
        text.encode("utf-8")
    except Exception:  # pydicom converts late, and fails in many ways
        return "", False
    return (text, True) if allowed and "\N{REPLACEMENT CHARACTER}" not in text else ("", False)


def series_number(header: pydicom.Dataset) -> int:
    """Number of the series, 0 where it is none."""
    try:
        text = str(header.get("SeriesNumber", None) or 0).strip()
    except Exception:  # as above
        return 0
    return int(text) if _WHOLE.fullmatch(text) else 0


def is_uid(value: object) -> bool:
    """Whether a value is a UID by form."""
    text = str(value)
    return len(text) <= _UID_LETTERS_MAX and _UID.fullmatch(text) is not None


def _is_decoded(header: pydicom.Dataset) -> bool:
    """Whether the header names the character set of its text, so that other letters than English ones are right."""
    value = header.get("SpecificCharacterSet", None)
    names = [value] if isinstance(value, str) else list(value or [])
    return any(names) and all(name in python_encoding for name in names)
