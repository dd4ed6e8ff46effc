"""Compiled programs are kept where the user says, or in the home, or nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from msanet_jax.runtime.compile_cache import VARIABLE, keep_compiled_programs


def _homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("named", ["", "/elsewhere"])
@pytest.mark.parametrize("home", [lambda: Path("/home/somebody"), _homeless])
def test_a_user_without_home_keeps_none(named: str, home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if named:
        monkeypatch.setenv(VARIABLE, named)
    monkeypatch.setattr(Path, "home", home)
    keep_compiled_programs()
    assert os.environ.get(VARIABLE, "") == (named or ("" if home is _homeless else "/home/somebody/.cache/msanet_jax"))
    monkeypatch.delenv(VARIABLE, raising=False)
