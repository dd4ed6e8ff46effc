"""nnU-Net 2D with its own plan, trained and scored on the patients of a recipe: a row for the table of peers.

python -m benchmarks.nnunet --workdir=runs/nnunet [--config=configs/msanet.py:cpu] [--images=2900] [--data_dir=data]

nnU-Net gets counts on the recipe's grid and decides the rest: normalisation, network, patches, loss, augmentation. Its
1,000 epochs of 250 batches are replaced by `--images` seen images in ten epochs; the recipe `cpu` sees about 2,900.
Threshold and scores are those of every model here: `msanet compare RUN runs/nnunet` puts both side by side. nnunet.json
holds parameters, images seen and seconds. A stopped training continues from the last epoch. Scores on simulated scans
are not comparable with the paper's 0.6671.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.extras import require
from benchmarks.pipeline import load_recipe
from data_pipeline.files import write_json
from data_pipeline.folds import load_splits
from data_pipeline.grid import GridSplit, on_network
from data_pipeline.intake.nnunet import Case, write_cases
from data_pipeline.normalize import bin_counts, binning_factor
from msanet_jax.evaluation.field_maps import Probability, resample
from msanet_jax.training.outcome import headline, score_and_write

NUMBER, NAME = 1, "Dataset001_Bone"
EPOCHS = 10
"""nnU-Net's learning rate falls and its checkpoints are written once an epoch."""
VALIDATION_SHARE = 5
"""nnU-Net's own 250 training batches an epoch go with 50 of validation."""


def main() -> None:
    """Trains, scores, and leaves metrics.json and nnunet.json in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/msanet.py:cpu", help="recipe whose data, grid and rules are used")
    parser.add_argument("--images", type=int, default=2900, help="training images to see (default: 2900)")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    parser.add_argument("--data_dir", default="data", help="folder of the data sets")
    options = parser.parse_args()
    require(parser, "torch", "nnunetv2", extra="bench")
    config = load_recipe(options.config)
    config.model, config.evaluate.threshold_rule = "nnunet", "validation"
    splits = load_splits(config.data, options.data_dir)
    print(run(splits, config, options.workdir, images=options.images))


def run(splits: Mapping[str, GridSplit], config: ConfigDict, workdir: Path, *, images: int) -> str:
    """Trains and scores; returns the scores in a few lines.

    Args:
      splits: `train`, `validation` and `test` on the field's grid.
      config: the recipe; `data`, `evaluate` and `seed` are read.
      workdir: folder of the run, made if absent.
      images: how many training images are seen.
    """
    begin = time.perf_counter()
    raw, preprocessed, results = _folders(workdir)
    if not raw.exists():
        write_cases(_cases(splits, config.data.image_size_px), raw, source=config.data.dataset)
    _plan(raw, preprocessed)
    trainer, facts = _trained(results, images=images)
    write_json(workdir / "nnunet.json", {**facts, "seconds": round(time.perf_counter() - begin, 1)})
    metrics = score_and_write(
        _probability(trainer, config.data.image_size_px),
        splits,
        folder=workdir,
        config=config,
        step=facts["images_seen"] // facts["batch_size"],
        begin=begin,
    )
    assert metrics is not None  # a single process writes
    return f"{json.dumps(facts)}\n{headline(metrics, workdir)}"


def _folders(workdir: Path) -> tuple[Path, Path, Path]:
    """Raw and preprocessed folder of the set, and that of the results; nnU-Net reads where they are when imported."""
    folders = {name: workdir.resolve() / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for name, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(folder)
    raw, preprocessed, results = (folder / NAME for folder in folders.values())
    return raw, preprocessed, results


def _cases(splits: Mapping[str, GridSplit], image_size_px: int) -> Iterator[Case]:
    for name in ("train", "validation"):
        seen = on_network(splits[name], image_size_px)
        for row, counts, mask in zip(seen.rows, seen.counts, seen.masks, strict=True):
            yield Case(name, row.image_id, counts, mask)


def _plan(raw: Path, preprocessed: Path) -> None:
    """nnU-Net's fingerprint, plan and preprocessed images, with our split of training and validation."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as nnunet

    complete = preprocessed / "complete"
    if complete.exists():
        return
    nnunet.extract_fingerprints([NUMBER], num_processes=1)
    nnunet.plan_experiments([NUMBER])
    nnunet.preprocess([NUMBER], configurations=("2d",), num_processes=[1])
    shutil.copy(raw / "splits_final.json", preprocessed)
    complete.touch()


def _trained(results: Path, *, images: int) -> tuple[Any, dict[str, Any]]:
    """The trainer of the finished training, and its facts."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    begun = any(results.rglob("checkpoint_*.pth"))
    trainer = get_trainer_from_args(NAME, "2d", 0, continue_training=begun, device=device)
    batch_size = trainer.configuration_manager.batch_size
    trainer.num_epochs = EPOCHS
    trainer.num_iterations_per_epoch = max(1, math.ceil(images / (batch_size * EPOCHS)))
    trainer.num_val_iterations_per_epoch = max(1, trainer.num_iterations_per_epoch // VALIDATION_SHARE)
    trainer.save_every = 1
    trainer.initialize()
    if begun:
        maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    if trainer.current_epoch < EPOCHS:
        trainer.run_training()
    return trainer, {
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "images_seen": EPOCHS * trainer.num_iterations_per_epoch * batch_size,
        "batch_size": batch_size,
        "patch_size": list(map(int, trainer.configuration_manager.patch_size)),
        "device": str(device),
    }


def _probability(trainer: Any, image_size_px: int) -> Probability:
    """Counts of fields -> nnU-Net's lesion probability, mirrored views averaged, enlarged to the field's grid."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=trainer.device, perform_everything_on_device=False, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)

    def probability(counts: np.ndarray) -> np.ndarray:
        seen = bin_counts(counts, binning_factor(counts.shape[-1], image_size_px)).astype(np.float32)
        # A picture as nnU-Net reads one: channel, one slice, rows, columns; slices lie far apart.
        maps = [
            predictor.predict_single_npy_array(image[None, None], {"spacing": (999, 1, 1)}, None, None, True)[1][1, 0]
            for image in seen
        ]
        return resample(np.stack(maps).astype(np.float32), counts.shape[-2:])

    return probability


if __name__ == "__main__":
    main()
