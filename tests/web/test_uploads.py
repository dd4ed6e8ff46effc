"""Names that browsers say, sizes they claim, and what is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.errors import RequestError
from msanet_jax.web.uploads import announced, write_stream


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("scan.dcm", "scan.dcm"),
        ("p1/anterior.dcm", "p1/anterior.dcm"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("..\\..\\windows\\a.dcm", "windows/a.dcm"),
        ("C:\\scans\\a.dcm", "C_/scans/a.dcm"),
        ("a\0b\n.dcm", "a_b_.dcm"),
        ("\u202egnp.exe", "_gnp.exe"),
        ("CON.png", "_CON.png"),
        ("a./b .png", "a/b .png"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("Müller/Knochen.dcm", "Müller/Knochen.dcm"),
    ],
)
def test_a_name_is_a_place_inside(name: str, path: str) -> None:
    assert announced(name, 1, set()).path == Path(path)


def test_long_and_deep_names() -> None:
    place = announced("/".join(["x" * 300] * 40) + ".dcm", 1, set()).path
    assert len(place.parts) == 12 and len(place.name) == 120 and place.suffix == ".dcm"


def test_two_files_of_one_name() -> None:
    taken: set[str] = set()
    assert [str(announced(name, 1, taken).path) for name in ("a/x.png", "A/X.png", "a/x.png")] == [
        "a/x.png",
        "A/2-X.png",
        "a/3-x.png",
    ]


def test_sizes() -> None:
    with pytest.raises(RequestError, match=r"a\.dcm: is larger than 2 GiB"):
        announced("a.dcm", (2 << 30) + 1, set())
    with pytest.raises(RequestError, match=r"a\.dcm: is empty"):
        announced("a.dcm", 0, set())
    assert announced("a.dcm", 2 << 30, set()).name == "a.dcm"


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    """The body never ends; no more of it is taken than the limit and one chunk."""
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 100
            yield bytes(100)

    with pytest.raises(RequestError, match="is larger than"):
        asyncio.run(write_stream(endless(), tmp_path / "p" / "a.dcm", name="a.dcm", limit=1000))
    assert taken == 1100
    assert list((tmp_path / "p").iterdir()) == []


def test_an_upload_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(RequestError, match=r"a\.dcm: cannot be kept"):
        asyncio.run(write_stream(cut(), tmp_path / "a.dcm", name="a.dcm"))
    assert list(tmp_path.iterdir()) == []


def test_a_lie_about_the_size_is_found_out(page: Any) -> None:
    made = page.announce({"a.dcm": 10, "large.dcm": 2 << 20})
    assert made["files"] == [0, None]
    answer = page.client.put("drops/1/files/0", content=bytes(1 << 20) + b"!")
    assert answer.status_code == 413 and "a.dcm: is larger than" in answer.text
    assert not list((page.desk.visit.folder / "drop1").rglob("*.dcm"))
    failures = page.state(1)["failures"]
    assert [line.partition(":")[0] for line in failures] == ["large.dcm", "a.dcm"]
    assert page.client.put("drops/1/files/1", content=b"x").status_code == 409
    assert page.client.put("drops/2/files/0", content=b"x").status_code == 404
