"""The public interface: its examples run, its names stay callable, importing it is quick."""

from __future__ import annotations

import doctest
import importlib.metadata
import inspect
import pydoc
import runpy
import subprocess
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

import data_pipeline
import msanet_jax
from data_pipeline.errors import RequestError
from data_pipeline.phantom.simulate import SimulatedPatient
from data_pipeline.scan import Scan, View
from msanet_jax import api
from msanet_jax.evaluation.results import Evaluation
from msanet_jax.prediction.segmentation import Segmentation
from msanet_jax.runs.metrics_file import Metrics
from msanet_jax.trained.model import Model

ROOT = Path(__file__).parents[2]
PUBLIC = ("evaluate", "load", "predict", "simulate", "train")


def test_the_page_runs() -> None:
    failed, attempted = doctest.testfile(str(ROOT / "docs" / "api.md"), module_relative=False)
    assert (failed, attempted) == (0, 11)


def test_the_functions_are_seen_and_stay_callable() -> None:
    import msanet_jax.evaluation.evaluate
    import msanet_jax.prediction.predict
    import msanet_jax.training.loop

    assert {*PUBLIC, "__version__"} == set(msanet_jax.__all__) <= set(dir(msanet_jax))
    assert all(inspect.isfunction(getattr(msanet_jax, name)) for name in PUBLIC)
    assert msanet_jax.__version__ == importlib.metadata.version("msanet-jax")
    assert "probability above which a pixel is lesion" in pydoc.render_doc(msanet_jax.predict)
    for package in (msanet_jax, data_pipeline):
        assert Path(package.__file__).with_name("py.typed").is_file()
    model = Model(lambda fields: np.zeros_like(fields), "thorax", 256, 0.5, 1, {})
    (result,) = msanet_jax.predict(np.random.default_rng(0).poisson(9, (256, 256)), model)
    assert result.record.lesion_count == 0
    assert msanet_jax.prediction.predict.predict_files
    with pytest.raises(RequestError, match="no such recipe"):
        msanet_jax.train("none.py", "runs/none")
    with pytest.raises(RequestError, match="unknown variant nothing"):
        msanet_jax.train("configs/msanet.py:smoke,nothing", "runs/none")
    with pytest.raises(AttributeError, match="no attribute 'predicted'"):
        _ = msanet_jax.predicted


def test_annotations_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a type checker reads: every name in the signatures is imported for it, and means what it should."""
    monkeypatch.setattr(typing, "TYPE_CHECKING", True)
    names = runpy.run_path(api.__file__)
    hints = {name: typing.get_type_hints(getattr(msanet_jax, name), names) for name in PUBLIC}
    assert [hints[name]["return"] for name in PUBLIC] == [
        Evaluation,
        Model,
        list[Segmentation],
        SimulatedPatient,
        Metrics | None,
    ]
    one = str | Path | Scan | np.ndarray
    assert hints["predict"]["scans"] == one | Sequence[one]
    assert hints["train"]["config"] == ConfigDict | str | Path
    assert hints["simulate"]["views"] == Sequence[View | str]
    for name in PUBLIC:
        assert set(hints[name]) == {*inspect.signature(getattr(msanet_jax, name)).parameters, "return"}


def test_import_loads_nothing_heavy_and_shows_the_interface() -> None:
    program = (
        "import sys, msanet_jax\nprint({'jax', 'numpy', 'tensorflow', 'flax', 'pydicom'} & set(sys.modules))\n"
        "print(sorted(name for name in dir(msanet_jax) if not name.startswith('_')))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == f"set()\n{sorted([*PUBLIC, 'api', 'runtime'])}\n"


def test_scans_and_arrays_become_results_in_order() -> None:
    model = Model(lambda fields: np.where(fields > 50, 0.9, 0.1), "thorax", 256, 0.5, 2, {})
    cold = np.minimum(np.random.default_rng(0).poisson(20, (256, 256)), 50).astype(np.int32)
    hot = cold.copy()
    hot[10, 10] = 99
    scans = [hot, Scan(cold, (2.0, 2.0), View.POSTERIOR, "p", "s"), hot.astype(float)]
    results = msanet_jax.predict(scans, model)
    assert [result.record.lesion_count for result in results] == [1, 0, 1]
    assert [result.record.view for result in results] == ["unknown", "posterior", "unknown"]
    assert msanet_jax.predict(scans, model, threshold=0.95)[0].mask.sum() == 0
    with pytest.raises(RequestError, match="a scan has rows and columns"):
        msanet_jax.predict(np.zeros((2, 3, 4)), model)
