"""msanet evaluate: scores the best checkpoint of a run again, or any model on any annotated data set."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "score a run's best checkpoint again, or a model on another data set"
DESCRIPTION = (
    "Scores a model by the whole protocol (docs/metrics.md) and writes metrics.json, images.csv, lesions.csv and "
    "pictures. Scores on simulated scans are not comparable with scores on clinical ones."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="folder of a training, a file made by msanet export, or `default`: the model that came with the package",
    )
    parser.add_argument(
        "--on",
        metavar="DATASET",
        help="another data set: phantom_bone/full, ... or a folder of msanet import (default: the model's own)",
    )
    parser.add_argument("--split", default="test", choices=("test", "validation"), help="patients (default: test)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the results (default: evaluation_SPLIT or evaluation_DATASET_SPLIT in the run's folder)",
    )
    parser.add_argument("--data_dir", default="data", metavar="DIR", help="folder of the built data sets")
    parser.add_argument(
        "--threshold",
        type=float,
        help="probability above which a pixel is lesion (default: by the run's recipe, with --on the model's own)",
    )


def run(options: argparse.Namespace) -> int:
    """Scores and prints the headline."""
    from msanet_jax.trained.rescore import score_again
    from msanet_jax.training.outcome import headline

    folder, metrics = score_again(
        options.model,
        on=options.on,
        split=options.split,
        out=options.out,
        data_dir=options.data_dir,
        threshold=options.threshold,
    )
    print(headline(metrics, folder))
    return 0
