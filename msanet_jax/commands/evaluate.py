"""msanet evaluate: scores a run again, any model on any annotated data set, or a folder of masks against another."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_pipeline.text import printable

HELP = "score a run again, a model on another data set, or masks against true ones"
DESCRIPTION = (
    "Scores a model by the whole protocol (docs/metrics.md) and writes metrics.json, images.csv, lesions.csv and "
    "pictures. With --truth, MODEL is a folder of masks (PNG, TIFF, NPY, NIfTI), scored against those of the same "
    "name. Scores on simulated scans are not comparable with scores on clinical ones."
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
        help="another data set: phantom_bone/full, ..., a folder of msanet import, or `stress` for all stress sets "
        "(default: the model's own)",
    )
    parser.add_argument("--truth", type=Path, metavar="DIR", help="folder of true masks; MODEL is a folder of masks")
    parser.add_argument("--pixel-mm", type=float, metavar="MM", help="side of a pixel of the masks, with --truth")
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
    if options.truth is not None:
        return _score_masks(options)
    if options.on == "stress":
        return _score_on_stress(options)
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


def _score_on_stress(options: argparse.Namespace) -> int:
    from data_pipeline.errors import RequestError
    from msanet_jax.trained.stress import score_on_stress

    if options.split != "test":
        raise RequestError("--on=stress: stress sets have test patients only; leave --split out")
    folder, page = score_on_stress(
        options.model, out=options.out, data_dir=options.data_dir, threshold=options.threshold
    )
    print(f"{printable(str(page))}\n{printable(str(folder / 'stress.md'))}")
    return 0


def _score_masks(options: argparse.Namespace) -> int:
    from data_pipeline.errors import RequestError
    from data_pipeline.files import nan_to_null, writable_folder, write_json
    from msanet_jax.evaluation.mask_folders import score_masks
    from msanet_jax.runs.metrics_file import rules, write_tables
    from msanet_jax.runs.model_file import default_model, read_member_recipe
    from msanet_jax.runs.notices import NOTICE

    if options.pixel_mm is None or options.out is None:
        raise RequestError("--truth: say --pixel-mm too, which mask files do not state, and --out, the results' folder")
    config = read_member_recipe(default_model())
    result = score_masks(options.model, options.truth, pixel_mm=options.pixel_mm, config=config)
    folder = writable_folder(options.out, "--out")
    used = {key: value for key, value in nan_to_null(rules(config)).items() if not key.startswith("scored_")}
    write_tables(folder, result)
    write_json(folder / "scores.json", {"note": NOTICE, "rules": used, "masks": result.summary.flat()})
    scores = result.summary
    print(
        f"{scores['images']} masks: DSC {scores['dsc_pooled']:.3f}, precision {scores['precision_pooled']:.3f}, recall "
        f"{scores['recall_pooled']:.3f}; {scores['lesion_recall']:.3f} of {scores['lesions']} lesions found\n"
        f"{printable(str(folder / 'scores.json'))}. {NOTICE}"
    )
    return 0
