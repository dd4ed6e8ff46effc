"""msanet export: checkpoints -> one file that predicts without the training code."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_pipeline.text import printable

HELP = "write trained networks as one file that needs no training code"
DESCRIPTION = (
    "Writes a zip with a jax.export program for cpu, cuda and tpu (counts of thorax fields in, probability out), "
    "recipe, versions, scores, data card and model card. Several runs become their mean."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--checkpoint", required=True, nargs="+", action="extend", type=Path, metavar="RUN", help="folders of trainings"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the model, e.g. model.msanet")
    parser.add_argument(
        "--weights", choices=("float32", "float16"), default="float32", help="data type of the stored weights"
    )
    parser.add_argument(
        "--metrics", type=Path, metavar="FILE", help="metrics.json of the mean (default: those of the runs)"
    )
    parser.add_argument("--data-card", type=Path, metavar="FILE", help="Markdown card of your training data")
    parser.add_argument("--card", type=Path, metavar="FILE", help="also write the model card here, e.g. model_card.md")


def run(options: argparse.Namespace) -> int:
    """Exports and says how far the result is from the checkpoints."""
    from msanet_jax.trained.export import export_model

    manifest = export_model(
        options.checkpoint,
        options.out,
        weights=options.weights,
        metrics=options.metrics,
        data_card=options.data_card,
        card=options.card,
    )
    print(
        f"{printable(str(options.out))}: {options.out.stat().st_size / 1e6:.1f} MB, largest difference to the "
        f"checkpoint {manifest['check']['max_abs_difference']:.1g}. Not for diagnosis."
    )
    return 0
