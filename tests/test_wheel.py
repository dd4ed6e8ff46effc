"""The wheel holds the two packages with their data and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy of what packaging reads, so that neither build/ nor egg-info of the checkout takes part."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for entry in ROOT.iterdir():
        if entry.name not in (".git", "build", "dist") and entry.suffix != ".egg-info":
            (source / entry.name).symlink_to(entry)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", f"--outdir={out}", str(source)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_file_list(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {
        str(path.relative_to(ROOT))
        for folder in ("msanet_jax", "data_pipeline")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names == wanted
    assert "data_pipeline/phantom/skeleton.npz" in names
    assert {name.split("/")[0] for name in names} == {"msanet_jax", "data_pipeline"}


def test_command_and_licence(wheel: zipfile.ZipFile) -> None:
    (points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert wheel.read(points).decode().split() == ["[console_scripts]", "msanet", "=", "msanet_jax.cli:main"]
    licences = {Path(name).name for name in wheel.namelist() if "/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


def test_runs_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """What the wheel holds is enough: modules, data and templates, found from another folder."""
    site, work = tmp_path / "site", tmp_path / "work"
    wheel.extractall(site)
    work.mkdir()
    environment = os.environ | {"PYTHONPATH": str(site), "JAX_PLATFORMS": "cpu"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=work, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    where = run("-c", "import data_pipeline, msanet_jax; print(data_pipeline.__file__); print(msanet_jax.__file__)")
    assert all(Path(line).is_relative_to(site) for line in where.splitlines())
    run("-m", "data_pipeline.phantom", "--patients=1", "--seed=0", f"--out={work / 'scans'}")
    assert (work / "scans" / "patient_0000" / "anterior.dcm").is_file()
    assert "device 0: cpu" in run("-m", "msanet_jax", "doctor")
