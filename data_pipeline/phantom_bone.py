"""PhantomBone as a TFDS builder.

A set is built on first use from the simulator, patient by patient; finished patients are kept beside it until the whole
is done, so an interrupted build goes on where it was. The thorax images are cut out by the same finder that prediction
uses on real scans. Simulated data: scores on it are not comparable with the paper's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from data_pipeline import phantom
from data_pipeline.features import image_features
from data_pipeline.fields import field_shape
from data_pipeline.phantom.priors.stress import STRESSES
from data_pipeline.phantom_examples import SET_MASKS, PatientStore
from data_pipeline.scan import View
from data_pipeline.splits import check_disjoint, split_patients
from data_pipeline.terminal.progress import progress

# TensorFlow only feeds data; left alone it would take the accelerator's memory.
tf.config.set_visible_devices([], "GPU")


@dataclasses.dataclass
class PhantomBoneConfig(tfds.core.BuilderConfig):
    """Size of a set.

    Attributes:
      seed: of the virtual patients.
      patients: per split.
      images: views over all patients; those beyond one a patient go to randomly chosen patients.
      field: `thorax` or `whole_body`; of the same patients.
      stress: the population, one of `STRESSES`; empty for the usual one.
    """

    seed: int = 0
    patients: dict[str, int] = dataclasses.field(default_factory=dict)
    images: int = 0
    field: str = "thorax"
    stress: str = ""


SIZES = (
    PhantomBoneConfig(
        name="full",
        description="171 patients, 286 images; 118 + 53 patients, by a third party's table of the group's data",
        seed=2025,
        patients={"train": 100, "validation": 18, "test": 53},
        images=286,
    ),
    PhantomBoneConfig(
        name="large",
        description="1,100 patients, 1,650 images: what more patients are worth",
        seed=2028,
        patients={"train": 1000, "validation": 20, "test": 80},
        images=1650,
    ),
    PhantomBoneConfig(
        name="medium",
        description="320 patients, 480 images: the released model",
        seed=2029,
        patients={"train": 280, "validation": 20, "test": 20},
        images=480,
    ),
    PhantomBoneConfig(
        name="huge",
        description="10,000 patients, 15,000 images, more than memory should hold",
        seed=2030,
        patients={"train": 9600, "validation": 100, "test": 300},
        images=15_000,
    ),
    PhantomBoneConfig(
        name="cpu",
        description="106 patients, 170 images: a few minutes on two cores",
        seed=2026,
        patients={"train": 70, "validation": 10, "test": 26},
        images=170,
    ),
    PhantomBoneConfig(
        name="pairs",
        description="2,440 patients, 3,904 images: 16 disjoint sets as large as `cpu`, and 1,000 patients to test on",
        seed=2030,
        patients={"train": 1120, "validation": 320, "test": 1000},
        images=3904,
    ),
    PhantomBoneConfig(
        name="pairs_small",
        description="1,020 patients, 1,632 images: 8 disjoint sets as large as `cpu`, and 300 patients to test on",
        seed=2032,
        patients={"train": 560, "validation": 160, "test": 300},
        images=1632,
    ),
    PhantomBoneConfig(
        name="development",
        description="2,440 patients, 3,904 images: as `pairs`, to choose among variants of a method",
        seed=2031,
        patients={"train": 1120, "validation": 320, "test": 1000},
        images=3904,
    ),
    PhantomBoneConfig(
        name="tiny",
        description="10 patients, 16 images: for tests",
        seed=2027,
        patients={"train": 5, "validation": 2, "test": 3},
        images=16,
    ),
)
"""Sizes of PhantomBone; each is there as `NAME`, the thorax, and as `NAME_whole_body`, of the same patients."""

STRESS_PATIENTS = 30
STRESS_SETS = (
    *(
        PhantomBoneConfig(
            name=f"stress_{name}",
            description=f"{STRESS_PATIENTS} patients that training never sees; {stress.about}",
            seed=2040,
            patients={"test": STRESS_PATIENTS},
            images=STRESS_PATIENTS,
            stress=name,
        )
        for name, stress in STRESSES.items()
    ),
    PhantomBoneConfig(
        name="stress_tuning",
        description=f"{STRESS_PATIENTS} other patients of the usual priors: baselines are tuned on them",
        seed=2041,
        patients={"validation": STRESS_PATIENTS},
        images=STRESS_PATIENTS,
    ),
)
"""What `msanet evaluate --on=stress` scores: one split each. Patients of a number are the same but for one thing."""

SHIFTED_SETS = (
    PhantomBoneConfig(
        name="shifted_uptake",
        description="88 patients of the population of stress_uptake, a view each: what few patients of one's own bring",
        seed=2042,
        patients={"train": 40, "validation": 8, "test": 40},
        images=88,
        stress="uptake",
    ),
    PhantomBoneConfig(
        name="unshifted",
        description="36 patients of the usual priors, a view each: what a model tuned on shifted_uptake has forgotten",
        seed=2043,
        patients={"train": 4, "validation": 2, "test": 30},
        images=36,
    ),
)
"""A population outside the usual priors with patients to train on, and the usual one; no patient is in another set."""


class PhantomBone(tfds.core.GeneratorBasedBuilder):
    """Simulated planar bone scintigrams of the thorax with exact lesion masks."""

    VERSION = tfds.core.Version(phantom.VERSION)
    RELEASE_NOTES = {  # noqa: RUF012
        "1.0.0": "Difficulty calibrated with a plain U-Net; frozen.",
        "2.1.0": "Hidden lesions apart, in lesions_all; benign spots fainter; bodies and uptake vary more.",
        "2.0.0": "Other patients: parts of bones, posture, depth, scatter, benign spots at their sites; faults are on.",
        "1.0.1": "The same bytes on every processor: float64, counts by inverse distribution. Masks of organs.",
    }
    BUILDER_CONFIGS = [  # noqa: RUF012
        *SIZES,
        *STRESS_SETS,
        *SHIFTED_SETS,
        *(
            PhantomBoneConfig(
                name=f"{size.name}_whole_body",
                description=f"{size.description}; whole bodies",
                seed=size.seed,
                patients=size.patients,
                images=size.images,
                field="whole_body",
            )
            for size in SIZES
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=image_features(field_shape(self.builder_config.field), SET_MASKS),
            description="Simulated scans; scores on them are not comparable with scores on clinical data.",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        self._bar = progress(title=f"building {self.info.full_name}", unit="image", total=self.builder_config.images)
        return {
            split: self._generate_examples(patients) for split, patients in planned_views(self.builder_config).items()
        }

    def _generate_examples(self, patients: dict[int, tuple[View, ...]]) -> Iterator[tuple[str, dict[str, Any]]]:
        store = patient_store(self)
        for index, views in patients.items():
            examples = store.examples(index, views)
            self._bar.update(len(examples))
            yield from ((example["image_id"], example) for example in examples)


def patient_store(builder: tfds.core.DatasetBuilder) -> PatientStore:
    """Where finished patients wait for the rest of the set."""
    config = builder.builder_config
    folder = Path(builder.data_path).parents[2] / f".{builder.name}_{config.name}_{builder.version}_patients"
    return PatientStore(folder=folder, seed=config.seed, field=config.field, stress=config.stress)


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
