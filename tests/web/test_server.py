"""The page in a cell of a notebook."""

from __future__ import annotations

import sys
import types
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import IPython.display
import pytest

from msanet_jax.web import server


@pytest.mark.parametrize("colab", [True, False])
def test_the_page_in_a_cell(models: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, colab: bool) -> None:
    """Colab shows a port of the kernel through its proxy, Jupyter an address; `close` leaves nothing of either."""
    frames: list[tuple[str, int]] = []

    def framed(port: int, *, path: str, height: int) -> None:
        frames.append((f"http://127.0.0.1:{port}{path}", height))

    monkeypatch.setattr(server, "Models", lambda paths: models)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(IPython.display, "display", lambda frame: frames.append((frame.src, frame.height)))
    module = types.ModuleType("google.colab")
    module.output = types.SimpleNamespace(serve_kernel_port_as_iframe=framed)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", module if colab else None)
    with server.show_in_notebook(height_px=700):
        ((address, height),) = frames
        assert height == 700 and len(list(tmp_path.iterdir())) == 1
        for host, status in (("x.colab.googleusercontent.com", 200), ("x.colab.dev", 200), ("evil.example", 403)):
            with _asked(address, host) as answer:
                assert answer.status == status
                assert "x-frame-options" not in answer.headers or status == 403
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(urllib.error.URLError, match="refused"):
        _asked(address, "127.0.0.1")


@pytest.mark.parametrize("installed", [True, False])
def test_on_a_hub_the_page_is_reached_through_its_proxy(
    models: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], installed: bool
) -> None:
    """The browser runs on another machine than the page: 127.0.0.1 leads nowhere there."""
    frames: list[str] = []
    monkeypatch.setattr(server, "Models", lambda paths: models)
    monkeypatch.setattr(IPython.display, "display", lambda frame: frames.append(frame.src))
    monkeypatch.setitem(sys.modules, "google.colab", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: installed or None)
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ann/")
    with server.show_in_notebook():
        told = capsys.readouterr().out
        if not installed:
            assert frames == [] and told.count("\n") == 1
            assert "pip install jupyter-server-proxy" in told and "ssh -L" in told
            return
        assert told == ""
        prefix, port, token = frames[0].removeprefix("/user/ann/").strip("/").split("/")
        assert prefix == "proxy"
        for path, status in ((f"{token}/", 200), ("state", 404)):
            with _asked(f"http://127.0.0.1:{port}/{path}", "hub.example") as answer:
                assert answer.status == status


def _asked(address: str, host: str) -> Any:
    try:
        return urllib.request.urlopen(urllib.request.Request(address, headers={"Host": host}))
    except urllib.error.HTTPError as error:
        return error
