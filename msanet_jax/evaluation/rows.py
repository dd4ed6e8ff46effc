"""Records of images or lesions, one after the other, of which a large number lies on disk."""

from __future__ import annotations

import array
import copyreg
import pickle
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from msgspec import UNSET, UnsetType

T = TypeVar("T")
MEMORY_BYTES = 1 << 22
"""Records above it go to a temporary file, which nobody else can open."""


def _unset() -> UnsetType:
    return UNSET


def _reduced(value: UnsetType) -> tuple[Any, ...]:
    return _unset, ()


# By itself it has no module, and pickle looks through all modules for it: 6 ms a record.
copyreg.pickle(UnsetType, _reduced)


class Rows(Sequence[T], Generic[T]):
    """Records that are written as they come and read back when they are asked for; none is kept.

    Example:
      >>> rows = Rows()
      >>> rows.append({"tp": 3})
      >>> len(rows), rows[-1], list(rows)
      (1, {'tp': 3}, [{'tp': 3}])
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115 - it is closed with this object
        self._begins = array.array("q", [0])
        weakref.finalize(self, self._file.close)

    def append(self, row: T) -> None:
        """Writes the next record."""
        self._file.seek(self._begins[-1])
        pickle.dump(row, self._file, pickle.HIGHEST_PROTOCOL)
        self._begins.append(self._file.tell())

    def __len__(self) -> int:
        return len(self._begins) - 1

    @overload
    def __getitem__(self, number: int) -> T: ...
    @overload
    def __getitem__(self, number: slice) -> list[T]: ...
    def __getitem__(self, number: int | slice) -> T | list[T]:
        chosen = range(len(self))[number]
        return self._read(chosen) if isinstance(chosen, int) else [self._read(one) for one in chosen]

    def __iter__(self) -> Iterator[T]:
        return map(self._read, range(len(self)))

    def __repr__(self) -> str:
        return repr([*self])

    def _read(self, number: int) -> T:
        begin, end = self._begins[number : number + 2]
        self._file.seek(begin)
        row: T = pickle.loads(self._file.read(end - begin))
        return row
