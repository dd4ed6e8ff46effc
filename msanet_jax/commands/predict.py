"""msanet predict: scans -> masks, probabilities, overlays and lesion lists."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

HELP = "segment scans with a trained network"
DESCRIPTION = (
    "Writes STEM_mask.png, STEM_probability.npy, STEM_overlay.png and STEM.json for every scan. "
    "Files of the same stem become STEM, STEM-2, ... in the order given; a file with two views becomes "
    "STEM_anterior and STEM_posterior."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="DICOM (NM), PNG, JPEG, TIFF or NPY")
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="RUN", help="folder of a training")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the results")
    parser.add_argument("--threshold", type=float, help="probability above which a pixel is lesion (default: recipe's)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")


def run(options: argparse.Namespace) -> int:
    """Segments; 1 if some files could not be used."""
    # What orbax tells its developers is no news for users; what this project says goes through.
    logging.getLogger("absl").setLevel(logging.ERROR)
    from msanet_jax.predict import predict_files

    outcome = predict_files(
        options.files,
        checkpoint=options.checkpoint,
        out=options.out,
        threshold=options.threshold,
        progress=not options.quiet,
    )
    if not options.quiet:
        failed = f", {len(outcome.failed)} file(s) passed over" if outcome.failed else ""
        print(f"{len(outcome.written)} scan(s) segmented into {options.out}{failed}. Not for diagnosis.")
    return 1 if outcome.failed else 0
