"""Queue, cancel, forgetting, and the private folder."""

from __future__ import annotations

import dataclasses
import gc
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.errors import ExitCode
from msanet_jax import cli
from msanet_jax.web.visit_folder import visit_folder
from tests.user_files import body_scan, nm_header, save_dicom


def _npy(seed: int) -> bytes:
    content = io.BytesIO()
    np.save(content, body_scan(seed))
    return content.getvalue()


def test_drops_wait_for_each_other_and_can_be_cancelled(page: Any, models: Any) -> None:
    """The first stops after the scan in work, the second never starts, the third follows."""
    model, entered, go_on = models.loaded, threading.Event(), threading.Event()

    def slow(fields: np.ndarray) -> np.ndarray:
        entered.set()
        assert go_on.wait(30)
        return np.asarray(model.probability(fields))

    models.loaded = dataclasses.replace(model, probability=slow)
    for number in (1, 2, 3):
        made = page.announce({f"{k}.npy": len(_npy(k)) for k in range(3)})
        for k in made["files"]:
            page.client.put(f"drops/{number}/files/{k}", content=_npy(k))
        page.client.post(f"drops/{number}/start")
    assert entered.wait(30)
    running = page.state(1)
    assert (running["state"], running["found"], running["done"]) == ("running", 3, 0)
    assert running["seconds_left"] is None  # nobody can tell yet
    assert [page.state(number)["state"] for number in (2, 3)] == ["waiting", "waiting"]
    page.client.delete("drops/2")
    page.client.delete("drops/1")
    go_on.set()
    assert page.wait(3)["scans"] == 3
    assert [page.state(number)["state"] for number in (1, 2, 3)] == ["cancelled", "cancelled", "done"]
    assert [page.state(number)["scans"] for number in (1, 2)] == [0, 0]
    assert not [path for path in page.desk.visit.folder.iterdir() if path.name.startswith("drop")]


def test_a_cancelled_upload_takes_no_more(page: Any) -> None:
    page.announce({"a.npy": 5})
    page.client.delete("drops/1")
    assert page.state(1)["state"] == "cancelled"
    assert page.client.put("drops/1/files/0", content=b"12345").status_code == 409
    page.client.post("drops/1/start")
    assert page.state(1)["state"] == "cancelled"


def test_bad_files_are_lines_and_the_rest_is_done(page: Any) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("inside/good.npy", _npy(1))
        packed.writestr("inside/bad.dcm", b"no scan")
        packed.writestr("../../out.npy", _npy(2))
    files = {"a/good.npy": _npy(0), "a/bad.npy": b"\x93NUMPY", "study.zip": archive.getvalue(), "a/.DS_Store": b"x"}
    state = page.drop({**files, "a/notes.txt": b"words"})
    assert (state["state"], state["scans"], state["left_out"]) == ("done", 2, 2)
    assert state["name"] == "a and 1 more"
    names = sorted(line.partition(": ")[0] for line in state["failures"])
    assert names == ["a/bad.npy", "study.zip", "study.zip/inside/bad.dcm"]
    assert str(page.desk.visit.folder) not in str(state["failures"])


def test_a_lone_file_that_is_no_scan(page: Any) -> None:
    state = page.drop({"report.pdf": b"%PDF-1.4 nothing"})
    assert state["scans"] == 0
    (line,) = state["failures"]
    assert line.startswith("report.pdf: ")


def test_forgetting(page: Any) -> None:
    page.drop({"a.npy": _npy(0)})
    assert page.client.get("rows").text.count("<tr>") == 1
    page.client.delete("scans")
    assert "<tr>" not in page.client.get("rows").text
    assert not [path for path in page.desk.visit.folder.rglob("*") if path.is_file()]
    assert page.client.get("state").json()["drops"] == [], "names of files are forgotten, too"
    page.drop({"a.npy": _npy(1)})
    assert "scans/a/picture" in page.client.get("rows").text
    page.desk._forget_after_s = 0.0
    page.desk._look_after()
    assert page.desk.visit.patients() == {}


def test_many_scans_stay_on_the_disk(page: Any) -> None:
    """What a scan leaves in memory holds no pixels."""
    page.drop({f"p{k}/a.npy": _npy(k) for k in range(3)})
    kept = [scan for scans in page.desk.visit.patients().values() for scan in scans]
    assert len(kept) == 3
    for scan in kept:
        assert not any(isinstance(value, np.ndarray) for value in (*vars(scan).values(), *scan.facts.values()))


def test_a_scan_leaves_a_small_part_of_its_file_in_memory(page: Any, tmp_path: Path) -> None:
    files = {}
    for k in range(12):
        header = nm_header(body_scan(k))
        header.PatientID = f"p{k}"
        files[f"{k}.dcm"] = save_dicom(header, tmp_path / f"{k}.dcm").read_bytes()
    page.drop({"0.dcm": files.pop("0.dcm")})
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for name, content in files.items():
        page.drop({name: content})
    gc.collect()
    left = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert left < 0.3 * sum(map(len, files.values())), left / len(files)


def test_the_folder_goes_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom msanet_jax.web.visit_folder import visit_folder\n"
        "with visit_folder() as folder:\n"
        "    (folder / 'scan').write_text('x')\n    print(folder, flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    folder = Path(done.stdout.strip())
    assert folder.parent == tmp_path
    for _ in range(1000):
        if not folder.exists():
            break
        time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []


def test_the_next_visit_removes_what_a_power_cut_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    left = tmp_path / f"msanet-serve-{gone.pid}-abc"
    left.mkdir()
    for name in (".lock", "scan"):
        (left / name).touch()
    with visit_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_the_folder_is_private() -> None:
    with visit_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_the_command_ends_clean(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "msanet_jax", "serve", "--no-browser"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:") and len(address.rstrip("/").rpartition("/")[2]) == 32
        assert len(list(tmp_path.iterdir())) == 1
        process.stdout.readline()
        for path, method, body in (
            ("drops", "POST", b'{"files": [["a.npy", 5]]}'),
            ("drops/1/files/0", "PUT", b"12345"),
        ):
            headers = {"Content-Type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(address + path, body, headers, method=method)):
                pass
        assert [path.name for path in tmp_path.rglob("*.npy")] == ["a.npy"]
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", str(tmp_path / "none.msanet")]) == ExitCode.REFUSED
    assert cli.main(["serve", str(tmp_path)]) == ExitCode.REFUSED
    assert cli.main(["serve", "--port=70000"]) == ExitCode.REFUSED
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve"]) == ExitCode.REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "no such file" in lines[0] and "config.json" in lines[1] and "--port" in lines[2] and "[web]" in lines[3]
