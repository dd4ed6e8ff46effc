"""Rebuilds skeleton.npz from the PyPI package myo-sim: `python -m data_pipeline.phantom.rebuild_skeleton`.

Needs the extra `[skeleton]` (myo-sim 0.2.4, Apache-2.0, and mujoco). The rib cage mesh is split by connected
components into 24 ribs and the sternum with its cartilage; a heart-like part and tiny fragments are dropped. Hand and
wrist bones, far finer than a gamma camera sees, are reduced to convex hulls. NOTICE names the sources.
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import myo_sim
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull

from data_pipeline.phantom.skeleton import UNIT_MM

HULL_GRID_MM = 3.0
STERNUM_HALF_WIDTH_MM = 23.0
KEPT_WHOLE = ("skull", "jaw", "cervical_spine", "scapula", "foot", "bofoot", "costal_cartilage", "sternum")

Mesh = tuple[np.ndarray, np.ndarray]
"""Vertices `[n, 3]` in mm and faces `[m, 3]`."""

RENAMED = {
    "hat_cervical": "cervical_spine",
    "hat_jaw": "jaw",
    "hat_skull": "skull",
    "sacrum_geom_1_sacrum": "sacrum",
    "r_pelvis": "hip_right",
    "l_pelvis": "hip_left",
}


def bone_meshes() -> dict[str, Mesh]:
    """All bones by name, in mm: x to the patient's left, y to the back, z up."""
    model, data = myo_sim.load("myofullbody")[:2]
    mujoco.mj_forward(model, data)
    bones: dict[str, Mesh] = {}
    for geom in range(model.ngeom):
        if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_MESH:
            continue
        mesh = model.geom_dataid[geom]
        raw = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_MESH, mesh)
        first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        rotation = data.geom_xmat[geom].reshape(3, 3)
        vertices = (model.mesh_vert[first : first + count] @ rotation.T + data.geom_xpos[geom]) * 1000.0
        first, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        faces = np.array(model.mesh_face[first : first + count])
        if "ribcage" in raw:
            bones |= split_rib_cage((vertices, faces))
        else:
            bones[bone_name(raw)] = (vertices, faces)
    # The source stands 25 mm beside the origin.
    middle = np.array([np.mean([bones[f"femur_{side}"][0][:, 0].mean() for side in ("right", "left")]), 0.0, 0.0])
    return {name: reduced(name, (vertices - middle, faces)) for name, (vertices, faces) in bones.items()}


def bone_name(raw: str) -> str:
    """Anatomical name with `_left` or `_right` from the source's mesh name."""
    if raw in RENAMED:
        return RENAMED[raw]
    for part in ("lumbar", "thoracic"):
        if part in raw:
            return f"{part}_{raw.split(part)[-1].removesuffix('_s')}"
    if raw[:2] in ("r_", "l_"):
        return f"{raw[2:]}_{'right' if raw[0] == 'r' else 'left'}"
    return f"{raw[:-2]}_{'right' if raw.endswith('_r') else 'left'}"


def split_rib_cage(mesh: Mesh) -> dict[str, Mesh]:
    """24 ribs by side and height, sternum and costal cartilage; everything else is dropped."""
    vertices, faces = mesh
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(vertices), len(vertices)))
    _, label = connected_components(graph, directed=False)
    parts = []
    for component in range(label.max() + 1):
        chosen = label[faces[:, 0]] == component
        if 80 <= chosen.sum() <= 2000:
            parts.append(compacted(vertices, faces[chosen]))
    front = max(parts, key=lambda part: len(part[1]))
    ribs = [part for part in parts if part is not front]
    middle = 0.5 * (vertices[:, 0].min() + vertices[:, 0].max())
    bones: dict[str, Mesh] = {}
    for side, sign in (("right", -1.0), ("left", 1.0)):
        ours = [part for part in ribs if sign * (part[0][:, 0].mean() - middle) > 0]
        # The posterior end, at the spine, orders the ribs.
        ours.sort(key=lambda part: -part[0][part[0][:, 1].argmax(), 2])
        if len(ours) != 12:
            raise ValueError(f"expected 12 ribs on the {side}, found {len(ours)}: another version of myo-sim?")
        bones |= {f"rib_{number}_{side}": part for number, part in enumerate(ours, start=1)}
    centre = np.abs(front[0][front[1]].mean(axis=1)[:, 0] - middle) < STERNUM_HALF_WIDTH_MM
    bones["sternum"] = compacted(front[0], front[1][centre])
    bones["costal_cartilage"] = compacted(front[0], front[1][~centre])
    return bones


def compacted(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """Only the vertices that `faces` use."""
    used, inverse = np.unique(faces, return_inverse=True)
    return vertices[used], inverse.reshape(faces.shape)


def reduced(name: str, mesh: Mesh) -> Mesh:
    """Small bones of hand and wrist become convex hulls of their vertices on a 3 mm grid."""
    vertices = mesh[0]
    if len(vertices) < 700 or name.startswith(KEPT_WHOLE):
        return mesh
    grid = np.unique(np.round(vertices / HULL_GRID_MM), axis=0) * HULL_GRID_MM
    return compacted(grid, ConvexHull(grid).simplices)


def main() -> None:
    """Writes skeleton.npz beside this file and prints its size."""
    bones = bone_meshes()
    names = sorted(bones)
    offsets = np.cumsum([0, *(len(bones[name][0]) for name in names)])
    path = Path(__file__).with_name("skeleton.npz")
    np.savez_compressed(
        path,
        names=np.array(names),
        vertex_counts=np.array([len(bones[name][0]) for name in names], np.int32),
        face_counts=np.array([len(bones[name][1]) for name in names], np.int32),
        vertices=np.concatenate([np.round(bones[n][0] / UNIT_MM) for n in names]).astype(np.int16),
        faces=np.concatenate([bones[n][1] for n in names]).astype(np.uint16),
    )
    print(f"{path}: {len(names)} bones, {offsets[-1]} vertices, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
