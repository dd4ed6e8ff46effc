"""The house rules that can be checked: data flows one way through the rooms, files and functions stay readable."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from msanet_jax.cli import COMMANDS

ROOT = Path(__file__).parents[1]
FOLDERS = ("msanet_jax", "data_pipeline", "configs", "experiments", "benchmarks")
SOURCES = [*sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")), ROOT / "main.py"]

# From bottom to top: a room imports only from rows below its own; rooms of one row do not know each other.
ROOMS = (
    ("data_pipeline",),
    ("runtime", "networks", "evaluation"),
    ("runs",),
    ("report",),
    ("training", "experiment"),
    ("trained",),
    ("prediction",),
    ("web",),
    ("commands", "api"),
    ("__init__", "cli"),
    ("__main__",),
)
RANK = {room: rank for rank, row in enumerate(ROOMS) for room in row}
MODULES_PER_FOLDER_MAX = 20
LINES_PER_FILE_MAX = 350
LINES_PER_FUNCTION_MAX = 60


def _name(path: Path) -> str:
    """Dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def _imports(path: Path) -> frozenset[str]:
    """Full names of everything imported, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def _room(name: str) -> str | None:
    """The room of a module or of a name in it; None for other packages."""
    parts = name.split(".")
    if parts[0] == "data_pipeline":
        return "data_pipeline"
    if parts[0] != "msanet_jax":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in RANK else "__init__"


def test_data_flows_one_way_through_the_rooms() -> None:
    for path in (path for folder in FOLDERS[:2] for path in (ROOT / folder).rglob("*.py")):
        own = _room(_name(path)) if path.parent != ROOT / "msanet_jax" else path.stem
        assert own is not None
        rooms = {room for name in _imports(path) if (room := _room(name)) not in (None, own)}
        upward = {room for room in rooms if RANK[room] >= RANK[own]}
        assert not upward, f"{_name(path)} imports from {upward}"


def test_no_import_cycles() -> None:
    """Modules are peeled off from the bottom; what is left imports itself in a circle."""
    modules = {_name(path): path for path in SOURCES if path.stem != "__init__"}
    waiting = {
        name: {
            other
            for other in modules
            if other != name and any(f"{full}.".startswith(f"{other}.") for full in _imports(path))
        }
        for name, path in modules.items()
    }
    while done := {name for name, needs in waiting.items() if not needs & waiting.keys()}:
        waiting = {name: needs for name, needs in waiting.items() if name not in done}
    assert not waiting, sorted(waiting)


def test_peers_build_on_networks_alone() -> None:
    """A peer is one file: it builds on layers, discriminator parts and the other peers."""
    for path in (ROOT / "msanet_jax" / "networks" / "peers").glob("*.py"):
        own = {name for name in _imports(path) if name.startswith(("msanet_jax.", "data_pipeline."))}
        allowed = ("msanet_jax.networks.", "data_pipeline.errors.")
        assert all(name.startswith(allowed) for name in own), (path, own)


def test_commands_load_quickly() -> None:
    commands = {path.stem: path for path in (ROOT / "msanet_jax" / "commands").glob("*.py")}
    assert {name.rstrip("_") for name in commands if name != "__init__"} == set(COMMANDS)
    for name, path in commands.items():
        at_load = {
            alias.name if isinstance(node, ast.Import) else node.module
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        heavy = {module for module in at_load if module.split(".")[0] in {"jax", "tensorflow", "numpy", "msanet_jax"}}
        assert not heavy, f"{name} imports {heavy} before it runs"


def test_the_simulator_stands_alone() -> None:
    """NumPy and JAX only; its validation compares with a file, may read one, and writes a page."""
    phantom = ROOT / "data_pipeline" / "phantom"
    for path in phantom.rglob("*.py"):
        allowed = {"phantom", "scan", "errors", "files", "processes", "terminal"}
        allowed |= {"readers", "pages", "thorax", "windows"} if "validation" in path.parts else set()
        inside = {name.split(".")[1] for name in _imports(path) if name.startswith("data_pipeline.")}
        assert inside <= allowed, path
        foreign = ("tensorflow", "flax", "optax", "ml_collections", "msanet_jax")
        assert not {name for name in _imports(path) if name.startswith(foreign)}, path


def test_pmap_lives_in_one_file() -> None:
    users = [path.name for path in SOURCES if "jax.pmap" in path.read_text(encoding="utf-8")]
    assert users == ["devices.py"]


@pytest.mark.parametrize(
    ("library", "users"),
    [
        ("clu", {"board.py"}),
        ("tensorflow_datasets", {"datasets.py", "features.py", "phantom_bone.py", "imported.py"}),
    ],
)
def test_libraries_that_may_have_to_be_replaced_stay_in_few_files(library: str, users: set[str]) -> None:
    assert {
        path.name for path in SOURCES if any(f"{name}.".startswith(f"{library}.") for name in _imports(path))
    } == users


def test_folders_stay_small() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    names = tracked.split() or [str(path.relative_to(ROOT)) for path in SOURCES]
    folders = Counter(str(Path(name).parent) for name in names if not name.startswith("tests/"))
    assert {folder: count for folder, count in folders.items() if count > MODULES_PER_FOLDER_MAX} == {}


def test_one_stem_one_meaning() -> None:
    """Two modules do not share a name, except a command and what it calls."""
    stems = Counter(path.stem for path in (ROOT / "msanet_jax").rglob("*.py") if path.stem != "__init__")
    assert {stem for stem, count in stems.items() if count > 1} <= set(COMMANDS)


def test_tests_mirror_the_rooms_and_do_not_import_each_other() -> None:
    rooms = {path.name for path in (ROOT / "msanet_jax").iterdir() if path.is_dir()} | {"data_pipeline", "benchmarks"}
    tests = ROOT / "tests"
    for path in tests.rglob("test_*.py"):
        folder = path.relative_to(tests).parts[0]
        assert path.parent == tests or folder in rooms, path
        others = {name for name in _imports(path) if any(part.startswith("test_") for part in name.split(".")[:-1])}
        assert not others, f"{path.name} imports {others}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES_PER_FILE_MAX
    assert path.name != "utils.py"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
            assert lines <= LINES_PER_FUNCTION_MAX, f"{node.name} has {lines} lines"
