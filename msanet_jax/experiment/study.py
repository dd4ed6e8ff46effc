"""A study: models x folds x seeds, or models x pairs, its runs, and the journal of what became of them.

A model is trained by a recipe, or is there already and scored on a data set: one that comes with the package, a file,
or another model of the study.

Within a pair the models have the same training patients, the same seed and the same order of images; between pairs all
three are new. All pairs are scored on the same test patients.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from ml_collections import ConfigDict
from msgspec import Meta

from data_pipeline.errors import RequestError
from data_pipeline.files import resolved, write_json
from data_pipeline.reading import Count, as_record, read_json
from msanet_jax.evaluation.comparison import SCORES
from msanet_jax.runs.folder import LAST
from msanet_jax.runs.recipe import run_file

KEYS = ("reference", "overrides", "bootstrap_samples", "models")
FOLD_KEYS = ("folds", "seeds")
PAIR_KEYS = ("pairs", "primary", "secondary", "primary_state", "expected")
EXPECTED_KEYS = ("difference", "training_sd", "patient_sd", "patients")
STATES = {"last": LAST, "best": "."}
"""States of a pair study's networks, and the folder within the run's that has their scores: of the last step and of the
best validation."""
MODEL_KEYS = {"name", "recipe", "overrides"}
SCORED_KEYS = {"name", "scored", "on"}
AGAINST = "against"
"""Key of a model that names those it is compared with, where it is not the study's reference."""
EVALUATE = "evaluate"
"""First argument of a run that scores a model instead of training one: a command of msanet."""
RECORD = "experiment.json"
FINISHED: Final = "finished"
FAILED: Final = "failed"
STARTED: Final = "started"
State = Literal["finished", "failed", "started"]


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a study, or one scoring of a model.

    Attributes:
      model: the row of the table that it belongs to.
      replicate: number of its seed and fold, or of its pair, the same for every model.
      name: folder within the study's, e.g. `unet/fold1_seed0` or `unet/pair03`.
      arguments: of main.py, or of msanet where the first is `EVALUATE`; but for folders.
      scored: name of the run that it scores; empty for a training, and for a model that is no run of the study.
    """

    model: str
    replicate: int
    name: str
    arguments: tuple[str, ...]
    scored: str = ""


@dataclasses.dataclass
class Outcome:
    """What became of a run so far.

    Attributes:
      state: `started`, `finished` or `failed`.
      arguments: of the run, to notice a changed study.
      seconds: spent on it, over all attempts.
      attempts: how often it was started.
      reason: of its last failure.
    """

    state: State
    arguments: tuple[str, ...]
    seconds: Annotated[float, Meta(ge=0, le=1e12)]
    attempts: Count
    reason: str


@dataclasses.dataclass(frozen=True)
class Study:
    """An experiment file, read.

    Attributes:
      path: of the file.
      root: folder with main.py, from which recipes are named.
      config: as the file gives it.
      runs: fold by fold or pair by pair, in the order of the models.
    """

    path: Path
    root: Path
    config: ConfigDict
    runs: tuple[Run, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the table's rows."""
        return tuple(model["name"] for model in self.config.models)

    @property
    def pairs(self) -> int:
        """Number of pairs; 0 for a study of folds and seeds."""
        return int(self.config.get("pairs", 0))

    @property
    def design(self) -> str:
        """What the runs of a model are, in words."""
        if self.pairs:
            return f"{self.pairs} pairs of trainings on new training patients each"
        folds = f"{self.config.folds} folds over patients" if self.config.folds else "the set's own splits"
        return f"{folds}, seeds {', '.join(map(str, self.config.seeds))}"

    def runs_of(self, model: str) -> list[Run]:
        """The runs that make a row."""
        return [run for run in self.runs if run.model == model]


def read_study(path: Path) -> Study:
    """Reads an experiment file and plans its runs.

    Raises:
      RequestError: the file, a key or a model is missing or wrong, or no main.py lies beside or above it.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such experiment file; experiments/paper_table.py is one")
    try:
        config = run_file(path).get_config()
    except Exception as error:
        raise RequestError(f"{path}: {type(error).__name__}: {error}") from error
    _check(path, config)
    root = next((folder for folder in resolved(path).parents if (folder / "main.py").is_file()), None)
    if root is None:
        raise RequestError(f"{path}: no main.py beside or above it; an experiment runs from a checkout of the project")
    return Study(path=path, root=root, config=config, runs=_planned(config))


def _check(path: Path, config: Any) -> None:
    keys = (*KEYS, *(PAIR_KEYS if "pairs" in config else FOLD_KEYS))
    missing = [key for key in keys if key not in config]
    unknown = [key for key in config if key not in keys]
    if missing or unknown:
        raise RequestError(f"{path}: keys missing: {missing}, unknown: {unknown}; the keys are {', '.join(keys)}")
    names: list[str] = []
    for model in config.models:
        if set(model) - {AGAINST} not in (MODEL_KEYS, SCORED_KEYS):
            known = " or ".join(", ".join(sorted(keys)) for keys in (MODEL_KEYS, SCORED_KEYS))
            raise RequestError(f"{path}: a model has {known}, not {', '.join(sorted(model))}")
        if "pairs" in config and (only := {"scored", AGAINST} & set(model)):
            raise RequestError(f"{path}: {model['name']} has {min(only)}, which a study of pairs does not know")
        names.append(model["name"])
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(f"{path}: models occur twice: {', '.join(twice)}")
    if nested := [model["name"] for model in config.models if "scored" in _of(config, model.get("scored"))]:
        raise RequestError(f"{path}: {nested[0]} scores a model that is scored itself; name the model that is trained")
    if unknown := [name for model in config.models for name in model.get(AGAINST, ()) if name not in names]:
        raise RequestError(f"{path}: {AGAINST} {unknown[0]!r} must be one of the models {', '.join(names)}")
    if config.reference not in names:
        raise RequestError(f"{path}: reference {config.reference!r} must be one of the models {', '.join(names)}")
    if "pairs" in config:
        _check_pairs(path, config)
    elif config.folds == 1 or config.folds < 0 or not config.seeds:
        raise RequestError(f"{path}: folds must be 0 or at least 2, and seeds not empty")


def _of(config: Any, name: str | None) -> Mapping[str, Any]:
    """The model of that name, empty if it is none of the study's."""
    return next((model for model in config.models if model["name"] == name), {})


def _check_pairs(path: Path, config: Any) -> None:
    if config.pairs < 2:
        raise RequestError(f"{path}: pairs={config.pairs} must be at least 2: one pair says nothing of other trainings")
    for score in (config.primary, *config.secondary):
        if score not in SCORES:
            raise RequestError(f"{path}: score {score!r} must be one of {', '.join(SCORES)}")
    if config.primary_state not in STATES:
        raise RequestError(f"{path}: primary_state {config.primary_state!r} must be one of {', '.join(STATES)}")
    if set(config.expected) != set(EXPECTED_KEYS):
        raise RequestError(f"{path}: expected has the keys {', '.join(EXPECTED_KEYS)}")


def _planned(config: ConfigDict) -> tuple[Run, ...]:
    """Replicate by replicate, not model by model: stopped at any time, what is finished can be compared in pairs."""
    names = {model["name"] for model in config.models}
    runs: list[Run] = []
    for replicate, (name, settings) in enumerate(_replicates(config)):
        for model in config.models:
            place = f"{model['name']}/{name}"
            if "scored" in model:
                scored = f"{model['scored']}/{name}" if model["scored"] in names else ""
                scoring = (EVALUATE, scored or model["scored"], f"--on={model['on']}")
                runs.append(Run(model["name"], replicate, place, scoring, scored))
                continue
            overrides = [*config.overrides, *model["overrides"], *settings]
            arguments = (f"--config={model['recipe']}", *(f"--config.{entry}" for entry in overrides))
            runs.append(Run(model["name"], replicate, place, arguments))
    return tuple(runs)


def _replicates(config: ConfigDict) -> list[tuple[str, tuple[str, ...]]]:
    """Name of every replicate, and what it sets in each recipe."""
    if "pairs" in config:
        return [
            (
                f"pair{pair:02d}",
                (f"seed={pair}", f"data.subsets={config.pairs}", f"data.subset={pair}", "evaluate.also_last=True"),
            )
            for pair in range(config.pairs)
        ]
    if config.folds == 0:
        # Where a model takes a part of the patients (data.subsets), another seed takes other ones.
        return [(f"seed{seed}", (f"seed={seed}", f"data.fold_seed={seed}")) for seed in config.seeds]
    return [
        (f"fold{fold}_seed{seed}", (f"seed={seed}", f"data.folds={config.folds}", f"data.fold={fold}"))
        for seed, fold in itertools.product(config.seeds, range(config.folds))
    ]


class Journal:
    """experiment.json of a study's folder: the outcome of every run that was started.

    Raises:
      RequestError: the folder cannot be written, or holds runs of another study.
    """

    def __init__(self, workdir: Path, study: Study) -> None:
        self._path = workdir / RECORD
        try:
            workdir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"--workdir={workdir}: cannot be used ({error}); choose another folder") from error
        self.outcomes = self._read() if self._path.exists() else {}
        for run in study.runs:
            known = self.outcomes.get(run.name)
            if known is not None and known.arguments != run.arguments:
                raise RequestError(
                    f"--workdir={workdir} holds another study: {run.name} was {' '.join(known.arguments)}, now "
                    f"{' '.join(run.arguments)}; choose another folder or undo the change"
                )

    def _read(self) -> dict[str, Outcome]:
        remedy = "restore it, or move it away and run the study again"
        content = read_json(self._path, dict[str, dict[str, Any]], remedy=remedy)
        if "runs" not in content:
            raise RequestError(f"{self._path}: lacks `runs`; {remedy}")
        return {
            name: as_record(entry, Outcome, where=f"{self._path}: {name}", remedy=remedy)
            for name, entry in content["runs"].items()
        }

    def begin(self, run: Run) -> None:
        """Notes that a run starts."""
        outcome = self.outcomes.setdefault(
            run.name, Outcome(STARTED, run.arguments, seconds=0.0, attempts=0, reason="")
        )
        outcome.state, outcome.attempts = STARTED, outcome.attempts + 1
        self._write()

    def end(self, run: Run, *, state: State, seconds: float, reason: str = "") -> None:
        """Notes how a run, or an attempt that will go on, ended."""
        outcome = self.outcomes[run.name]
        outcome.state, outcome.reason = state, reason
        outcome.seconds = round(outcome.seconds + seconds, 1)
        self._write()

    def finished(self, run: Run) -> bool:
        """Whether the run has its scores."""
        outcome = self.outcomes.get(run.name)
        return outcome is not None and outcome.state == FINISHED

    def _write(self) -> None:
        write_json(self._path, {"runs": self.outcomes})


def command(study: Study, run: Run, *, workdir: Path, data_dir: Path) -> list[str]:
    """What is typed for one run, from `study.root`."""
    out, data = resolved(workdir) / run.name, f"--data_dir={resolved(data_dir)}"
    if run.arguments[0] != EVALUATE:
        return [sys.executable, "main.py", *run.arguments, f"--workdir={out}", data]
    name, source, *rest = run.arguments
    source = str(resolved(workdir) / run.scored) if run.scored else source
    return [sys.executable, "-m", "msanet_jax", name, source, *rest, f"--out={out}", data]
