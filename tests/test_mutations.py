"""The list of faults fits the code; `python -m tests.mutations` runs it."""

from __future__ import annotations

import ast
import functools
from collections import Counter

from tests.mutations import REPOSITORY, read_mutations


@functools.cache
def _parsed(file: str) -> ast.Module:
    return ast.parse((REPOSITORY / file).read_text())


def test_each_fault_fits_its_file() -> None:
    dumps = {file: ast.dump(_parsed(file)) for file in {mutation.file for mutation in read_mutations()}}
    for mutation in read_mutations():
        faulty = mutation.mutated((REPOSITORY / mutation.file).read_text())
        assert ast.dump(ast.parse(faulty)) != dumps[mutation.file], mutation.name


def test_each_fault_names_tests_that_exist() -> None:
    for mutation in read_mutations():
        assert mutation.tests, mutation.name
        for node in mutation.tests:
            file, *path = node.split("[")[0].split("::")
            scope = _parsed(file).body
            for name in path:
                found = [
                    part for part in scope if isinstance(part, ast.ClassDef | ast.FunctionDef) and part.name == name
                ]
                assert len(found) == 1, f"{mutation.name}: {node}"
                scope = found[0].body


def test_no_two_faults_share_a_name() -> None:
    assert [name for name, count in Counter(m.name for m in read_mutations()).items() if count > 1] == []


def test_there_are_enough_faults() -> None:
    assert len(read_mutations()) >= 150
