"""msanet predict: scans -> masks, probabilities, overlays, lesion lists, and what other programs read."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from data_pipeline.errors import ExitCode
from data_pipeline.files import resolved
from data_pipeline.terminal import scan_flags
from data_pipeline.text import printable

HELP = "segment scans with a trained network"
DESCRIPTION = (
    "Writes STEM_mask.png, STEM_probability.npy, STEM_overlay.png, STEM_lesions.csv and STEM.json for every scan, a "
    "page for every patient, and a picture, a table and a file list of the run. Results of a folder or archive are "
    "named after the path in it, of several sources with its number in front; of the same stem they become STEM, "
    "STEM-2, ...; a file with two views becomes STEM_anterior and STEM_posterior. docs/outputs.md lists every file. "
    "Research software, not for diagnosis."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="SOURCE",
        help="DICOM (NM), PNG, JPEG, TIFF, NPY or NIfTI files; folders or zips of them; a DICOMDIR",
    )
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="RUN",
        help="folder of a training; the probabilities of several are averaged",
    )
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="file made by msanet export (default: the packaged model)"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the results")
    parser.add_argument("--threshold", type=float, help="probability above which a pixel is lesion (default: recipe's)")
    parser.add_argument("--tta", action="store_true", help="average over the scan and its mirror image")
    parser.add_argument(
        "--formats",
        default="default",
        metavar="LIST",
        help="png, npy, overlay, csv, nifti, seg and sc (DICOM), sheet; or default (without nifti, seg, sc), all, json",
    )
    parser.add_argument(
        "--anonymous",
        action="store_true",
        help="name results by pseudonym and view; pseudonyms and new UIDs in DICOM SEG",
    )
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE", help="key of the pseudonyms (default: $MSANET_PSEUDONYM_KEY)"
    )
    parser.add_argument(
        "--compare", type=Path, metavar="EARLIER", help="results of an earlier scan of the same patients"
    )
    parser.add_argument("--overwrite", action="store_true", help="remove results of an earlier run from --out first")
    parser.add_argument("--debug", action="store_true", help="print where the program failed; may quote headers")
    scan_flags.add_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")


def run(options: argparse.Namespace) -> int:
    """Segments; 1 if some files could not be used, 2 if none could."""
    if options.debug:
        logging.basicConfig(format="%(levelname)s %(message)s")
        logging.getLogger("msanet").setLevel(logging.DEBUG)
    from data_pipeline.readers.stated import from_options
    from msanet_jax.prediction.files import parse_formats
    from msanet_jax.prediction.predict import Request, predict_files

    outcome = predict_files(
        options.files,
        checkpoint=options.checkpoint,
        model=options.model,
        flips=options.tta,
        out=options.out,
        request=Request(
            threshold=options.threshold,
            formats=parse_formats(options.formats),
            anonymous=options.anonymous,
            patient_from=options.patient_from,
            key_file=options.key_file,
            compare=options.compare,
            progress=not options.quiet,
            stated=from_options(options),
            overwrite=options.overwrite,
        ),
    )
    if not options.quiet:
        failed = f", {len(outcome.failed)} file(s) skipped" if outcome.failed else ""
        left_out = f", {outcome.left_out} other file(s) ignored" if outcome.left_out else ""
        out = printable(str(options.out))
        print(f"{len(outcome.written)} scan(s) segmented into {out}{failed}{left_out}. Not for diagnosis.")
        if outcome.index is not None:
            print(f"Open {printable(str(resolved(outcome.index)))} in a browser.")
    if not outcome.failed:
        return ExitCode.DONE
    return ExitCode.SOME_FAILED if outcome.written else ExitCode.REFUSED
