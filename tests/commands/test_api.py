"""The public interface: its examples run, its names stay callable, importing it is quick."""

from __future__ import annotations

import doctest
import importlib.metadata
import inspect
import pydoc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import data_pipeline
import msanet_jax
from data_pipeline.errors import RequestError
from data_pipeline.scan import Scan, View
from msanet_jax.trained.model import Model

ROOT = Path(__file__).parents[2]


def test_the_page_runs() -> None:
    failed, attempted = doctest.testfile(str(ROOT / "docs" / "api.md"), module_relative=False)
    assert (failed, attempted) == (0, 11)


def test_the_functions_are_seen_and_stay_callable() -> None:
    import msanet_jax.evaluation.evaluate
    import msanet_jax.prediction.predict
    import msanet_jax.training.loop

    assert {"evaluate", "load", "predict", "simulate", "train", "__version__"} <= set(dir(msanet_jax))
    assert all(inspect.isfunction(getattr(msanet_jax, name)) for name in ("evaluate", "load", "predict", "train"))
    assert msanet_jax.__version__ == importlib.metadata.version("msanet-jax")
    assert "probability above which a pixel is lesion" in pydoc.render_doc(msanet_jax.predict)
    for package in (msanet_jax, data_pipeline):
        assert Path(package.__file__).with_name("py.typed").is_file()
    model = Model(lambda fields: np.zeros_like(fields), "thorax", 256, 0.5, 1, {})
    (result,) = msanet_jax.predict(np.random.default_rng(0).poisson(9, (256, 256)), model)
    assert result.record["lesion_count"] == 0
    assert msanet_jax.prediction.predict.predict_files
    with pytest.raises(RequestError, match="no such recipe"):
        msanet_jax.train("none.py", "runs/none")
    with pytest.raises(RequestError, match="unknown variant nothing"):
        msanet_jax.train("configs/msanet.py:smoke,nothing", "runs/none")
    with pytest.raises(AttributeError, match="no attribute 'predicted'"):
        _ = msanet_jax.predicted


def test_import_loads_nothing_heavy() -> None:
    program = "import sys, msanet_jax\nprint({'jax', 'numpy', 'tensorflow', 'flax', 'pydicom'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_scans_and_arrays_become_results_in_order() -> None:
    model = Model(lambda fields: np.where(fields > 50, 0.9, 0.1), "thorax", 256, 0.5, 2, {})
    cold = np.minimum(np.random.default_rng(0).poisson(20, (256, 256)), 50).astype(np.int32)
    hot = cold.copy()
    hot[10, 10] = 99
    scans = [hot, Scan(cold, (2.0, 2.0), View.POSTERIOR, "p", "s"), hot.astype(float)]
    results = msanet_jax.predict(scans, model)
    assert [result.record["lesion_count"] for result in results] == [1, 0, 1]
    assert [result.record["view"] for result in results] == ["unknown", "posterior", "unknown"]
    assert msanet_jax.predict(scans, model, threshold=0.95)[0].mask.sum() == 0
    with pytest.raises(RequestError, match="a scan has rows and columns"):
        msanet_jax.predict(np.zeros((2, 3, 4)), model)
