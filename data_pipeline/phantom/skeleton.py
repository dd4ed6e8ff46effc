"""The reference skeleton as a cloud of points on and in its bones, each with its bone's name.

The asset holds meshes of 127 bones (NOTICE). A gamma camera blurs by 7 mm and more, so points 2.5 mm apart with their
share of the surface as weight carry everything it can see, and deforming a patient is arithmetic on one array. Bodies
of vertebrae and ends of long bones are filled with points as well: their spongy bone takes up tracer.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from data_pipeline.phantom.priors.uptake import FILLED

UNIT_MM = 0.5
"""Resolution of the stored coordinates."""
SPACING_MM = 2.5
SAMPLE_MM = 1.4
FILL_MM = 4.0
"""Step of the lattice of points within bones."""

FILL_SHIFT_MM = 0.37
"""Keeps the lattice off the plane of symmetry, where two points of the surface are equally near."""

FILL_BELOW_MM = 1.0


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Points on all bone surfaces, and within the bones of `FILLED`.

    Attributes:
      points: `[n, 3]` float64 mm; x to the patient's left, y to the back, z up; midline at x = 0, soles near z = 60.
      normals: `[n, 3]` float64, outward where the mesh is closed.
      area_mm2: `[n]` float64, surface that each point stands for; of inner points, the surface with as much tracer.
      bone: `[n]` int16 index into `names`.
      names: bone names with `_left` / `_right`; ribs and vertebrae numbered from the top.
      inner: `[n]` bool, points within a bone.
    """

    points: np.ndarray
    normals: np.ndarray
    area_mm2: np.ndarray
    bone: np.ndarray
    names: tuple[str, ...]
    inner: np.ndarray

    def of(self, *prefixes: str) -> np.ndarray:
        """`[n]` bool: points of the bones whose names begin with one of `prefixes`."""
        chosen = np.array([name.startswith(prefixes) for name in self.names])
        return chosen[self.bone]


@functools.cache
def load_skeleton() -> Skeleton:
    """Samples the shipped meshes; the same arrays in every process."""
    with np.load(Path(__file__).with_name("skeleton.npz")) as asset:
        names = tuple(str(name) for name in asset["names"])
        vertices = asset["vertices"].astype(np.float64) * UNIT_MM
        faces = asset["faces"].astype(np.int64)
        vertex_counts, face_counts = asset["vertex_counts"], asset["face_counts"]
    first_vertex = np.concatenate([[0], np.cumsum(vertex_counts)])
    bone = np.repeat(np.arange(len(names)), face_counts)
    corners = vertices[faces + first_vertex[bone][:, None]]
    points, normals, area, owner = _sample(corners, bone)
    return _filled(_merge(points, normals, area, owner, names))


def _filled(shell: Skeleton) -> Skeleton:
    """Adds a lattice within the bones of `FILLED`: a point is inside where the nearest piece of surface faces away."""
    points, bones, areas = [shell.points], [shell.bone], [shell.area_mm2]
    for number, name in enumerate(shell.names):
        rule = next((FILLED[prefix] for prefix in FILLED if name.startswith(prefix)), None)
        if rule is None:
            continue
        own = shell.bone == number
        surface, normals = shell.points[own], shell.normals[own]
        low, high = surface.min(axis=0), surface.max(axis=0)
        axes = [np.arange(low[i] + FILL_SHIFT_MM, high[i], FILL_MM) for i in range(3)]
        lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        share = np.minimum(lattice[:, 2] - low[2], high[2] - lattice[:, 2]) / (high[2] - low[2])
        lattice = lattice[share <= rule.ends]
        _, nearest = cKDTree(surface).query(lattice)
        inside = ((lattice - surface[nearest]) * normals[nearest]).sum(axis=1) < -FILL_BELOW_MM
        points.append(lattice[inside])
        bones.append(np.full(inside.sum(), number, np.int16))
        areas.append(np.full(inside.sum(), rule.share * FILL_MM**3))
    count = sum(map(len, points))
    return dataclasses.replace(
        shell,
        points=np.concatenate(points),
        normals=np.concatenate([shell.normals, np.zeros((count - len(shell.points), 3))]),
        area_mm2=np.concatenate(areas),
        bone=np.concatenate(bones),
        inner=np.arange(count) >= len(shell.points),
    )


def _sample(corners: np.ndarray, bone: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centres of equal sub-triangles with edges of at most `SAMPLE_MM`."""
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = 0.5 * np.linalg.norm(cross, axis=1)
    longest = np.max([np.linalg.norm(corners[:, i] - corners[:, i - 1], axis=1) for i in range(3)], axis=0)
    divisions = np.maximum(1, np.ceil(longest / SAMPLE_MM)).astype(int)
    points, normals, areas, owners = [], [], [], []
    for count in np.unique(divisions):
        chosen = np.flatnonzero((divisions == count) & (area > 0))
        weights = _barycentric_centres(int(count))
        points.append(np.einsum("kc,ncx->nkx", weights, corners[chosen]).reshape(-1, 3))
        unit = cross[chosen] / (2.0 * area[chosen, None])
        normals.append(np.repeat(unit, len(weights), axis=0))
        areas.append(np.repeat(area[chosen] / len(weights), len(weights)))
        owners.append(np.repeat(bone[chosen], len(weights)))
    return np.concatenate(points), np.concatenate(normals), np.concatenate(areas), np.concatenate(owners)


def _barycentric_centres(count: int) -> np.ndarray:
    """`[count^2, 3]` barycentric centres of the sub-triangles of a triangle whose edges are cut into `count`."""
    i, j = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    upright = i + j < count
    flipped = i + j < count - 1
    first = np.concatenate([i[upright] + 1 / 3, i[flipped] + 2 / 3]) / count
    second = np.concatenate([j[upright] + 1 / 3, j[flipped] + 2 / 3]) / count
    return np.stack([1.0 - first - second, first, second], axis=1)


def _merge(
    points: np.ndarray, normals: np.ndarray, area: np.ndarray, owner: np.ndarray, names: tuple[str, ...]
) -> Skeleton:
    """One point per bone and cell of `SPACING_MM`: area-weighted centre and normal, summed area."""
    cell = np.floor((points - points.min(axis=0)) / SPACING_MM).astype(np.int64)
    extent = cell.max(axis=0) + 1
    key = ((owner * extent[0] + cell[:, 0]) * extent[1] + cell[:, 1]) * extent[2] + cell[:, 2]
    unique, inverse = np.unique(key, return_inverse=True)
    total = np.bincount(inverse, weights=area)

    def mean(values: np.ndarray) -> np.ndarray:
        columns = [np.bincount(inverse, weights=area * values[:, axis]) / total for axis in range(3)]
        return np.stack(columns, axis=1)

    direction = mean(normals)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-6
    bone = unique // (extent[0] * extent[1] * extent[2])
    return Skeleton(
        points=mean(points),
        normals=direction,
        area_mm2=total,
        bone=bone.astype(np.int16),
        names=names,
        inner=np.zeros(len(total), bool),
    )
