"""Rectangles on a scan: cut out, laid back, and put on another grid."""

from __future__ import annotations

import dataclasses

import numpy as np


def paste(patch: np.ndarray, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """Lays `patch` on zeros of `shape`: the inverse of `fields.cut` where window and image overlap."""
    image = np.zeros(shape, patch.dtype)
    row, column = max(window.row, 0), max(window.column, 0)
    inside = patch[row - window.row :, column - window.column :][: max(shape[0] - row, 0), : max(shape[1] - column, 0)]
    image[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return image


@dataclasses.dataclass(frozen=True)
class ThoraxBox:
    """A square in scan pixels; it may reach beyond the image, where the crop is zero.

    Attributes:
      row: of its first row.
      column: of its first column.
      size_px: its side.
    """

    row: int
    column: int
    size_px: int


def crop(image: np.ndarray, box: ThoraxBox) -> np.ndarray:
    """Cuts the box out of `image` [rows, columns]: [size, size] of the same type, zero beyond the image."""
    patch = np.zeros((box.size_px, box.size_px), image.dtype)
    inside, outside = _overlap(box, image.shape)
    patch[inside] = image[outside]
    return patch


def _overlap(box: ThoraxBox, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the common part, in the box and in the image."""
    inside, outside = [], []
    for start, length in zip((box.row, box.column), shape, strict=True):
        first, last = max(start, 0), min(start + box.size_px, length)
        last = max(first, last)
        inside.append(slice(first - start, last - start))
        outside.append(slice(first, last))
    return (inside[0], inside[1]), (outside[0], outside[1])


def area_weights(old: int, new: int) -> np.ndarray:
    """[new, old]: the share of every old pixel that falls into every new one; columns sum to 1."""
    edges_new = np.linspace(0.0, old, new + 1)
    edges_old = np.arange(old + 1.0)
    upper = np.minimum(edges_new[1:, None], edges_old[None, 1:])
    lower = np.maximum(edges_new[:-1, None], edges_old[None, :-1])
    return np.clip(upper - lower, 0.0, None)


@dataclasses.dataclass(frozen=True)
class Window:
    """A rectangle in scan pixels; it may reach beyond the image, where there is nothing.

    Attributes:
      row: of its first row.
      column: of its first column.
      rows: its height.
      columns: its width.
    """

    row: int
    column: int
    rows: int
    columns: int


def cut(image: np.ndarray, window: Window) -> np.ndarray:
    """The window of `image` [rows, columns], zero beyond the image."""
    patch = np.zeros((window.rows, window.columns), image.dtype)
    inside, outside = [], []
    for start, length, limit in (
        (window.row, window.rows, image.shape[0]),
        (window.column, window.columns, image.shape[1]),
    ):
        first, last = max(start, 0), max(min(start + length, limit), max(start, 0))
        inside.append(slice(first - start, last - start))
        outside.append(slice(first, last))
    patch[inside[0], inside[1]] = image[outside[0], outside[1]]
    return patch
