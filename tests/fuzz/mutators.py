"""Ways to damage a file: bytes, texts, numbers, entries of JSON and DICOM, members of zips."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pydicom
from pydicom.dataelem import DataElement, RawDataElement

from data_pipeline.readers.formats.dicom_file import quiet

Mutate = Callable[[bytes, random.Random], bytes]

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TEXTS = (b"", b"0", b"-1", b"1e308", b"nan", b"inf", b"NaN", b"\\", b"\0", b"../..", b"\xff\xfe", b"A" * 300, b"9" * 40)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 1e9, 1e308, -1e308, 10**40, float("nan"), float("inf"), 0.5, 255, 256),
    *(
        "",
        "x",
        "1",
        "0",
        "lesion",
        "no lesion",
        "background",
        "rotation",
        "mask",
        "point",
        "\ud800",
        "\x1b[2J\n",
        "A" * 5000,
    ),
    *([], {}, [1], [None], {"a": 1}, [[0.1, 0.2]], [[]], {"": {}}, ["1"]),
)


def mutate_bytes(content: bytes, draw: random.Random, *, head: int | None = None) -> bytes:
    """One to eight changes: bytes, bits, integers, cuts, copies, texts; within the first `head` bytes if given."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        end = max(min(len(data), head or len(data)), 1)
        at = draw.randrange(end)
        kind = draw.randrange(9)
        if not data:
            break
        if kind == 0:
            data[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            data[at] ^= 1 << draw.randrange(8)
        elif kind in (2, 3):
            form = draw.choice(("<H", ">H", "<I", ">I"))
            size = struct.calcsize(form)
            data[at : at + size] = struct.pack(form, draw.choice(NUMBERS) % (1 << (8 * size)))
        elif kind == 4:
            del data[at : at + draw.choice((1, 2, 4, 16, 200))]
        elif kind == 5:
            data[at:at] = data[draw.randrange(end) :][: draw.choice((1, 4, 32))]
        elif kind == 6:
            data[at:at] = draw.choice(TEXTS)
        elif kind == 7:
            data[at : at + 8] = struct.pack(
                draw.choice(("<d", ">d")), draw.choice((float("nan"), float("inf"), -1.0, 1e300))
            )
        elif draw.random() < 0.3:
            del data[at:]
    return bytes(data)


def headers(size: int) -> Mutate:
    """Damages the first `size` bytes only."""
    return lambda content, draw: mutate_bytes(content, draw, head=size)


def mutate_json(content: bytes, draw: random.Random) -> bytes:
    """Mostly one to three entries lost, renamed, doubled or replaced; sometimes bytes."""
    if draw.random() < 0.15:
        return mutate_bytes(content, draw)
    value = json.loads(content)
    for _ in range(draw.choice((1, 1, 2, 3))):
        value = mutated(value, draw)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def mutated(content: Any, draw: random.Random) -> Any:
    """A copy of JSON-able content with one thing taken out, replaced, renamed or doubled."""
    content = json.loads(json.dumps(content))
    ways = list(_paths(content))
    if not ways:
        return draw.choice(VALUES)
    *way, last = draw.choice(ways)
    place = content
    for key in way:
        place = place[key]
    change = draw.randrange(4)
    if change == 0:
        del place[last]
    elif change == 1:
        place[last] = json.loads(json.dumps(draw.choice(VALUES)))
    elif isinstance(place, dict):
        place[f"{last}x"] = place.pop(last)
    else:
        place.append(json.loads(json.dumps(place[last])))
    return content


def _paths(content: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inside:
        yield (*here, key)
        yield from _paths(value, (*here, key))


def mutate_lines(content: bytes, draw: random.Random) -> bytes:
    """Lines and cells of CSV, JSON of a line, or words lost, doubled, exchanged or replaced; sometimes bytes."""
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    kind = draw.randrange(6)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(draw.randrange(len(lines)), lines[at])
    elif kind in (2, 3):
        cells = lines[at].split(b",")
        cells[draw.randrange(len(cells))] = draw.choice((*TEXTS, b"true", b"=1+1", b'"', b"x,y"))
        lines[at] = b",".join(cells)
    elif kind == 4 and lines[at].startswith(b"{"):
        lines[at] = mutate_json(lines[at], draw)
    else:
        return mutate_bytes(content, draw)
    return b"\n".join(lines)


def mutate_dicom(content: bytes, draw: random.Random) -> bytes:
    """Values of elements replaced by raw bytes that the standard forbids, elements lost or copied; sometimes bytes."""
    if draw.random() < 0.3:
        return mutate_bytes(content, draw, head=4000)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _with_other_values(pydicom.dcmread(io.BytesIO(content)), draw)
        except Exception:  # what pydicom itself cannot write is damaged byte by byte
            return mutate_bytes(content, draw, head=4000)


def _with_other_values(header: pydicom.Dataset, draw: random.Random) -> bytes:
    list(header.iterall())  # raw elements are parsed while they are sound
    for _ in range(draw.choice((1, 1, 2, 4))):
        place = header
        while inside := [e for e in place._dict.values() if isinstance(e, DataElement) and e.VR == "SQ" and e.value]:
            if draw.random() < 0.5:
                break
            place = draw.choice(list(draw.choice(inside).value))
        tag = draw.choice([tag for tag in sorted(place._dict) if tag.group != 2])
        kind, vr = draw.randrange(5), place._dict[tag].VR
        if kind == 0:
            del place._dict[tag]
            continue
        if kind == 4:
            vr = draw.choice(("US", "LO", "DS", "IS", "UI", "FD", "SS", "CS", "DA"))
        numbers = struct.pack("<H", draw.choice(NUMBERS) % 65536)
        value = draw.choice((*TEXTS, b"1\\2\\3\\4", b"ABC", b"19640000", b"1\\1", numbers, numbers * 3))
        if vr != "SQ":
            place._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    written = io.BytesIO()
    pydicom.dcmwrite(written, header, enforce_file_format=False)
    return written.getvalue()


def mutate_zip(content: bytes, draw: random.Random) -> bytes:
    """Members renamed, doubled, packed otherwise or damaged; or bytes of the zip."""
    if draw.random() < 0.6:
        return mutate_bytes(content, draw)
    names = (".", "..", "", "/", "a/../../b", "C:x", "\x1b[2J", "é" * 200, "a\\b", "a/", "=1", "\0", "con", "x" * 4000)
    packed = io.BytesIO()
    quiet_zip = warnings.catch_warnings(action="ignore")  # names may occur twice
    with quiet_zip, zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        for entry in old.infolist():
            name = draw.choice(names) if draw.random() < 0.4 else entry.filename
            method = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            member = zipfile.ZipInfo(name or "x")
            member.external_attr = draw.choice((0, 0o120777 << 16, 0o10644 << 16, 0xFFFFFFFF))
            member.compress_type = method
            if name:
                new.writestr(member, old.read(entry))
    return mutate_bytes(packed.getvalue(), draw) if draw.random() < 0.5 else packed.getvalue()


def mutate_members(members: dict[str, Mutate]) -> Mutate:
    """Damages one member of a zip and packs it again, so that the damage gets past the checksums."""

    def mutate(content: bytes, draw: random.Random) -> bytes:
        if draw.random() < 0.3:
            return mutate_zip(content, draw)
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
            chosen = draw.choice([name for name in old.namelist() if name in members])
            for name in old.namelist():
                data = old.read(name)
                new.writestr(name, members[name](data, draw) if name == chosen else data)
        return packed.getvalue()

    return mutate
