"""The addresses below the token; what a page asks, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from data_pipeline.errors import RequestError
from msanet_jax.web import live_pages
from msanet_jax.web.desk import Desk
from msanet_jax.web.downloads import KINDS, patient_file, scratch, write_archive
from msanet_jax.web.drops import Drop, State
from msanet_jax.web.guard import Application, Guard
from msanet_jax.web.uploads import write_stream
from msanet_jax.web.visit import Study

router = APIRouter()
Found = TypeVar("Found")


class Announcement(BaseModel):
    """What a page is about to upload.

    Attributes:
      files: path within what was dropped, and size in bytes.
      model: number of the model.
      earlier: whether these are earlier scans of the same patients.
    """

    files: list[tuple[str, int]]
    model: int = 0
    earlier: bool = False


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    desk.asked()
    return desk


def _scratch(request: Request) -> Iterator[Path]:
    with scratch(request.app.state.desk.visit) as folder:
        yield folder


TheDesk = Annotated[Desk, Depends(_desk)]
Scratch = Annotated[Path, Depends(_scratch)]
Threshold = Annotated[float | None, Query(gt=0.0, lt=1.0)]


def create_app(desk: Desk, *, token: str, port: int, proxies: tuple[str, ...] = ()) -> Application:
    """The guarded application; see `guard.Guard` for the arguments."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = desk
    app.include_router(router, prefix=f"/{token}")
    # FastAPI's own answer quotes what was sent, which JSON may not be able to say.
    app.add_exception_handler(
        RequestValidationError, lambda request, error: PlainTextResponse("not what this address takes\n", 422)
    )
    app.add_exception_handler(RequestError, lambda request, error: PlainTextResponse(f"{error}\n", 400))
    return Guard(app, token=token, port=port, proxies=proxies)


@router.get("/", response_class=HTMLResponse)
def home(desk: TheDesk) -> str:
    """The page on which scans are dropped."""
    return live_pages.home_page(desk)


@router.get("/rows", response_class=HTMLResponse)
def rows(desk: TheDesk) -> str:
    """The rows of its list, as they are now."""
    return live_pages.home_rows(desk.visit)


@router.get("/state")
def state(desk: TheDesk) -> dict[str, Any]:
    """How far every drop is; `version` changes when the list does."""
    return {"version": desk.visit.version, "drops": [drop.shown() for drop in desk.drops.values()]}


@router.post("/drops")
def announce(desk: TheDesk, announcement: Announcement) -> JSONResponse:
    """Takes a list of files; the answer has a number for each that may be sent."""
    drop, numbers = desk.take(announcement.files, model=announcement.model, earlier=announcement.earlier)
    return JSONResponse({"drop": drop.number, "files": numbers}, 201)


@router.put("/drops/{number}/files/{index}", status_code=204)
async def upload(desk: TheDesk, number: int, index: int, request: Request) -> Response:
    """The bytes of an announced file."""
    drop = _drop(desk, number)
    if drop.state != State.UPLOADING or not 0 <= index < len(drop.uploads):
        raise HTTPException(409, "this drop takes no such file")
    entry = drop.uploads[index]

    async def chunks() -> Any:
        async for chunk in request.stream():
            drop.touched_now()
            if drop.cancelled.is_set():
                raise ClientDisconnect
            yield chunk

    try:
        await write_stream(chunks(), drop.place(entry), name=entry.name, limit=desk.limit)
    except RequestError as error:
        drop.failures.append(str(error))
        # The rest of the body is not read.
        return PlainTextResponse(f"{error}\n", 413, headers={"Connection": "close"})
    except ClientDisconnect:
        return Response(status_code=499)
    entry.done = True
    return Response(status_code=204)


@router.post("/drops/{number}/start", status_code=204)
def start(desk: TheDesk, number: int) -> None:
    """All files were sent."""
    desk.start(_drop(desk, number))


@router.delete("/drops/{number}", status_code=204)
def cancel(desk: TheDesk, number: int) -> None:
    """Nothing more of a drop is wanted."""
    desk.cancel(_drop(desk, number))


@router.delete("/scans", status_code=204)
def clear(desk: TheDesk) -> None:
    """Forgets everything."""
    desk.clear()


@router.get("/results.zip")
def everything(desk: TheDesk, folder: Scratch) -> FileResponse:
    """All patients as one zip, a folder per model where there are several."""
    groups: dict[str, list[Any]] = {}
    for scans in desk.visit.patients().values():
        for kept in scans:
            groups.setdefault(desk.models.names[kept.model] if len(desk.models.names) > 1 else "", []).append(kept)
    if not groups:
        raise RequestError("there is nothing yet; drop scans first")
    with desk.drawing:
        path = write_archive(desk.visit, groups, None, folder, "msanet_results")
    return FileResponse(path, filename=path.name)


@router.get("/patients/{key}", response_class=HTMLResponse)
def patient(desk: TheDesk, key: str, threshold: Threshold = None) -> str:
    """A patient's page."""
    return live_pages.patient_view(desk.visit, _study(desk, key, threshold), threshold)


@router.get("/patients/{key}/findings", response_class=HTMLResponse)
def findings(desk: TheDesk, key: str, threshold: Threshold = None) -> str:
    """A patient's figures and lesions at a threshold."""
    return live_pages.findings(_study(desk, key, threshold))


@router.get("/patients/{key}/files/{kind}")
def files(desk: TheDesk, key: str, kind: str, folder: Scratch, threshold: Threshold = None) -> FileResponse:
    """A patient's results as a file."""
    scans = _found(lambda: desk.visit.patients()[key])
    _found(lambda: KINDS[kind])
    with desk.drawing:
        path = patient_file(desk.visit, scans, kind, threshold, folder)
    return FileResponse(path, filename=path.name)


@router.get("/scans/{stem}/picture")
def picture(desk: TheDesk, stem: str) -> Response:
    """The small picture of a scan."""
    return Response(_found(lambda: desk.visit.picture(desk.visit.kept(stem).stem)), media_type="image/png")


@router.get("/scans/{stem}/pixels")
def pixels(desk: TheDesk, stem: str) -> Response:
    """Counts (int32) and probability (float32) of a scan, little-endian, row by row, one after the other."""
    result = desk.visit.load(_found(lambda: desk.visit.kept(stem)))
    content = result.scan.counts.astype("<i4").tobytes() + result.probability.astype("<f4").tobytes()
    return Response(content, media_type="application/octet-stream")


def _drop(desk: Desk, number: int) -> Drop:
    return _found(lambda: desk.drops[number])


def _study(desk: Desk, key: str, threshold: float | None) -> Study:
    return _found(lambda: desk.visit.study(key, threshold))


def _found(look: Callable[[], Found]) -> Found:
    try:
        return look()
    except (KeyError, FileNotFoundError):
        raise HTTPException(404, "not here any more; go back to the first page") from None
