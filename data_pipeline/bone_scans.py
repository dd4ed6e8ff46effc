"""PhantomBone as a TFDS builder, and its splits as arrays in memory.

A set is built on first use from the simulator, patient by patient; finished patients are kept beside it until the whole
is done, so an interrupted build goes on where it was. The thorax images are cut out by the same finder that prediction
uses on real scans. Simulated data: scores on it are not comparable with the paper's.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from data_pipeline import phantom
from data_pipeline.errors import RequestError
from data_pipeline.phantom.simulate import SimulatedView, simulate_patient
from data_pipeline.phantom.truth import MASKS
from data_pipeline.scan import THORAX_SIZE_PX, View
from data_pipeline.splits import check_disjoint, split_patients
from data_pipeline.thorax import crop, find_thorax

# TensorFlow only feeds data; left alone it would take the accelerator's memory.
tf.config.set_visible_devices([], "GPU")

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass
class PhantomBoneConfig(tfds.core.BuilderConfig):
    """Size of a set.

    Attributes:
      seed: of the virtual patients.
      patients: per split.
      images: views over all patients; those beyond one a patient go to randomly chosen patients.
    """

    seed: int = 0
    patients: dict[str, int] = dataclasses.field(default_factory=dict)
    images: int = 0


class PhantomBone(tfds.core.GeneratorBasedBuilder):
    """Simulated planar bone scintigrams of the thorax with exact lesion masks."""

    VERSION = tfds.core.Version(phantom.VERSION)
    RELEASE_NOTES = {phantom.VERSION: "Difficulty calibrated with a plain U-Net; frozen."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        PhantomBoneConfig(
            name="full",
            description="171 patients, 286 images, 118 + 53 patients as in the paper",
            seed=2025,
            patients={"train": 100, "validation": 18, "test": 53},
            images=286,
        ),
        PhantomBoneConfig(
            name="cpu",
            description="106 patients, 170 images: a few minutes on two cores",
            seed=2026,
            patients={"train": 70, "validation": 10, "test": 26},
            images=170,
        ),
        PhantomBoneConfig(
            name="tiny",
            description="10 patients, 16 images: for tests",
            seed=2027,
            patients={"train": 5, "validation": 2, "test": 3},
            images=16,
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        image = {"shape": (THORAX_SIZE_PX, THORAX_SIZE_PX), "encoding": "zlib"}
        features: dict[str, Any] = {
            "counts": tfds.features.Tensor(dtype=np.int32, **image),
            "image_id": tfds.features.Text(),
            "patient": tfds.features.Text(),
            "view": tfds.features.Text(),
            "pixel_size_mm": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            "crop_origin_px": tfds.features.Tensor(shape=(2,), dtype=np.int32),
            "lesion_rows": tfds.features.Text(),
        }
        features |= {name: tfds.features.Tensor(dtype=np.uint8, **image) for name in MASKS}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            description="Simulated scans; scores on them are not comparable with scores on clinical data.",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        self._bar = tqdm(total=self.builder_config.images, unit="image", desc=f"building {self.info.full_name}")
        return {
            split: self._generate_examples(patients) for split, patients in planned_views(self.builder_config).items()
        }

    def _generate_examples(self, patients: dict[int, tuple[View, ...]]) -> Iterator[tuple[str, dict[str, Any]]]:
        cache = patient_cache(self)
        for index, views in patients.items():
            examples = cached_examples(cache, self.builder_config.seed, index, views)
            self._bar.update(len(examples))
            yield from ((example["image_id"], example) for example in examples)


def patient_cache(builder: tfds.core.DatasetBuilder) -> Path:
    """Where finished patients wait for the rest of the set."""
    name = f".{builder.name}_{builder.builder_config.name}_{builder.version}_patients"
    return Path(builder.data_path).parents[2] / name


def planned_views(config: PhantomBoneConfig) -> dict[str, dict[int, tuple[View, ...]]]:
    """Split -> patient index -> views, the same for the same config."""
    total = sum(config.patients.values())
    keys = [f"{index:05d}" for index in range(total)]
    splits = split_patients(keys, sizes=config.patients, seed=config.seed)
    check_disjoint(splits)
    random = np.random.default_rng([config.seed, 1])
    both = set(random.permutation(total)[: config.images - total].tolist())
    single = [View.ANTERIOR if value < 0.5 else View.POSTERIOR for value in random.uniform(size=total)]
    return {
        split: {
            int(key): (View.ANTERIOR, View.POSTERIOR) if int(key) in both else (single[int(key)],) for key in patients
        }
        for split, patients in splits.items()
    }


def cached_examples(cache: Path, seed: int, index: int, views: tuple[View, ...]) -> list[dict[str, Any]]:
    """The patient's examples, simulated once; written beside and renamed."""
    path = cache / f"{index:05d}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return [
                {key.split("/", 1)[1]: stored[key][()] for key in stored.files if key.startswith(f"{view}/")}
                for view in views
            ]
    patient = simulate_patient(seed=seed, index=index, views=views)
    examples = [thorax_example(patient.views[view]) for view in views]
    cache.mkdir(parents=True, exist_ok=True)
    flat = {
        f"{view}/{key}": value for view, example in zip(views, examples, strict=True) for key, value in example.items()
    }
    beside = path.with_name(f".{index:05d}.{os.getpid()}.npz")
    np.savez(beside, **flat)
    beside.replace(path)
    return examples


def thorax_example(view: SimulatedView) -> dict[str, Any]:
    """The 256 x 256 thorax of a simulated view with its masks; rows of lesions outside the crop are left out."""
    box = find_thorax(view.scan)
    cropped = {name: crop(getattr(view, name), box) for name in MASKS}
    present = set(np.unique(cropped["lesions"]).tolist()) - {0}
    return {
        "counts": crop(view.scan.counts, box).astype(np.int32),
        "image_id": f"{view.scan.patient}-{view.scan.view}",
        "patient": view.scan.patient,
        "view": str(view.scan.view),
        "pixel_size_mm": np.array(view.scan.pixel_size_mm, np.float32),
        "crop_origin_px": np.array([box.row, box.column], np.int32),
        "lesion_rows": json.dumps([row for row in view.lesion_rows if row["id"] in present]),
        **cropped,
    }


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """What is known of an image besides its pixels."""

    image_id: str
    patient: str
    view: str
    pixel_size_mm: tuple[float, float]
    lesion_rows: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class BoneScans:
    """A split in memory: 256 px images take 0.6 MB each.

    Attributes:
      counts: `[n, 256, 256]` int32.
      masks: by name `[n, 256, 256]` uint8 instance ids.
      rows: `n` image rows.
    """

    counts: np.ndarray
    masks: dict[str, np.ndarray]
    rows: list[ImageRow]


def load_split(dataset: str, split: str, data_dir: str) -> BoneScans:
    """A split of a set, which is built first where it is missing.

    Args:
      dataset: `phantom_bone/full`, `phantom_bone/cpu` or `phantom_bone/tiny`.
      split: `train`, `validation` or `test`.
      data_dir: where sets are kept.

    Raises:
      RequestError: no such set, or a folder that cannot be written or read.
    """
    builder = prepare(dataset, data_dir)
    try:
        examples = list(builder.as_data_source(split=split))
    except Exception as error:  # array_record raises its own types for damaged files
        raise RequestError(
            f"{builder.data_dir}: the built data set is damaged ({str(error).splitlines()[0]}); delete it to build anew"
        ) from error
    return BoneScans(
        counts=np.stack([example["counts"] for example in examples]),
        masks={name: np.stack([example[name] for example in examples]) for name in MASKS},
        rows=[_image_row(example) for example in examples],
    )


def prepare(dataset: str, data_dir: str) -> PhantomBone:
    """Builds the set unless it is there; says so.

    Raises:
      RequestError: no such set, or `data_dir` cannot be written.
    """
    name, _, config = dataset.partition("/")
    known = [builder_config.name for builder_config in PhantomBone.BUILDER_CONFIGS]
    if name != PhantomBone.name or config not in known:
        names = ", ".join(f"{PhantomBone.name}/{entry}" for entry in known)
        raise RequestError(f"data.dataset={dataset!r} is none of {names}")
    try:
        Path(data_dir).mkdir(parents=True, exist_ok=True)
        builder = PhantomBone(config=config, data_dir=data_dir)
        if not Path(builder.data_dir).exists():
            _build(builder)
    except OSError as error:
        raise RequestError(f"--data_dir={data_dir}: cannot be written ({error}); choose another folder") from error
    return builder


def _build(builder: PhantomBone) -> None:
    target = Path(builder.data_dir)
    for stale in target.parent.glob("*incomplete*"):
        logging.warning("removing the unfinished build %s; its finished patients are kept and used", stale)
        shutil.rmtree(stale)
    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.WARNING)
    try:
        builder.download_and_prepare(file_format="array_record")
    finally:
        if (bar := getattr(builder, "_bar", None)) is not None:
            bar.close()
    shutil.rmtree(patient_cache(builder), ignore_errors=True)


def _image_row(example: dict[str, Any]) -> ImageRow:
    def text(key: str) -> str:
        value = example[key]
        return value.decode() if isinstance(value, bytes) else str(value)

    return ImageRow(
        image_id=text("image_id"),
        patient=text("patient"),
        view=text("view"),
        pixel_size_mm=(float(example["pixel_size_mm"][0]), float(example["pixel_size_mm"][1])),
        lesion_rows=json.loads(text("lesion_rows")),
    )
