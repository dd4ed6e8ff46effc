"""An interrupted import goes on where it was, and makes the data set of an unbroken one, byte for byte."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.errors import RequestError
from data_pipeline.files import PREFIX, only_one
from data_pipeline.intake import build, taking
from data_pipeline.intake.build import ImportOptions, ImportOutcome, import_source
from data_pipeline.readers.pseudonyms import KEY_FILE
from data_pipeline.scan import Scan
from tests.foreign import seg, shapes
from tests.user_files import body_scan, lesion_mask, nm_header, picture_source, save_dicom, save_picture

ROOT = Path(__file__).parents[3]


def _source(folder: Path) -> Path:
    """Eleven files of scans: pictures with masks or outlines, DICOM of one and two views, a copy, a damaged one."""
    picture_source(folder)
    save_picture(body_scan(7), folder / "scan1.png")
    (folder / "scan1.json").write_text(json.dumps(shapes("polygon")))
    both = nm_header(np.stack([body_scan(8), body_scan(9)]), patient="two", views=("Anterior", "Posterior"))
    save_dicom(both, folder / "both.dcm")
    segmented = nm_header(body_scan(10), patient="one")
    save_dicom(segmented, folder / "one.dcm")
    save_dicom(segmented, folder / "again" / "copy.dcm")
    seg(folder / "one_seg.dcm", [segmented])
    (folder / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 64)
    return folder


FILES = 11
READABLE = 10


def _import(source: Path, out: Path, **options: Any) -> ImportOutcome:
    return import_source(source, out, ImportOptions(**options), progress=True)


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _hidden(folder: Path) -> list[Path]:
    return list(folder.glob(f"{PREFIX}*"))


class _Counted:
    """`read_scans` that is interrupted when it has read so many files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[str] = []
        self.left = 1 << 30
        self.error: BaseException = KeyboardInterrupt()
        self._read = taking.read_scans
        monkeypatch.setattr(taking, "read_scans", self)

    def __call__(self, path: Path, *arguments: Any) -> list[Scan]:
        if self.left == 0:
            raise self.error
        self.left -= 1
        self.read.append(path.name)
        return self._read(path, *arguments)

    def stop_after(self, files: int, call: Callable[[], Any]) -> None:
        self.left = files
        with pytest.raises(type(self.error)):
            call()
        self.left = 1 << 30


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> _Counted:
    return _Counted(monkeypatch)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("0123456789abcdef")
    return path


def _flat(outcome: ImportOutcome, out: Path) -> Any:
    return outcome.entries, outcome.splits, outcome.problems, outcome.notes, outcome.summary(out)


@pytest.mark.parametrize("way", ["left-out", "no-lesion"])
def test_it_goes_on_after_every_file(
    tmp_path: Path, counted: _Counted, key: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    source, options = _source(tmp_path / "in"), {"key_file": key, "scans_without_mask": way}
    whole = _import(source, tmp_path / "whole", **options)
    assert len(counted.read) == FILES
    assert len(whole.entries) == READABLE and any("bad.dcm" in line for line in whole.problems)
    (tmp_path / "sets").mkdir()
    out, hidden = tmp_path / "sets" / "set", tmp_path / "sets" / f"{PREFIX}import-set"
    counted.read.clear()
    for kept in range(READABLE - 1):
        capsys.readouterr()
        # The damaged file, the second of all, is tried each time.
        counted.stop_after(1 if kept == 0 else 2, lambda: _import(source, out, **options))
        said = capsys.readouterr().err
        assert (f"the import goes on after {kept} scans" in said) == (kept > 0)
        assert f"kept in {hidden}: the same import goes on" in said
        assert hidden.stat().st_mode & 0o077 == 0
        assert len(list(hidden.glob("*.json"))) == kept + 2  # and that of the segmentation
    broken = _import(source, out, **options)
    assert f"the import goes on after {READABLE - 1} scans" in capsys.readouterr().err
    once = [name for name in counted.read if name != "bad.dcm"]
    assert len(set(once)) == len(once) == READABLE
    assert _tree(out) == _tree(tmp_path / "whole")
    assert _flat(broken, out) == _flat(whole, out)
    assert [path.name for path in out.parent.iterdir()] == ["set"]


def test_the_drawn_key_stays(tmp_path: Path, counted: _Counted) -> None:
    source, out = picture_source(tmp_path / "in"), tmp_path / "set"
    counted.stop_after(3, lambda: _import(source, out))
    (hidden,) = _hidden(tmp_path)
    drawn = (hidden / KEY_FILE).read_text()
    _import(source, out)
    assert len(counted.read) == 6
    assert (out / "private" / KEY_FILE).read_text() == drawn
    (tmp_path / "key").write_text(drawn)
    _import(source, tmp_path / "whole", key_file=tmp_path / "key")
    there = _tree(out)
    del there[f"private/{KEY_FILE}"]
    assert there == _tree(tmp_path / "whole")


def test_changed_added_and_removed_files(tmp_path: Path, counted: _Counted, key: Path) -> None:
    """A changed scan and a scan whose mask has changed are read again; others move to other numbers unread."""
    source, out = tmp_path / "in", tmp_path / "set"
    for number in range(6):
        save_dicom(nm_header(body_scan(number), patient="ANON"), source / f"{number}.dcm")
        save_picture(lesion_mask(), source / f"{number}_mask.png")
    counted.stop_after(5, lambda: _import(source, out, key_file=key))
    save_dicom(nm_header(body_scan(77), patient="ANON"), source / "1.dcm")
    save_picture(lesion_mask(value=0), source / "2_mask.png")
    for suffix in (".dcm", "_mask.png"):
        (source / f"0{suffix}").unlink()
    save_dicom(nm_header(body_scan(88), patient="ANON"), source / "00.dcm")
    counted.read.clear()
    _import(source, out, key_file=key)
    assert counted.read == ["00.dcm", "1.dcm", "2.dcm", "5.dcm"]
    _import(source, tmp_path / "whole", key_file=key)
    assert _tree(out) == _tree(tmp_path / "whole")


def test_another_request_reads_anew(tmp_path: Path, counted: _Counted, key: Path) -> None:
    source, out = picture_source(tmp_path / "in"), tmp_path / "set"
    counted.stop_after(4, lambda: _import(source, out, key_file=key))
    counted.read.clear()
    _import(source, out, key_file=key, stated=taking.Stated(pixel_mm=3.0))
    assert len(counted.read) == 6
    _import(source, tmp_path / "whole", key_file=key, stated=taking.Stated(pixel_mm=3.0))
    assert _tree(out) == _tree(tmp_path / "whole")


def test_damaged_records_and_pixels_are_read_again(tmp_path: Path, counted: _Counted, key: Path) -> None:
    source, out = picture_source(tmp_path / "in"), tmp_path / "set"
    counted.stop_after(4, lambda: _import(source, out, key_file=key))
    (hidden,) = _hidden(tmp_path)
    records, pixels = sorted(hidden.glob("*.json")), sorted(hidden.glob("*-0.png"))
    assert len(records) == len(pixels) == 4
    records[0].write_bytes(records[0].read_bytes()[:50])
    records[1].write_bytes(b"[{},{}]")
    next(path for path in pixels if path.name.startswith(records[2].stem)).write_bytes(b"")
    counted.read.clear()
    _import(source, out, key_file=key)
    assert len(counted.read) == 5
    _import(source, tmp_path / "whole", key_file=key)
    assert _tree(out) == _tree(tmp_path / "whole")


def test_a_zip_goes_on(tmp_path: Path, counted: _Counted, key: Path) -> None:
    packed = tmp_path / "in.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in picture_source(tmp_path / "in").iterdir():
            archive.write(path, path.name)
    counted.stop_after(4, lambda: _import(packed, tmp_path / "set", key_file=key))
    _import(packed, tmp_path / "set", key_file=key)
    assert len(counted.read) == 6
    _import(packed, tmp_path / "whole", key_file=key)
    assert _tree(tmp_path / "set") == _tree(tmp_path / "whole")


def test_a_full_disk_keeps_what_a_refused_request_does_not(
    tmp_path: Path, counted: _Counted, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = picture_source(tmp_path / "in"), tmp_path / "deep" / "set"

    def refuse(*arguments: Any, **options: Any) -> None:
        raise RequestError("no")

    with monkeypatch.context() as patch, pytest.raises(RequestError, match="no"):
        patch.setattr(build, "draw_splits", refuse)
        _import(source, out, key_file=key)
    assert not (tmp_path / "deep").exists()
    counted.error = OSError(errno.ENOSPC, "No space left on device")
    counted.left = 2
    with pytest.raises(RequestError, match="no space left on the disk; make room"):
        _import(source, out, key_file=key)
    counted.left = 1 << 30
    with monkeypatch.context() as patch, pytest.raises(RequestError, match="no"):
        patch.setattr(build, "draw_splits", refuse)  # now it is the earlier import's
        _import(source, out, key_file=key)
    counted.read.clear()
    _import(source, out, key_file=key)
    assert counted.read == []
    assert [path.name for path in out.parent.iterdir()] == ["set"]


def test_one_import_at_a_place(tmp_path: Path, counted: _Counted, key: Path) -> None:
    source, out = picture_source(tmp_path / "in"), tmp_path / "set"
    counted.stop_after(2, lambda: _import(source, out, key_file=key))
    (hidden,) = _hidden(tmp_path)
    with only_one(hidden / ".lock"), pytest.raises(RequestError, match=r"process .* is importing to it; wait for it"):
        _import(source, out, key_file=key)
    assert len(list(hidden.glob("*.json"))) == 2


def test_killed_before_the_leftovers_were_removed(tmp_path: Path, counted: _Counted, key: Path) -> None:
    """The next import into the same folder removes them; those of another unfinished one stay."""
    source = picture_source(tmp_path / "in")
    for name in ("one", "two"):
        counted.stop_after(2, lambda name=name: _import(source, tmp_path / "sets" / name, key_file=key))
    left = tmp_path / "sets" / f"{PREFIX}import-one"
    shutil.copytree(left, tmp_path / "left")
    _import(source, tmp_path / "sets" / "one", key_file=key)
    shutil.copytree(tmp_path / "left", left)
    _import(source, tmp_path / "sets" / "three", key_file=key)
    assert sorted(path.name for path in (tmp_path / "sets").iterdir()) == [f"{PREFIX}import-two", "one", "three"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_processes(tmp_path: Path, key: Path, number: signal.Signals) -> None:
    """Two processes one after the other are killed, or told to end, when they have read twelve files more."""
    source, out = picture_source(tmp_path / "in", 40), tmp_path / "set"
    command = [sys.executable, "-m", "msanet_jax", "import", str(source), f"--out={out}", f"--key-file={key}"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    hidden = tmp_path / f"{PREFIX}import-set"
    for kill in (1, 2):
        with start() as process:
            while process.poll() is None and len(list(hidden.glob("*.json"))) < 12 * kill:
                time.sleep(0.002)
            process.send_signal(number)
            said = process.communicate()[1]
        assert not out.exists()
        if number != signal.SIGKILL:
            assert process.returncode == 128 + number
            assert f"kept in {hidden}: the same import goes on" in said
    with start() as process:
        printed, said = process.communicate()
    assert process.returncode == 0, said
    after = int(said.split("the import goes on after ")[1].split()[0])
    assert 24 <= after <= 40
    assert "40 scans in" in printed
    import_source(source, tmp_path / "whole", ImportOptions(key_file=key), progress=False)
    assert _tree(out) == _tree(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "key", "set", "whole"]
