"""The notebooks of colab/, run cell by cell at the smallest size, and their form."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "colab").glob("*.ipynb"))
# Networks that compile in seconds: training itself is tested elsewhere, here that the cells fit together.
RECIPE = "configs/msanet.py:smoke,unet"
TINY = (
    "--config.data.image_size_px=32 --config.generator.depth=2 "
    "--config.train.batch_size=2 --config.evaluate.batch_size=2 --config.evaluate.bootstrap_samples=10 "
)
# Two steps each, on 8 and on 4 training images: the same program, compiled once.
TINY_PHANTOM = TINY + "--config.train.total_epochs=0.5"
TINY_OWN = TINY + "--config.train.total_epochs=1"


def _read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def _with_exit_codes_checked(source: str) -> str:
    """A failing shell command does not stop a notebook; here it does, by an assertion after each."""
    return re.sub(r"^( *)(!.*)$", r"\1\2\n\1assert _exit_code == 0, _exit_code", source, flags=re.MULTILINE)


def _execute(
    name: str, parameters: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch, work: Path
) -> tuple[str, int, list[str]]:
    """Runs a notebook in the checkout with `parameters` set after its own.

    Returns:
      Its text, the number of its pictures, and the addresses of pages in it.
    """
    notebook = _read(ROOT / "colab" / f"{name}.ipynb")
    (at,) = (n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    assert parameters.keys() <= _assigned(notebook.cells[at].source), "only what the parameter cell has may be set"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = _with_exit_codes_checked(cell.source)
    injected = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(injected))
    # The checkout's code and this interpreter's commands, whatever else is installed.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("IPYTHONDIR", str(work / "ipython"))
    resources = {"metadata": {"path": str(ROOT / "colab")}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    shown = [output.get("data", {}) for output in outputs]
    pages = re.findall(r'src="(http[^"]+)"', "".join(data.get("text/html", "") for data in shown))
    return text, sum("image/png" in data for data in shown), pages


def _assigned(source: str) -> set[str]:
    return {
        target.id
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


# nbclient leaves sockets of its kernel channels to the garbage collector.
pytestmark = pytest.mark.filterwarnings("default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning")


def test_quickstart(cache: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    sizes = {"RECIPE": RECIPE, "OVERRIDES": TINY_PHANTOM, "RUN": str(run), "DATA_DIR": str(data_dir)}
    text, pictures, _ = _execute("quickstart", sizes, cache, monkeypatch, tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    assert f"pooled DSC {metrics['test']['dsc_pooled']:.2f} (95 % interval" in text
    assert f"threshold on uptake: {metrics['threshold_baseline']['dsc_pooled']:.2f}" in text
    assert metrics["note"] in text
    assert pictures == 2


def test_your_own_scans(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"RECIPE": RECIPE, "OVERRIDES": TINY_OWN, "WORK": str(tmp_path / "own"), "PATIENTS": 4}
    text, pictures, pages = _execute("your_own_scans", sizes, cache, monkeypatch, tmp_path)
    assert "2 scan(s) segmented" in text
    assert pictures == 2
    assert len(pages) == 1 and pages[0].startswith("http://127.0.0.1:")
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "own" / "results").glob("*anterior*.json"))
    assert record["view"] == "anterior"
    metrics = json.loads((tmp_path / "own" / "run" / "metrics.json").read_text())
    assert metrics["test"]["images"] == len(metrics["images"]) > 0


def test_multi_device(cache: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    sizes = {"DEVICES": 2, "RECIPE": RECIPE, "OVERRIDES": TINY_PHANTOM, "RUN": str(run), "DATA_DIR": str(data_dir)}
    text, _, _ = _execute("multi_device", sizes, cache, monkeypatch, tmp_path)
    assert "2 cpu device(s)" in text
    on_two, on_one = (
        json.loads(path.read_text())["test"]
        for path in (run / "metrics.json", run / "evaluation_test" / "metrics.json")
    )
    for key in ("dsc_pooled", "brier", "average_precision"):
        assert on_one[key] == pytest.approx(on_two[key], abs=1e-4)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_form(path: Path) -> None:
    """Valid, stripped, with the badge and the clone at the address that setup.py states."""
    notebook = _read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    found = re.search(r'url="(https://github\.com/([^"]+))"', (ROOT / "setup.py").read_text())
    assert found
    opens = f"https://colab.research.google.com/github/{found[2]}/blob/main/colab/{path.name}"
    assert f"]({opens})" in notebook.cells[0].source
    assert {*re.findall(r"https://github\.com/[\w./-]+", path.read_text())} == {found[1]}
    assert "not for diagnosis" in notebook.cells[0].source


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for cell in _read(path).cells:
        for target in re.findall(r"\]\(([^)#]+)", cell.source if cell.cell_type == "markdown" else ""):
            assert target.startswith("https://") or (path.parent / target).exists(), target
