"""The one restart with huge pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from msanet_jax.runtime.huge_pages import SETTING, VARIABLE, environment_with_huge_pages

GLIBC = platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not GLIBC, reason="glibc only")
def test_asks_once_and_keeps_other_settings() -> None:
    first = environment_with_huge_pages({"PATH": "x", VARIABLE: "glibc.malloc.check=1"})
    assert first == {"PATH": "x", VARIABLE: f"glibc.malloc.check=1:{SETTING}"}
    assert environment_with_huge_pages(first) is None
    assert environment_with_huge_pages({VARIABLE: "glibc.malloc.hugetlb=0"}) is None


@pytest.mark.skipif(not GLIBC, reason="glibc only")
def test_restarts_the_same_command() -> None:
    program = (
        "import os, sys; from msanet_jax.runtime.huge_pages import restart_with_huge_pages; restart_with_huge_pages(); "
        f"print(os.environ['{VARIABLE}'], sys.argv[1:], sys.flags.dont_write_bytecode)"
    )
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    command = [sys.executable, "-B", "-c", program, "--a=1", "b c"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.strip() == f"{SETTING} ['--a=1', 'b c'] 1"
