"""Huge pages for the memory of large arrays, and keeping it: on a CPU a quarter of a training step goes into faults.

XLA takes its working memory anew for every step and the C library returns it to the system after it, so that every step
touches hundreds of megabytes for the first time, 4 kB at a time. glibc can ask for pages of 2 MB instead and keep what
was freed for the next step, but only by a variable that it reads when the process starts.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping

from msanet_jax.runtime.stopping import hold_signals

VARIABLE = "GLIBC_TUNABLES"
KEPT_BYTES = 2**35
"""Allocations below are taken from memory that the process keeps; 32 GiB is more than any."""

SETTING = f"glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={KEPT_BYTES}:glibc.malloc.trim_threshold={KEPT_BYTES}"


def environment_with_huge_pages(environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment to start again with, or None where nothing is to be gained: not glibc, or settled already."""
    tunables = environment.get(VARIABLE, "")
    if platform.libc_ver()[0] != "glibc" or "glibc.malloc.hugetlb" in tunables:
        return None
    return {**environment, VARIABLE: f"{tunables}:{SETTING}" if tunables else SETTING}


def restart_with_huge_pages() -> None:
    """Starts this very command again with the variable set, once; returns where that changes nothing.

    Call it first thing in a program, before large libraries are loaded.
    """
    environment = environment_with_huge_pages(os.environ)
    if environment is not None:
        hold_signals()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
