"""Any data set by its name: PhantomBone, or a folder made by `msanet import`.

`python -m data_pipeline.datasets NAME --data_dir DIR` builds a set beforehand. Several hosts that reach the same folder
share the simulation: each runs it with `--hosts N --host I`, and one, when all have ended, without.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import logging
import operator
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from data_pipeline.errors import ExitCode, RequestError
from data_pipeline.features import BoneScans, StoredScans
from data_pipeline.fields import field_shape
from data_pipeline.files import only_one, write_json
from data_pipeline.intake.folder import is_data_set, read_data_set
from data_pipeline.intake.imported import ImportedBone, imported_builder
from data_pipeline.phantom_bone import PhantomBone, patient_store, planned_views
from data_pipeline.phantom_examples import SET_MASKS, simulate_in_processes
from data_pipeline.reading import read_json

LOG = logging.getLogger(__name__)

DIGESTS = "digests.json"
"""In the folder of a built set: what its files were when it was finished."""


def load_split(dataset: str, split: str, data_dir: str, field: str = "thorax") -> BoneScans:
    """A split in memory, with all its masks; arguments and errors as of `open_split`."""
    return open_split(dataset, split, data_dir, field).in_memory()


def open_split(dataset: str, split: str, data_dir: str, field: str = "thorax") -> StoredScans:
    """A split of a set, which is built first where it is missing.

    Args:
      dataset: `phantom_bone/full`, `phantom_bone/cpu`, `phantom_bone/tiny`, or a folder that `msanet import` wrote.
      split: `train`, `validation` or `test`; `train+test` is one after the other.
      data_dir: where sets are kept.
      field: `thorax` or `whole_body`.

    Raises:
      RequestError: no such set or split, or a folder that cannot be written or read; reading the images raises it too.
    """
    builder = prepare(dataset, data_dir, field)
    if missing := [name for name in split.split("+") if name not in builder.info.splits]:
        held = ", ".join(builder.info.splits)
        raise RequestError(
            f"{dataset} has no {missing[0]} patients, only {held}; `msanet evaluate --on=stress` scores it"
        )
    masks = builder.builder_config.masks if isinstance(builder, ImportedBone) else SET_MASKS
    return stored_split(builder, split, masks)


def stored_split(builder: tfds.core.DatasetBuilder, split: str, masks: Iterable[str]) -> StoredScans:
    """A split of a set that is built; arguments and errors as of `open_split`."""
    place = str(builder.data_dir)
    try:
        records = builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    except Exception as error:  # TFDS and array_record raise their own types for damaged files
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RequestError(f"{place}: the built data set is damaged ({reason}); delete it to build anew") from error
    return StoredScans(
        records=records,
        numbers=np.arange(len(records)),
        features=builder.info.features,
        masks=tuple(masks),
        place=place,
        version=str(builder.version),
    )


def prepare(dataset: str, data_dir: str, field: str = "thorax") -> PhantomBone | ImportedBone:
    """Builds the set unless it is there; says so, and waits where another process is building it.

    Raises:
      RequestError: no such set, or `data_dir` cannot be written.
    """
    builder = find(dataset, data_dir, field)
    try:
        if not _is_finished(Path(builder.data_dir)):
            with only_one(_lock_file(builder, data_dir), waiting=_say_waiting):
                builder = find(dataset, data_dir, field)  # another process may have built it meanwhile
                if not Path(builder.data_dir).exists():
                    _build(builder, manual_dir=None if isinstance(builder, PhantomBone) else dataset)
                _finish(builder)
        _check_digests(Path(builder.data_dir))
    except OSError as error:
        raise RequestError(f"--data_dir={data_dir}: cannot be written ({error}); choose another folder") from error
    return builder


def find(dataset: str, data_dir: str, field: str = "thorax") -> PhantomBone | ImportedBone:
    """The builder of a set, which need not be built; makes `data_dir`. Errors as of `prepare`."""
    field_shape(field)
    name, _, config = dataset.partition("/")
    known = [entry.name for entry in PhantomBone.BUILDER_CONFIGS if entry.field == "thorax"]
    phantom_set = name == PhantomBone.name and config in known
    if phantom_set and config.startswith("stress_") and field != "thorax":
        raise RequestError(f"{dataset} shows the thorax, not data.field={field}")
    if not phantom_set and not is_data_set(dataset):
        names = ", ".join(f"{PhantomBone.name}/{entry}" for entry in known)
        raise RequestError(f"data.dataset={dataset!r} must be one of {names}, or a folder that `msanet import` wrote")
    # TFDS warns of every configuration that it did not know beforehand.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        Path(data_dir).mkdir(parents=True, exist_ok=True)
        if phantom_set:
            set_name = config if field == "thorax" else f"{config}_{field}"
            return _opened(functools.partial(PhantomBone, config=set_name, data_dir=data_dir), dataset, data_dir)
        make = functools.partial(imported_builder, dataset, data_dir=data_dir, field=field)
        return _opened(make, dataset, data_dir)
    except OSError as error:
        raise RequestError(f"--data_dir={data_dir}: cannot be written ({error}); choose another folder") from error


def _opened(make: Callable[[], PhantomBone | ImportedBone], dataset: str, data_dir: str) -> PhantomBone | ImportedBone:
    try:
        return make()
    except (OSError, RequestError):
        raise
    except Exception as error:  # TFDS raises many types for damaged descriptions
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RequestError(
            f"{data_dir}: the built data set {dataset} is damaged ({reason}); delete its folder to build it anew"
        ) from error


def _is_finished(folder: Path) -> bool:
    """A set of an older version has no digests, and gets none where it may not be written."""
    return (folder / DIGESTS).exists() or (folder.exists() and not os.access(folder, os.W_OK))


def _finish(builder: PhantomBone | ImportedBone) -> None:
    """Clears finished patients away and writes the digests, which show that nothing is left to do."""
    if isinstance(builder, PhantomBone):
        shutil.rmtree(patient_store(builder).folder, ignore_errors=True)
    folder = Path(builder.data_dir)
    write_json(folder / DIGESTS, _digests(folder))


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a built set, by name."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != DIGESTS)
    return {path.name: _digest(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@functools.cache
def _digest(path: Path, size: int, changed_ns: int) -> str:
    """Of a file as it is now: a recipe opens a set once a split, and the files of a large one take minutes to read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digests(folder: Path) -> None:
    if not (folder / DIGESTS).exists():
        return
    remedy = f"delete {folder} to build the data set anew"
    found, written = _digests(folder), read_json(folder / DIGESTS, dict[str, str], remedy=remedy)
    differing = [name for name in sorted(found.keys() | written.keys()) if found.get(name) != written.get(name)]
    if differing:
        raise RequestError(f"{folder / differing[0]}: is not as it was built; {remedy}")


def is_simulated(dataset: str) -> bool:
    """Whether a set holds simulated scans only: PhantomBone, or an import of simulated files."""
    return not is_data_set(dataset) or read_data_set(dataset).origin == "simulated"


def _lock_file(builder: PhantomBone | ImportedBone, data_dir: str) -> Path:
    """Of all versions of a set: a build clears away what unfinished builds of any version left."""
    return Path(data_dir, f".{builder.name}_{builder.builder_config.name}.lock")


def _say_waiting(holder: str) -> None:
    LOG.warning("another process is building this data set (%s); waiting for it", holder)


def _build(builder: PhantomBone | ImportedBone, *, manual_dir: str | None) -> None:
    target = Path(builder.data_dir)
    for stale in target.parent.glob("*incomplete*"):
        LOG.warning("removing the unfinished build %s; its finished patients are kept and used", stale)
        shutil.rmtree(stale)
    tfds.disable_progress_bar()
    if isinstance(builder, PhantomBone):
        simulate_share(builder)
    try:
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir) if manual_dir else None,
        )
    finally:
        if (bar := getattr(builder, "_bar", None)) is not None:
            bar.close()


def simulate_share(builder: PhantomBone, *, host: int = 0, hosts: int = 1) -> int:
    """Simulates the patients of a host into the folder where they wait for the rest of the set.

    Patients that are there are left; few ones may be left to the build itself.

    Args:
      builder: of the set.
      host: from 0.
      hosts: among which the patients are shared out in turn.

    Returns:
      How many patients of this host are there now.
    """
    store, plan = patient_store(builder), functools.reduce(operator.or_, planned_views(builder.builder_config).values())
    own = {index: plan[index] for index in sorted(plan)[host::hosts]}
    simulate_in_processes(store, own, title=f"simulating {builder.info.full_name}")
    return sum(store.path(index).exists() for index in own)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 a request that cannot be met."""
    parser = argparse.ArgumentParser(prog="python -m data_pipeline.datasets", description=__doc__)
    parser.add_argument("dataset", metavar="NAME", help="phantom_bone/huge, ... or a folder that `msanet import` wrote")
    parser.add_argument("--data_dir", default="data", help="where built sets are kept (default: data)")
    parser.add_argument("--field", default="thorax", help="thorax or whole_body (default: thorax)")
    parser.add_argument("--hosts", type=int, help="simulate one share of so many, and build nothing")
    parser.add_argument("--host", type=int, default=0, help="which share, from 0 (default: 0)")
    options = parser.parse_args(arguments)
    try:
        builder = find(options.dataset, options.data_dir, options.field)
        if options.hosts is None or Path(builder.data_dir).exists():
            print(f"{prepare(options.dataset, options.data_dir, options.field).data_dir} is built")
            return ExitCode.DONE
        if not isinstance(builder, PhantomBone) or not 0 <= options.host < options.hosts:
            raise RequestError(f"--host={options.host} --hosts={options.hosts}: shares 0 to N - 1 of a PhantomBone set")
        there = simulate_share(builder, host=options.host, hosts=options.hosts)
    except (RequestError, OSError) as error:
        print(f"datasets: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    print(f"share {options.host} of {options.hosts}: {there} patients are there; build the set when all shares are")
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
