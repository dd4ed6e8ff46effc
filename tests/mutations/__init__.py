"""Faults of one place each, and the tests that see them: `python -m tests.mutations` puts each in and runs them.

Every `*.toml` beside this file is an area, a list of `[[mutation]]`: `name` (unique), `file`, `before` (occurs once in
the file), `after`, `tests` (files or node ids) and, where no test can see the fault, `survives` with the reason.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parent.parent


@dataclass(frozen=True)
class Mutation:
    """One fault: in `file`, `before` becomes `after`, and one of `tests` fails."""

    area: str
    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    survives: str = ""

    def mutated(self, text: str) -> str:
        """The file's text with the fault in.

        Raises:
            ValueError: `before` does not occur exactly once in `text`.
        """
        if (count := text.count(self.before)) != 1:
            raise ValueError(f"{self.area}.toml, {self.name}: `before` occurs {count} times in {self.file}, not once")
        return text.replace(self.before, self.after)

    def is_named_by(self, prefix: str) -> bool:
        """Whether its name, file, module or area begins with `prefix`."""
        return any(text.startswith(prefix) for text in (self.name, self.file, Path(self.file).stem, self.area))


def read_mutations() -> list[Mutation]:
    """The faults of all areas, in the order of the files."""
    return [
        Mutation(area=path.stem, **{**entry, "tests": tuple(entry["tests"])})
        for path in sorted(FOLDER.glob("*.toml"))
        for entry in tomllib.loads(path.read_text()).get("mutation", [])
    ]
