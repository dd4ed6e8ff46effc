"""The house rules that can be checked: imports flow one way, files and functions stay readable."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from msanet_jax.cli import COMMANDS

ROOT = Path(__file__).parents[1]
FOLDERS = ("msanet_jax", "data_pipeline", "configs", "experiments")
SOURCES = [*sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")), ROOT / "main.py"]

# A module imports only from rows above its own; modules of one row do not know each other.
LAYERS = [
    {
        "convolution",
        "normalization",
        "intervals",
        "metrics",
        "run_folder",
        "hosts",
        "huge_pages",
        "over_cores",
        "compile_cache",
        "model",
        "model_card",
        "recipe_check",
    },
    {"layers"},
    {
        "losses",
        "discriminator",
        "lesion_metrics",
        "surface_metrics",
        "froc",
        "probability_metrics",
        "history",
        "case_file",
    },
    {"image_statistics", "lesion_bins", "figures"},
    {"scores", "comparison", "experiment"},
    {"generator", "optimizers"},
    {"models"},
    {"state"},
    {"adversaries"},
    {"steps"},
    {"devices"},
    {"checkpoints", "telemetry", "exported"},
    {"evaluate", "ensemble"},
    {"metrics_file", "report", "score_plots", "lesion_list", "lesion_matching", "overlay", "export", "baselines"},
    {"scan_choice", "segmentation", "follow_up", "comparison_table", "experiment_runs"},
    {"report_data", "experiment_markdown"},
    {"report_plots", "report_gallery"},
    {"report_page"},
    {"dicom_seg", "nifti", "patient_record", "patient_sheet", "preview", "run_manifest"},
    {"prediction_files"},
    {"scan_sources", "run_summary"},
    {"train", "predict", "doctor", "scoring", "experiment_table"},
    {"job", "cli"},
    {"api"},
    {"__main__", "__init__"},
]
PEERS_MAY_IMPORT = {"layers", "discriminator", "peers"}
MAY_READ_DATA = {
    "train",
    "evaluate",
    "baselines",
    "scores",
    "scoring",
    "report",
    "job",
    # From a scan to its results.
    "model",
    "exported",
    "export",
    "predict",
    "scan_choice",
    "scan_sources",
    "segmentation",
    "overlay",
    "lesion_list",
    "lesion_matching",
    "prediction_files",
    "dicom_seg",
    "nifti",
    "patient_record",
    "api",
}


def _imports(path: Path) -> set[str]:
    """Full names of everything imported, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _inside(package: str, names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith(f"{package}.")}


def test_msanet_jax_imports_flow_one_way() -> None:
    rank = {name: number for number, row in enumerate(LAYERS) for name in row}
    modules = {path.stem: path for path in (ROOT / "msanet_jax").glob("*.py")}
    assert set(modules) == set(rank), "every module has its row in LAYERS"
    rank["peers"] = rank["generator"]
    for name, path in modules.items():
        upward = [other for other in _inside("msanet_jax", _imports(path)) if rank[other] >= rank[name]]
        assert not upward, f"{name} imports {upward}"


def test_peers_stand_on_the_layers() -> None:
    """A peer is one file: it builds on layers, discriminator parts and at most the U-Net beside it."""
    for path in (ROOT / "msanet_jax" / "peers").glob("*.py"):
        names = _imports(path)
        assert _inside("msanet_jax", names) <= PEERS_MAY_IMPORT, path
        assert {name.split(".")[2] for name in names if name.startswith("msanet_jax.networks.peers.")} <= {"unet"}, path
        assert _inside("data_pipeline", names) <= {"errors"}, path


def test_commands_stand_on_top_and_load_quickly() -> None:
    commands = {path.stem: path for path in (ROOT / "msanet_jax" / "commands").glob("*.py")}
    assert {name.rstrip("_") for name in commands if name != "__init__"} == set(COMMANDS)
    for name, path in commands.items():
        at_load = {
            alias.name if isinstance(node, ast.Import) else node.module
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        heavy = {module for module in at_load if module.split(".")[0] in {"jax", "tensorflow", "numpy", "msanet_jax"}}
        assert not heavy, f"{name} imports {heavy} before it runs"


def test_data_pipeline_knows_no_networks() -> None:
    for path in (ROOT / "data_pipeline").rglob("*.py"):
        assert not _inside("msanet_jax", _imports(path)), path
    for path in (ROOT / "msanet_jax").glob("*.py"):
        if path.stem not in MAY_READ_DATA:
            assert not _inside("data_pipeline", _imports(path)) - {"errors"}, path


def test_the_simulator_stands_alone() -> None:
    # These two compare with a file, so they alone read one; variety looks at the field that a network sees.
    more = {"validate": {"readers"}, "variety": {"readers", "thorax"}}
    for path in (ROOT / "data_pipeline" / "phantom").rglob("*.py"):
        names = _imports(path)
        allowed = {"phantom", "scan", "errors"} | more.get(path.stem, set())
        assert _inside("data_pipeline", names) <= allowed, path
        assert not {name for name in names if name.startswith(("tensorflow", "flax", "optax", "ml_collections"))}, path


def test_report_knows_no_network() -> None:
    forbidden = {"generator", "discriminator", "state", "steps", "devices", "checkpoints", "train"}
    assert not _inside("msanet_jax", _imports(ROOT / "msanet_jax" / "report.py")) & forbidden


def test_pmap_lives_in_one_file() -> None:
    users = [path.name for path in SOURCES if "jax.pmap" in path.read_text()]
    assert users == ["devices.py"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    assert path.name != "utils.py"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
            assert lines <= 70, f"{node.name} has {lines} lines"
