"""`python -m data_pipeline.phantom --patients N --seed S --out DIR`: simulated patients as DICOM, PNG, NPY and JSON.

Many patients are made by a process on each core. Hosts that reach the same folder share them: each runs the command
with `--hosts N --host I`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.errors import ExitCode, RequestError
from data_pipeline.phantom.files import Request, is_written, write_patient
from data_pipeline.phantom.imaging.camera import CAMERAS
from data_pipeline.phantom.simulate import simulate_patient
from data_pipeline.processes import in_processes
from data_pipeline.terminal.progress import progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 a request that cannot be met (said in one line), 130 interrupted."""
    try:
        _write(_parse(arguments))
    except RequestError as error:
        print(f"phantom: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    except KeyboardInterrupt:
        print("phantom: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.phantom",
        description="Simulates planar bone scintigrams of virtual patients. Research only, not for diagnosis.",
    )
    parser.add_argument("--patients", type=_positive, required=True, help="how many")
    parser.add_argument("--seed", type=_natural, required=True, help="of the virtual population")
    parser.add_argument("--out", type=Path, required=True, help="folder; each patient gets patient_0000, ... in it")
    parser.add_argument("--hosts", type=_positive, default=1, metavar="N", help="make one share of so many")
    parser.add_argument("--host", type=_natural, default=0, metavar="I", help="which share, from 0")
    parser.add_argument("--noise-seed", type=_natural, help="of the Poisson noise alone (default: --seed)")
    parser.add_argument("--camera", choices=tuple(CAMERAS), help="preset for all patients (default: drawn)")
    parser.add_argument("--counts", type=_counts, help="expected counts per view (default: drawn, 1.2 to 3.6 million)")
    parser.add_argument("--motion", type=float, metavar="MM", help="the patient moves once, sideways (default: drawn)")
    parser.add_argument(
        "--uniformity",
        type=float,
        metavar="SHARE",
        help="spread of the columns' sensitivity, e.g. 0.02 (default: drawn)",
    )
    parser.add_argument(
        "--field-of-view",
        type=int,
        nargs=2,
        metavar=("FIRST", "END"),
        help="columns that the detector covers (default: drawn; 0 256 is the whole image)",
    )
    return parser.parse_args(arguments)


def _write(options: argparse.Namespace) -> None:
    if options.host >= options.hosts:
        raise RequestError(f"--host {options.host}: of --hosts {options.hosts} there are the shares 0 to N - 1")
    first_column, end_column = options.field_of_view or (None, None)
    requests = [
        Request(
            seed=options.seed,
            index=index,
            noise_seed=options.seed if options.noise_seed is None else options.noise_seed,
            camera=options.camera,
            counts=options.counts,
            motion_mm=options.motion,
            uniformity=options.uniformity,
            first_column=first_column,
            end_column=end_column,
        )
        for index in range(options.host, options.patients, options.hosts)
    ]
    try:
        missing = [request for request in requests if not is_written(options.out, request)]
        options.out.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        in_processes(
            _write_one,
            [(options.out, request) for request in missing],
            title="simulating",
            there=len(requests) - len(missing),
        )
        left = [request for request in missing if not is_written(options.out, request)]
        for request in progress(left, title="simulating", unit="patient"):
            _write_one(options.out, request)
    except OSError as error:
        raise RequestError(f"--out={options.out}: cannot be written ({error.strerror}); choose another") from error
    there = len(requests) - len(missing)
    print(
        f"{len(missing)} patients written to {options.out} in {time.monotonic() - begin:.1f} s"
        + (f", {there} were there already" if there else "")
        + ". Simulated scans: scores on them are not comparable with scores on clinical data."
    )


def _write_one(out: Path, request: Request) -> None:
    patient = simulate_patient(
        seed=request.seed,
        index=request.index,
        noise_seed=request.noise_seed,
        camera=request.camera,
        counts=request.counts,
        faults=request.faults,
        field_of_view=request.field_of_view,
    )
    write_patient(out, request, patient)


def _positive(text: str) -> int:
    value = _natural(text)
    if value == 0:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("0 or more")
    return value


def _counts(text: str) -> float:
    value = float(text)
    if not 1e4 <= value <= 1e8:
        raise argparse.ArgumentTypeError("counts per view lie between 1e4 and 1e8")
    return value


if __name__ == "__main__":
    sys.exit(main())
