"""Reads what matters for speed from the text of a compiled XLA program: layouts, padding, convolutions, collectives.

A TPU stores an array in tiles, usually of 8 sublanes x 128 lanes: the two fastest-varying dimensions are filled up to
whole tiles, so 24 channels in the lanes take the memory and the time of 128. The compiled text shows it:
`bf16[8,256,256,24]{3,0,2,1:T(8,128)(2,1)}` lists the dimensions from the fastest, then the tile; `S(1)` puts the array
into on-chip memory. Format: openxla.org/xla/tiled_layout and openxla.org/xla/shapes.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

ITEM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8, "s64": 8, "u64": 8}
"""Bytes of an element; 4 for everything else."""

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

ARRAY = re.compile(r"\b([a-z]+[0-9]*)\[([0-9,]*)\](?:\{([0-9,]*)(?::([^}]*))?\})?")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?(%[\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
OPERAND = re.compile(r"%[\w.\-]+")
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "copy-done", "slice-done"}
"""Instructions that move no data of their own."""

DESTINATION = {"copy-start": 0, "slice-start": 1}
"""Which result of an asynchronous move between main and on-chip memory is the destination; it crosses once."""


@dataclasses.dataclass(frozen=True)
class Array:
    """An array as it lies in the device's memory.

    Attributes:
      dtype: XLA's name, e.g. bf16.
      shape: logical sides.
      order: dimensions from the fastest-varying to the slowest.
      tile: sides of a tile, the last one for the fastest dimension; () where the text gives none.
      on_chip: whether it lies outside the main memory.
    """

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    tile: tuple[int, ...]
    on_chip: bool

    @property
    def bytes(self) -> int:
        """Without padding."""
        return math.prod(self.shape) * ITEM_BYTES.get(self.dtype, 4)

    @property
    def padded_bytes(self) -> int:
        """With every tiled dimension filled up to whole tiles."""
        sides = [self.shape[dimension] for dimension in self.order]
        for place, tile in enumerate(reversed(self.tile[: len(sides)] if sides else ())):
            sides[place] = -(-sides[place] // tile) * tile
        return math.prod(sides) * ITEM_BYTES.get(self.dtype, 4)

    @property
    def lane_padding(self) -> float:
        """Lanes taken over lanes used, of the fastest dimension alone: 1 is no waste."""
        if not self.order or not self.tile:
            return 1.0
        side, lanes = self.shape[self.order[0]], self.tile[-1]
        return -(-side // lanes) * lanes / side


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of the program.

    Attributes:
      name: with its percent sign.
      opcode: e.g. convolution.
      results: one array, or several for a tuple.
      operands: names.
      source: where it comes from in the traced program (`op_name`), "" if unknown.
    """

    name: str
    opcode: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    source: str


def parse(text: str) -> Iterator[Instruction]:
    """Every instruction of every computation, in the order of the text."""
    for line in text.splitlines():
        if (match := INSTRUCTION.match(line)) is None:
            continue
        name, results, opcode, rest = match.groups()
        source = re.search(r'op_name="([^"]*)"', rest)
        yield Instruction(
            name=name,
            opcode=opcode,
            results=tuple(_array(found) for found in ARRAY.finditer(results)),
            operands=tuple(OPERAND.findall(rest.split("), ", 1)[0])),
            source=source.group(1) if source else "",
        )


def entry(text: str) -> str:
    """The lines of the entry computation: what the device runs one after the other."""
    begin = text.index("\nENTRY ") + 1
    return text[begin : text.index("\n}", begin)]


def convolutions(text: str) -> list[Instruction]:
    """Convolutions over images, also inside fusions; without matrix products, which a TPU calls convolutions too."""
    return [
        found
        for found in parse(text)
        if found.opcode == "convolution" and len(found.results[0].shape) == 4 and "dot_general" not in found.source
    ]


def collectives(text: str) -> list[Instruction]:
    """All operations between devices; of an asynchronous pair the start."""
    return [found for found in parse(text) if found.opcode.removesuffix("-start") in COLLECTIVES]


def padding(instructions: list[Instruction]) -> float:
    """Bytes taken over bytes used, summed over the results: 1 is no waste."""
    arrays = [array for found in instructions for array in found.results]
    return sum(array.padded_bytes for array in arrays) / max(1, sum(array.bytes for array in arrays))


def traffic_bytes(text: str) -> tuple[int, int]:
    """Main-memory bytes that the entry computation reads and writes: (without padding, with padding).

    Every instruction reads its operands and writes its results once; what lies on the chip and what only renames is
    free. Operands that an instruction reads in part count in full.
    """
    found = list(parse(entry(text)))
    arrays = {instruction.name: instruction.results for instruction in found}
    touched: list[Array] = []
    for instruction in found:
        if instruction.opcode in DESTINATION:
            touched.append(instruction.results[DESTINATION[instruction.opcode]])
        elif instruction.opcode not in FREE:
            operands = (array for name in instruction.operands for array in arrays.get(name, ()))
            touched += [array for array in (*instruction.results, *operands) if not array.on_chip]
    return sum(array.bytes for array in touched), sum(array.padded_bytes for array in touched)


def _array(match: re.Match[str]) -> Array:
    dtype, shape, order, layout = match.groups()
    sides = _numbers(shape)
    tile = re.search(r"T\(([0-9,]+)\)", layout or "")
    return Array(
        dtype=dtype,
        shape=sides,
        order=_numbers(order or "") or tuple(reversed(range(len(sides)))),
        tile=_numbers(tile.group(1)) if tile else (),
        on_chip="S(1)" in (layout or ""),
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)
