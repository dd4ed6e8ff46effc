"""Files and folders are written whole, the error is one line, and nothing of others' is touched."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data_pipeline.errors import RequestError
from data_pipeline.files import (
    WriteError,
    nan_to_null,
    only_one,
    private_folder,
    whole_files,
    whole_folder,
    writable_folder,
    write_bytes,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe"])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(WriteError, match=r"cannot be written \(a device, pipe or socket is there\); choose another"):
        write_text(pipe if kind == "pipe" else link, "new")
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == before


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    for text in ("first", "second"):  # a link to nothing makes the file
        write_text(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["folder", "target", "link"]


def test_the_error_is_one_line_and_the_systems(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for place, number in ((tmp_path / "none" / "file", errno.ENOENT), (tmp_path / "folder", errno.EISDIR)):
        with pytest.raises(WriteError) as refusal:
            write_bytes(place, b"x")
        assert isinstance(refusal.value, RequestError) and refusal.value.errno == number
        assert str(refusal.value) == f"{place}: cannot be written ({os.strerror(number)}); choose another place"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_rows_of_a_json_file_are_written_as_in_one_piece(tmp_path: Path, count: int) -> None:
    rows = [{"name": "a\n\u2028" * n, "values": [n, float("nan")], "none": {}} for n in range(count)]
    write_json(tmp_path / "a.json", {"first": {"b": 1}, "last": [2]}, rows=("rows", iter(rows)))
    whole = {"first": {"b": 1}, "last": [2], "rows": nan_to_null(rows)}
    if count:
        assert (tmp_path / "a.json").read_text() == json.dumps(whole, indent=2) + "\n"
    assert json.loads((tmp_path / "a.json").read_text()) == whole


def test_names_as_long_as_the_system_allows_and_ordinary_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / ("a" * 255), "x")
    (tmp_path / "ordinary").write_text("x")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1
    with whole_folder(tmp_path / "made") as beside:
        (beside / "file").touch()
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_without_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1], "b": (float("inf"), "ä")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1], "b": [None, "ä"]}
    assert nan_to_null({"a": {"b": float("-inf")}}) == {"a": {"b": None}}


def test_several_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyError), whole_files(tmp_path, ["a", "b"]) as beside:
        (beside / "a").write_text("new")
        raise KeyError
    (tmp_path / "b").mkdir()
    with pytest.raises(WriteError, match="cannot be written"), whole_files(tmp_path, ["a", "b"]) as beside:
        for name in ("a", "b"):
            (beside / name).write_text("new")
    assert (tmp_path / "a").read_text() == "old"
    (tmp_path / "b").rmdir()
    with whole_files(tmp_path, ["a", "b"]) as beside:
        for name in ("a", "b"):
            (beside / name).write_text("new")
        assert (tmp_path / "a").read_text() == "old" and not (tmp_path / "b").exists()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}


def test_an_error_about_another_file_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_files(tmp_path, ["a"]):
        (tmp_path.parent / "elsewhere").read_text()
    with pytest.raises(RequestError, match=r"elsewhere: cannot be read \(No such file"), whole_folder(tmp_path / "a"):
        (tmp_path.parent / "elsewhere").read_text()
    assert not list(tmp_path.iterdir())


def test_a_folder_is_whole_and_others_are_left_alone(tmp_path: Path) -> None:
    others = [tmp_path / f".set.{os.getpid()}.partial", tmp_path / f".file.{os.getpid()}"]
    others[0].mkdir()
    others[1].write_text("mine")
    with whole_folder(tmp_path / "set") as beside:
        (beside / "a").write_text("x")
        assert not (tmp_path / "set").exists()
    write_text(tmp_path / "file", "x")
    assert others[0].is_dir() and others[1].read_text() == "mine"
    with pytest.raises(RequestError, match="exists; choose another folder"), whole_folder(tmp_path / "set"):
        pass
    with pytest.raises(RequestError, match="no space left on the disk"), whole_folder(tmp_path / "deep" / "er"):
        raise OSError(errno.ENOSPC, "full")
    assert {path.name for path in tmp_path.iterdir()} == {"set", "file", *(path.name for path in others)}


def test_writable_folder(tmp_path: Path) -> None:
    assert writable_folder(tmp_path / "a" / "b", "--out").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"--out=.*file: cannot be written \(File exists\); choose another folder"):
        writable_folder(tmp_path / "file", "--out")
    assert not list((tmp_path / "a" / "b").iterdir())


def test_one_at_a_time_in_turn(tmp_path: Path) -> None:
    """Twelve threads add to a number that every one reads, waits and writes; none is lost, and no file stays."""
    total, lock = [0], tmp_path / "lock"

    def add() -> None:
        with only_one(lock, waiting=lambda holder: None):
            seen = total[0]
            time.sleep(0.002)
            total[0] = seen + 1

    threads = [threading.Thread(target=add) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert total == [12]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_removed_file_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder before removes its file just when the next one has locked it."""
    lock, flock, removed = tmp_path / "lock", fcntl.flock, []

    def late(file: object, operation: int) -> None:
        flock(file, operation)
        if not removed:
            removed.append(lock.unlink())

    monkeypatch.setattr(fcntl, "flock", late)
    with only_one(lock):
        assert removed
        assert lock.read_text().startswith(f"process {os.getpid()} on ")


def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with only_one(tmp_path / "lock"):
        assert "has no locks (No locks available); start one process at a time" in caplog.text


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, pathlib\nfrom data_pipeline.files import private_folder\n"
        "with private_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'scan.dcm').touch()\n    print(folder.name, flush=True)\n"
        "    sys.stdin.read()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        left = tmp_path / other.stdout.readline().strip()
        with private_folder(tmp_path):
            assert (left / "scan.dcm").exists()  # its process lives
        other.communicate()
    assert (left / "scan.dcm").exists()
    assert f"-{other.pid}-" in left.name and stat.S_IMODE(left.stat().st_mode) == 0o700
    with private_folder(tmp_path) as own:
        assert [path.name for path in tmp_path.iterdir()] == [own.name]
    assert list(tmp_path.iterdir()) == []


def test_only_abandoned_folders_of_ones_own_are_removed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for name in (".msanet-999999999-abc", ".msanet-x-abc", f".msanet-{os.getpid()}-abc", ".msanet-999999998-abc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / ".msanet-999999999-abc" / ".lock").touch()
    (tmp_path / f".msanet-{os.getpid()}-abc" / ".lock").touch()
    (tmp_path / ".msanet-999999997-abc").symlink_to(tmp_path / "kept")
    (tmp_path / "kept" / ".lock").touch()
    with private_folder(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {
        "kept",
        ".msanet-x-abc",
        f".msanet-{os.getpid()}-abc",
        ".msanet-999999998-abc",  # no lock: nobody knows whose it is
        ".msanet-999999997-abc",
    }
    assert (tmp_path / "kept" / ".lock").exists()
