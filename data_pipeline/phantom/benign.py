"""What is hot or cold on a bone scan without being a metastasis, at its true sites.

Worn joints and vertebrae, front ends of ribs, rib fractures in a row, compression fractures, Paget's disease, teeth,
thyroid cartilage, breast, kidney pelvis, urine, the injected arm; cold: prostheses and what a surgeon took away.
"""

from __future__ import annotations

import numpy as np

from data_pipeline.phantom.anatomy import Anatomy
from data_pipeline.phantom.lesions import MAX_SPOTS, Grower, Spot
from data_pipeline.phantom.parts import Part, load_parts
from data_pipeline.phantom.patients import draw_log_normal, stream
from data_pipeline.phantom.priors.lesions import LesionPriors
from data_pipeline.phantom.skeleton import Skeleton

FLAT_MM = 9.0
"""Thickness of a collapsed or worn layer of a vertebra."""

PAGET_BONES = ("hip", "femur", "lumbar", "scapula", "tibia", "skull")
FRACTURE_MM = (8.0, 20.0)
COLD_GAIN = -0.95
BALL_POINTS = 400
SOFT_CONTRAST = {
    "thyroid_cartilage": (4.0, 12.0),
    "breast": (1.5, 3.0),
    "hydronephrosis": (6.0, 30.0),
    "urine": (6.0, 60.0),
    "injection": (8.0, 80.0),
}
"""Concentration over that of soft tissue, even in the logarithm: our choice."""

SOFT_RADIUS_MM = {
    "thyroid_cartilage": (5.0, 9.0),
    "breast": (20.0, 45.0),
    "hydronephrosis": (12.0, 26.0),
    "urine": (4.0, 14.0),
    "injection": (4.0, 13.0),
}


class _Benign:
    """Collects one patient's benign spots."""

    def __init__(
        self,
        skeleton: Skeleton,
        anatomy: Anatomy,
        activity: np.ndarray,
        soft: float,
        priors: LesionPriors,
        random: np.random.Generator,
    ) -> None:
        self._skeleton, self._anatomy, self._soft = skeleton, anatomy, soft
        self._priors, self._random = priors, random
        self._grower = Grower(skeleton, anatomy, activity, random)
        self.spots: list[Spot] = []

    def add(self, kind: str) -> None:
        """One finding of a kind; some are several spots."""
        special = {
            "endplate": self._endplate,
            "compression_fracture": self._compression,
            "rib_fractures": self._rib_fractures,
            "paget": self._paget,
            "osteoarthropathy": self._osteoarthropathy,
            "prosthesis": self._prosthesis,
            "surgery_gap": self._surgery_gap,
        }
        if kind in special:
            special[kind]()
        elif kind in SOFT_CONTRAST:
            self._soft_spots(kind)
        else:
            self._at_part(kind)

    def _contrast(self) -> float:
        return draw_log_normal(self._random, self._priors.benign_contrast)

    def _choose(self, kind: str) -> Part:
        parts = [part for part in load_parts() if part.kind == kind]
        return parts[int(self._random.integers(len(parts)))]

    def _point(self, index: np.ndarray, weight: np.ndarray) -> int:
        share = weight * self._skeleton.area_mm2[index]
        return int(self._random.choice(index, p=share / share.sum()))

    def _keep(self, spot: Spot | None) -> None:
        if spot is not None and len(self.spots) < MAX_SPOTS:
            self.spots.append(spot)

    def _whole(self, kind: str, chosen: np.ndarray, contrast: float) -> None:
        if len(chosen):
            self._keep(self._grower.spot(len(self.spots) + 1, kind, chosen, contrast, contrast - 1.0))

    def _at_part(self, kind: str) -> None:
        part = self._choose(kind)
        # The middle of a joint rather than its rim.
        seed_point = self._point(part.index, part.weight**3)
        length = draw_log_normal(self._random, self._priors.benign_length_mm)
        self._keep(
            self._grower.grow(
                len(self.spots) + 1, kind=kind, seed_point=seed_point, length_mm=length, contrast=self._contrast()
            )
        )

    def _endplate(self) -> None:
        """A band along the upper or lower rim of a vertebral body, often of one side."""
        part = self._choose("endplate")
        chosen = part.index[part.weight > 0.4]
        side = self._random.choice([-1.0, 0.0, 1.0])
        x = self._skeleton.points[chosen, 0]
        self._whole("endplate", chosen[side * x > -6.0], self._contrast())

    def _compression(self) -> None:
        """A collapsed vertebra: a horizontal band through its body."""
        part = self._choose("body")
        z = self._skeleton.points[part.index, 2]
        level = z.min() + self._random.uniform(0.3, 0.7) * np.ptp(z)
        flat = (np.abs(z - level) < FLAT_MM) & (part.weight > 0.5)
        self._whole("compression_fracture", part.index[flat], self._contrast())

    def _rib_fractures(self) -> None:
        """2 to 5 neighbouring ribs under each other, as a fall breaks them."""
        side = str(self._random.choice(["left", "right"]))
        first, count = int(self._random.integers(3, 8)), int(self._random.integers(2, 6))
        depth = self._random.uniform(0.15, 0.9)
        for number in range(first, min(first + count, 12)):
            rib = self._bone(f"rib_{number}_{side}")
            y = self._anatomy.points[rib, 1]
            seed_point = int(rib[np.abs(y - (y.min() + depth * np.ptp(y))).argmin()])
            self._keep(
                self._grower.grow(
                    len(self.spots) + 1,
                    kind="rib_fracture",
                    seed_point=seed_point,
                    length_mm=self._random.uniform(*FRACTURE_MM),
                    contrast=1.3 * self._contrast(),
                )
            )

    def _paget(self) -> None:
        """A whole bone, evenly."""
        kind = str(self._random.choice(PAGET_BONES))
        names = [name for name in self._skeleton.names if name.startswith(kind)]
        self._whole("paget", self._bone(str(self._random.choice(names))), self._random.uniform(2.5, 6.0))

    def _osteoarthropathy(self) -> None:
        """Both shafts of thigh and shin: the surface all around, as lung cancer may bring it."""
        contrast = float(self._random.uniform(2.0, 4.0))
        for part in load_parts():
            if part.kind in ("tibial_shaft", "lower_shaft"):
                self._whole("osteoarthropathy", part.index[part.weight > 0.3], contrast)

    def _prosthesis(self) -> None:
        """Bone that metal has replaced, and a worn rim on one side of it."""
        part = self._choose(str(self._random.choice(["hip_joint", "knee", "shoulder"], p=[0.5, 0.4, 0.1])))
        chosen = part.index[part.weight > self._random.uniform(0.25, 0.45)]
        spot = self._grower.spot(len(self.spots) + 1, "prosthesis", chosen, 1.0 + COLD_GAIN, COLD_GAIN)
        self._keep(spot)
        rim = part.index[(part.weight > 0.08) & (part.weight < 0.25)]
        if len(rim) > 20:
            self._whole("prosthesis_rim", rim, self._random.uniform(1.5, 3.5))

    def _surgery_gap(self) -> None:
        """A piece of rib, or the back of a vertebra, taken away."""
        part = self._choose(str(self._random.choice(["rib_side", "rib_back", "spinous"])))
        chosen = part.index[part.weight > 0.3]
        self._keep(self._grower.spot(len(self.spots) + 1, "surgery_gap", chosen, 1.0 + COLD_GAIN, COLD_GAIN))

    def _bone(self, name: str) -> np.ndarray:
        return np.flatnonzero(self._skeleton.bone == self._skeleton.names.index(name))

    def _soft_spots(self, kind: str) -> None:
        """Balls of activity outside bone: where depends on the kind."""
        for centre, stretch in self._soft_places(kind):
            radius = self._random.uniform(*SOFT_RADIUS_MM[kind])
            contrast = float(np.exp(self._random.uniform(*np.log(SOFT_CONTRAST[kind]))))
            offset = self._random.uniform(-1.0, 1.0, size=(BALL_POINTS, 3))
            offset = offset[np.linalg.norm(offset, axis=1) < 1.0] * radius * np.array(stretch)
            pixel = float(np.ptp(self._anatomy.points[:, 0]) / np.ptp(self._anatomy.column))
            reference = self._anatomy
            volume = 4.0 / 3.0 * np.pi * radius**3 * float(np.prod(stretch))
            point = int(np.linalg.norm(reference.points - centre, axis=1).argmin())
            beside = centre - reference.points[point]
            self._keep(
                Spot(
                    id=len(self.spots) + 1,
                    kind=kind,
                    bone="soft_tissue",
                    size_mm=round(2.0 * radius * max(stretch), 1),
                    contrast=round(contrast, 3),
                    cold_centre=False,
                    cluster=None,
                    position=centre + offset,
                    row=reference.row[point] - (beside[2] + offset[:, 2]) / pixel,
                    column=reference.column[point] + (beside[0] + offset[:, 0]) / pixel,
                    activity=np.full(len(offset), contrast * self._soft * volume / len(offset)),
                )
            )

    def _soft_places(self, kind: str) -> list[tuple[np.ndarray, tuple[float, float, float]]]:
        """Centres, mm, and how the ball is stretched along x, y, z."""
        random, points = self._random, self._anatomy.points
        side = str(random.choice(["left", "right"]))
        sign = 1.0 if side == "left" else -1.0

        def end(name: str, share: float) -> np.ndarray:
            bone = points[self._bone(name)]
            level = bone[:, 2].max() - share * np.ptp(bone[:, 2])
            return np.asarray(bone[np.abs(bone[:, 2] - level) < 8.0].mean(axis=0))

        if kind == "thyroid_cartilage":
            middle = points[self._skeleton.of("cervical_spine")].mean(axis=0) + np.array([0.0, -45.0, -20.0])
            return [(middle + np.array([x, 0.0, 0.0]), (0.7, 0.7, 1.4)) for x in (-9.0, 9.0)]
        if kind == "breast":
            middle = points[self._bone(f"rib_5_{side}")].mean(axis=0)
            return [(np.array([middle[0] + sign * 10.0, middle[1] - 75.0, middle[2] - 10.0]), (1.2, 0.4, 1.0))]
        if kind == "hydronephrosis":
            lumbar = points[self._bone("lumbar_1")].mean(axis=0)
            return [(lumbar + np.array([sign * 48.0, 5.0, -10.0]), (0.8, 0.7, 1.2))]
        if kind == "urine":
            low = points[self._skeleton.of("hip")][:, 2].min()
            count = int(random.integers(1, 4))
            spread = random.normal(0.0, (30.0, 10.0, 25.0), (count, 3))
            return [(np.array([0.0, 130.0, low - 15.0]) + drop, (1.0, 0.6, 1.5)) for drop in spread]
        elbow, wrist = end(f"ulna_{side}", 0.1), end(f"ulna_{side}", 0.95)
        start = elbow if random.uniform() < 0.5 else wrist
        places = [(start + np.array([0.0, -16.0, 0.0]), (1.0, 1.0, 1.0))]
        if random.uniform() < 0.3:  # tracer left in the vein above
            shoulder = end(f"humerus_{side}", 0.3)
            places += [(elbow + share * (shoulder - elbow), (0.4, 0.4, 3.0)) for share in (0.3, 0.7)]
        return places


def draw_benign(
    skeleton: Skeleton,
    anatomy: Anatomy,
    activity: np.ndarray,
    soft: float,
    priors: LesionPriors,
    *,
    seed: int,
    index: int,
) -> list[Spot]:
    """A Poisson number of every kind of `priors.benign_rates`; both sides of worn joints often together."""
    random = stream(seed, index, "benign")
    patient = _Benign(skeleton, anatomy, activity, soft, priors, random)
    for kind, rate in priors.benign_rates.items():
        for _ in range(int(random.poisson(rate))):
            patient.add(kind)
    return patient.spots
