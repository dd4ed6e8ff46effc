"""Four simulated CPU devices for every test, settled before JAX starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import pytest
from ml_collections import ConfigDict

from configs.msanet import get_config

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
# Queued iterations on simulated devices can starve a collective; see msanet_jax/training/devices.py.
jax.config.update("jax_cpu_enable_async_dispatch", False)
# Programs run a few times here: compiling them well takes longer than running them badly. Processes that tests start
# compile as users' processes do, and so do the tests that ask for `optimized`.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def optimized() -> Iterator[None]:
    """Programs are compiled as users' programs are."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A program that several tests need is compiled by the first of them, in each process of pytest or for longer."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(tmp_path_factory.mktemp("compiled"))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where phantom_bone/tiny is built, once for all tests that need it: the second process of pytest waits for it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "data"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium; tests that ask for it are skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    arguments = (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "disable-gpu",
        "disable-background-networking",
        "window-size=1280,900",
        f"user-data-dir={profile}",
    )
    for argument in arguments:
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    driven = webdriver.Chrome(options=options, service=service)
    yield driven
    driven.quit()


@pytest.fixture
def small_config() -> ConfigDict:
    """`small_recipe`, for one test to change."""
    return small_recipe()


def small_recipe() -> ConfigDict:
    """A recipe whose networks compile in seconds, without dropout, so that devices and runs can be compared."""
    config = get_config("smoke")
    config.data.image_size_px = 16
    config.generator.depth = 2
    config.generator.cascade_dilations = (1, 2)
    config.generator.multi_scale_dilations = (1, 2)
    config.generator.dropout_rate = 0.0
    config.discriminator.depth = 2
    config.adversary.pyramid_levels = 2
    config.train.batch_size = 8
    return config
