"""A page without a network: a model whose marks are known, a desk, a client that holds the key."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from msanet_jax.trained.model import Model
from msanet_jax.web.desk import Desk
from msanet_jax.web.routes import create_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # newer versions prefer another client, which older ones do not know
    from starlette.testclient import TestClient

PORT = 8000


def _share_of_the_maximum(fields: np.ndarray) -> np.ndarray:
    return (0.99 * fields / fields.max()).astype(np.float32)


MODEL = Model(
    _share_of_the_maximum,
    "thorax",
    256,
    0.5,
    1,
    {"checkpoint": "fake", "step": 7, "dataset": "phantom_bone/tiny", "config_sha256": "0"},
)


@dataclasses.dataclass(frozen=True)
class Page:
    """A client below the token, and the desk behind it."""

    client: TestClient
    desk: Desk

    def announce(self, sizes: Mapping[str, int], **options: Any) -> dict[str, Any]:
        answer = self.client.post("drops", json={"files": list(sizes.items()), **options})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def drop(self, files: Mapping[str, bytes], **options: Any) -> dict[str, Any]:
        """Uploads, waits and returns the drop's state."""
        made = self.announce({name: len(content) for name, content in files.items()}, **options)
        for index, content in zip(made["files"], files.values(), strict=True):
            if index is not None:
                assert self.client.put(f"drops/{made['drop']}/files/{index}", content=content).status_code == 204
        assert self.client.post(f"drops/{made['drop']}/start").status_code == 204
        return self.wait(made["drop"])

    def state(self, number: int) -> dict[str, Any]:
        return next(drop for drop in self.client.get("state").json()["drops"] if drop["number"] == number)

    def wait(self, number: int, *states: str) -> dict[str, Any]:
        """The drop's state once it is one of `states`, else over."""
        for _ in range(3000):
            state = self.state(number)
            if state["state"] in (states or ("done", "cancelled")):
                return state
            time.sleep(0.01)
        raise AssertionError(state)


@pytest.fixture
def models() -> Any:
    """What `Models` is to a desk; tests may change its `loaded`."""
    offered = SimpleNamespace(names=["fake"], loaded=MODEL)
    offered.load = lambda number: offered.loaded
    return offered


@pytest.fixture
def page(models: Any, tmp_path: Path) -> Iterator[Page]:
    """A page whose files are at most 1 MiB."""
    folder = tmp_path / "visit"
    folder.mkdir()
    with Desk(models, folder, limit=1 << 20) as desk:
        app = create_app(desk, token="key", port=PORT)
        with TestClient(app, base_url=f"http://127.0.0.1:{PORT}/key/") as client:
            yield Page(client, desk)
