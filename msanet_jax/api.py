"""The public Python interface: `msanet_jax.load`, `predict`, `train`, `evaluate`, `simulate`.

Research software, not for diagnosis. Scores on simulated scans are not comparable with scores on clinical scans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from ml_collections import ConfigDict

    from data_pipeline.phantom.simulate import SimulatedPatient
    from data_pipeline.scan import Scan, View
    from msanet_jax.evaluation.results import Evaluation
    from msanet_jax.prediction.segmentation import Segmentation
    from msanet_jax.prediction.sources import NamedScan
    from msanet_jax.runs.metrics_file import Metrics
    from msanet_jax.trained.model import Model


def load(source: str | Path | Sequence[str | Path] | None = None, *, flips: bool = False) -> Model:
    """Loads a model for `predict`.

    Args:
      source: a run's folder, several of them (their mean), a file made by `msanet export`, or None for the model that
        this installation came with.
      flips: averages over the scan and its mirror image (flip test-time augmentation).

    Returns:
      The model; `model.probability` maps counts `[n, 256, 256]` of thorax fields to probabilities of the same shape.

    Raises:
      RequestError: the source cannot be loaded; one line says why.

    Example:
      >>> import msanet_jax
      >>> msanet_jax.load("no/such/run")
      Traceback (most recent call last):
      data_pipeline.errors.RequestError: no/such/run: no such file or folder
    """
    from msanet_jax.prediction.predict import load_model

    if source is None:
        return load_model(flips=flips)
    if not isinstance(source, str | Path):
        return load_model([Path(run) for run in source], flips=flips)
    path = Path(source)
    if not path.exists():
        raise RequestError(f"{path}: no such file or folder")
    return load_model([path], flips=flips) if path.is_dir() else load_model(model=path, flips=flips)


def predict(
    scans: str | Path | Scan | np.ndarray | Sequence[str | Path | Scan | np.ndarray],
    model: Model | None = None,
    *,
    threshold: float | None = None,
) -> list[Segmentation]:
    """Segments scans in memory; `msanet predict` and `msanet_jax.prediction.predict.predict_files` write files.

    Args:
      scans: files, `Scan`s, or count arrays `[rows, columns]` (of unknown view and pixel size); one or a sequence.
      model: of `load`; None for the model that this installation came with.
      threshold: probability above which a pixel is lesion, in (0, 1); None for the model's.

    Returns:
      One result per view, in order: `mask`, `probability`, `lesions` and `record`, on the whole scan.

    Raises:
      RequestError: a file or array is not a scan, or the model cannot be loaded.

    Example:
      >>> import msanet_jax, numpy as np
      >>> from msanet_jax.trained.model import Model
      >>> hot = Model(lambda counts: (counts > 100).astype(np.float32), "thorax", 256, 0.5, 8, {})
      >>> counts = np.random.default_rng(0).poisson(20, (256, 256))
      >>> counts[100:104, 60:65] = 200
      >>> (result,) = msanet_jax.predict(counts, hot)
      >>> int(result.mask.sum()), result.record.lesion_count
      (20, 1)
    """
    import numpy as np

    from data_pipeline.scan import Scan
    from msanet_jax.prediction.predict import segment_scans
    from msanet_jax.trained.model import check_threshold

    many = [scans] if isinstance(scans, str | Path | Scan | np.ndarray) else list(scans)
    chosen = load() if model is None else model
    results = segment_scans(chosen, _named(many), check_threshold(chosen.threshold if threshold is None else threshold))
    return [result for _, result in results]


def train(config: ConfigDict | str | Path, workdir: str | Path, *, data_dir: str | Path = "data") -> Metrics | None:
    """Trains, or resumes, and scores the test patients; what `main.py` does.

    Args:
      config: a recipe, or its file with variants, such as `configs/msanet.py:cpu`.
      workdir: folder of the run.
      data_dir: where built data sets are kept.

    Returns:
      What metrics.json holds (docs/metrics.md); None on the other processes of a run than the first.

    Raises:
      RequestError: the recipe, data or folder cannot be used; one line says why.

    Example:
      >>> import msanet_jax
      >>> metrics = msanet_jax.train("configs/msanet.py:smoke", "runs/smoke")  # doctest: +SKIP
      >>> metrics.scores["dsc_pooled"]  # doctest: +SKIP
      >>> msanet_jax.train("configs/none.py", "runs/none")
      Traceback (most recent call last):
      data_pipeline.errors.RequestError: configs/none.py: no such recipe
    """
    from msanet_jax.runs.recipe import read_recipe

    recipe = read_recipe(config) if isinstance(config, str | Path) else config
    from msanet_jax.training.job import train_and_evaluate

    return train_and_evaluate(recipe, workdir=str(workdir), data_dir=str(data_dir))


def evaluate(
    run: str | Path | Sequence[str | Path], *, split: str = "test", data_dir: str | Path = "data"
) -> Evaluation:
    """Scores a run, or the mean of several, on a split of the first one's data set, by its recipe's threshold rule.

    Args:
      run: folder of a training, or several.
      split: `train`, `validation` or `test`.
      data_dir: where built data sets are kept.

    Returns:
      `summary` (docs/metrics.md), rows per image and per lesion, probabilities.

    Raises:
      RequestError: the run or the split does not exist.

    Example:
      >>> import msanet_jax
      >>> score = msanet_jax.evaluate("runs/first").summary["dsc_pooled"]  # doctest: +SKIP
      >>> msanet_jax.evaluate("runs/first", split="tests")
      Traceback (most recent call last):
      data_pipeline.errors.RequestError: split 'tests' must be one of train, validation, test
    """
    from data_pipeline.splits import SPLITS

    if split not in SPLITS:
        raise RequestError(f"split {split!r} must be one of train, validation, test")
    from data_pipeline.folds import load_splits
    from msanet_jax.evaluation.evaluate import decide
    from msanet_jax.evaluation.evaluate import evaluate as score
    from msanet_jax.trained.ensemble import load_ensemble

    runs = [Path(run)] if isinstance(run, str | Path) else [Path(one) for one in run]
    model = load_ensemble(runs, decided=False)
    splits = load_splits(model.config.data, str(data_dir))
    decided = decide(model.probability, splits["validation"], config=model.config)
    return score(decided.probability, splits[split], config=model.config, threshold=decided.threshold.value)


def simulate(
    seed: int, index: int = 0, *, views: Sequence[View | str] = ("anterior", "posterior"), **options: Any
) -> SimulatedPatient:
    """Simulates virtual patient `index` of the population `seed`; the same arguments give the same counts.

    Args:
      seed: of the population.
      index: of the patient in it.
      views: `anterior`, `posterior` or both.
      **options: `noise_seed`, `camera` (`ge`, `siemens`), `counts` per view; see
        `data_pipeline.phantom.simulate.simulate_patient`.

    Returns:
      The patient; `views[view].scan` is what `predict` takes, `views[view].lesions` `[1024, 256]` the true lesion ids.

    Example:
      >>> import msanet_jax
      >>> patient = msanet_jax.simulate(seed=1, views=["anterior"])
      >>> scan = patient.views["anterior"].scan
      >>> scan.counts.shape, str(scan.view)
      ((1024, 256), 'anterior')
    """
    from data_pipeline.phantom.simulate import simulate_patient
    from data_pipeline.scan import View

    return simulate_patient(seed=seed, index=index, views=[View(view) for view in views], **options)


def _named(sources: Sequence[str | Path | Scan | np.ndarray]) -> Iterator[NamedScan]:
    import numpy as np

    from data_pipeline.readers import read_scans
    from data_pipeline.readers.settle import StoredImage, settle
    from data_pipeline.readers.stated import Stated
    from data_pipeline.readers.values import check_size
    from data_pipeline.scan import Scan, View
    from msanet_jax.prediction.sources import NamedScan

    for number, source in enumerate(sources):
        if isinstance(source, Scan):
            scans = [source]
        elif isinstance(source, np.ndarray):
            name = f"array {number}"
            if source.ndim != 2:
                raise RequestError(f"{name}: shape {source.shape}; a scan has rows and columns")
            check_size(source.shape, name)
            scans = [settle(StoredImage(source, None, View.UNKNOWN, name), Path(name), Stated())]
        else:
            scans = read_scans(source)
        for scan in scans:
            yield NamedScan(Path(scan.source), scan.source, scan, None)
