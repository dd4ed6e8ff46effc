"""Starts the page: on this machine alone, at an address that holds a random key."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import socket
import tempfile
import threading
import time
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import RequestError
from msanet_jax.web.desk import FORGET_AFTER_S, Desk
from msanet_jax.web.model_choice import Models
from msanet_jax.web.visit_folder import visit_folder

HOST = "127.0.0.1"
_NOTEBOOK_PROXIES = (".googleusercontent.com", ".colab.dev", ".colab.googleusercontent.com")
_START_SECONDS_MAX = 30.0


def serve(
    models: Sequence[Path], *, port: int = 0, open_page: bool = True, forget_after_s: float = FORGET_AFTER_S
) -> None:
    """Serves until it is stopped; the private folder is gone then.

    Args:
      models: folders of trainings or files of `msanet export`, to choose from; none for the packaged model.
      port: of 127.0.0.1; 0 for a free one.
      open_page: whether the browser opens it.
      forget_after_s: scans are forgotten when no page has been open for so long.

    Raises:
      RequestError: no such model, or the port is taken.
    """
    offered = Models(models)
    with (
        visit_folder() as folder,
        _unpacking_in(folder),
        Desk(offered, folder, forget_after_s=forget_after_s) as desk,
        _listening(port) as listening,
    ):
        server, address = _server(desk, listening)
        # A pipe would hold it back otherwise.
        print(f"{address}\nOpen this address on this machine. Ctrl-C ends the visit and removes the scans.", flush=True)
        if open_page:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        server.run(sockets=[listening])


@contextlib.contextmanager
def served(models: Models, folder: Path, *, proxies: tuple[str, ...] = (), **options: Any) -> Iterator[str]:
    """Serves from another thread while the context lasts; yields the address.

    Args:
      models: to choose from.
      folder: a private one.
      proxies: see `guard.Guard`.
      **options: of `Desk`.
    """
    with Desk(models, folder, **options) as desk, _listening(0) as listening:
        server, address = _server(desk, listening, proxies)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until = time.monotonic() + _START_SECONDS_MAX
        while not server.started and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join()


def show_in_notebook(models: Sequence[Path] = (), *, height_px: int = 900) -> contextlib.ExitStack:
    """Shows the page below a cell of Colab or Jupyter, and returns what ends it: `.close()`.

    On a JupyterHub the browser runs on another machine than the page: jupyter-server-proxy leads there. Where it is not
    installed, a line says what to do.

    Args:
      models: see `serve`.
      height_px: of the frame.
    """
    hub = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    stack = contextlib.ExitStack()
    folder = stack.enter_context(visit_folder())
    # The hub lets nobody in but its user, under a name that only it knows.
    proxies = ("",) if hub else _NOTEBOOK_PROXIES
    address = stack.enter_context(served(Models(models), folder, proxies=proxies))
    port, path = int(address.split(":")[2].split("/")[0]), "/" + address.split("/", 3)[3]
    try:
        from google.colab import output
    except ImportError:
        _show_frame(address, port, path, hub, height_px)
    else:
        output.serve_kernel_port_as_iframe(port, path=path, height=height_px)
    return stack


def _show_frame(address: str, port: int, path: str, hub: str, height_px: int) -> None:
    from IPython.display import IFrame, display

    tunnel = f"ssh -L {port}:127.0.0.1:{port} HOST on your own machine, then open {address} there"
    if not hub:
        print(f"No page below? The notebook runs on another machine: {tunnel}.")
    elif importlib.util.find_spec("jupyter_server_proxy") is None:
        print(
            "The page runs on the hub's machine, which your browser does not reach: pip install jupyter-server-proxy, "
            f"restart your server and run this cell again. Or: {tunnel}."
        )
        return
    shown = f"{hub.rstrip('/')}/proxy/{port}{path}" if hub else address
    display(IFrame(shown, width="100%", height=height_px))


def _server(desk: Desk, listening: socket.socket, proxies: tuple[str, ...] = ()) -> tuple[Any, str]:
    """A uvicorn server and the address with its token."""
    import uvicorn

    from msanet_jax.web.routes import create_app

    token, port = secrets.token_urlsafe(24), listening.getsockname()[1]
    app = create_app(desk, token=token, port=port, proxies=proxies)
    # The log of accesses would hold the token; open connections must not keep the server from ending.
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=3, lifespan="off")
    return uvicorn.Server(config), f"http://{HOST}:{port}/{token}/"


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    try:
        with socket.create_server((HOST, port)) as listening:
            yield listening
    except OSError as error:
        raise RequestError(f"--port={port}: cannot be used ({error.strerror}); choose another, or 0") from None


@contextlib.contextmanager
def _unpacking_in(folder: Path) -> Iterator[None]:
    """Archives are unpacked within the private folder, so that a crash leaves nothing of them either."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
