"""msanet evaluate: scores the best checkpoint of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "score a run's best checkpoint again"
DESCRIPTION = (
    "Scores the best checkpoint of a training by the whole protocol (docs/metrics.md) and writes metrics.json, "
    "images.csv, lesions.csv and pictures. Scores on simulated scans are not comparable with scores on clinical ones."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a training")
    parser.add_argument("--split", default="test", choices=("test", "validation"), help="patients (default: test)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the results (default: RUN/evaluation_SPLIT)")
    parser.add_argument("--data_dir", default="data", metavar="DIR", help="folder of the built data sets")
    parser.add_argument(
        "--threshold", type=float, help="probability above which a pixel is lesion (default: by the run's recipe)"
    )


def run(options: argparse.Namespace) -> int:
    """Scores and prints the headline."""
    from msanet_jax.trained.rescore import score_again
    from msanet_jax.training.outcome import headline

    folder, metrics = score_again(
        options.folder, split=options.split, out=options.out, data_dir=options.data_dir, threshold=options.threshold
    )
    print(headline(metrics, folder))
    return 0
