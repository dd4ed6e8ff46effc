"""Rectangles on a scan: cut out, laid back, and put on another grid."""

from __future__ import annotations

import dataclasses

import numpy as np

Slices = tuple[slice, slice]


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

    def overlap(self, shape: tuple[int, ...]) -> tuple[Slices, Slices]:
        """Slices of what the window and an image of `shape` have in common: in the window, and in the image."""
        row, column = max(self.row, 0), max(self.column, 0)
        last_row = max(min(self.row + self.rows, shape[0]), row)
        last_column = max(min(self.column + self.columns, shape[1]), column)
        return (
            (slice(row - self.row, last_row - self.row), slice(column - self.column, last_column - self.column)),
            (slice(row, last_row), slice(column, last_column)),
        )


@dataclasses.dataclass(frozen=True)
class ThoraxBox:
    """A square in scan pixels; it may reach beyond the image.

    Attributes:
      row: of its first row.
      column: of its first column.
      size_px: its side.
    """

    row: int
    column: int
    size_px: int

    @property
    def window(self) -> Window:
        """The same as a window."""
        return Window(self.row, self.column, self.size_px, self.size_px)


def cut(image: np.ndarray, window: Window) -> np.ndarray:
    """The window of `image` [rows, columns], zero beyond the image."""
    patch = np.zeros((window.rows, window.columns), image.dtype)
    inside, outside = window.overlap(image.shape)
    patch[inside] = image[outside]
    return patch


def crop(image: np.ndarray, box: ThoraxBox) -> np.ndarray:
    """The box of `image` [rows, columns]: [size, size] of the same type, zero beyond the image."""
    return cut(image, box.window)


def paste(patch: np.ndarray, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """Lays `patch` on zeros of `shape`: the inverse of `cut` where window and image overlap."""
    image = np.zeros(shape, patch.dtype)
    inside, outside = window.overlap(shape)
    image[outside] = patch[inside]
    return image


def area_weights(old: int, new: int) -> np.ndarray:
    """[new, old]: the share of every old pixel that falls into every new one; columns sum to 1."""
    edges_new = np.linspace(0.0, old, new + 1)
    edges_old = np.arange(old + 1.0)
    upper = np.minimum(edges_new[1:, None], edges_old[None, 1:])
    lower = np.maximum(edges_new[:-1, None], edges_old[None, :-1])
    return np.clip(upper - lower, 0.0, None)
