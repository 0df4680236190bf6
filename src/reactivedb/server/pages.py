"""Which files does a browser get: the application's own folder, and our module?

Everything here lies below all API routes. Files are sent with an ETag and `no-cache`, so a browser asks
each time and an edited page shows at once. A path never leaves its folder, through `..` or a symbolic
link, and names that begin with a dot are not served.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

_OWN_FILES: Final = Path(__file__).parent / "static"
_READ_METHODS: Final = ["GET", "HEAD"]
# Linux opens no longer one; each folder in it is looked up.
_PATH_LENGTH_MAX: Final = 4_096


class Pages:
    """The static routes; the folder is asked for each time, because a reload may change it."""

    def __init__(self, static_dir: Callable[[], Path | None]) -> None:
        self._static_dir = static_dir

    def routes(self) -> list[Route]:
        return [
            Route("/reactivedb.js", self.browser_module, methods=_READ_METHODS),
            Route("/{path:path}", self.file, methods=_READ_METHODS),
        ]

    async def browser_module(self, request: Request) -> Response:
        return await _file(_OWN_FILES, "reactivedb.js", request)

    async def file(self, request: Request) -> Response:
        directory = self._static_dir()
        path: str = request.path_params["path"]
        if len(path) > _PATH_LENGTH_MAX or any(part.startswith(".") for part in path.split("/")):
            raise HTTPException(404)
        if directory is not None:
            return await _file(directory, path, request)
        if path == "":
            return PlainTextResponse("reactivedb is running; this application has no `static` folder\n")
        raise HTTPException(404)


async def _file(directory: Path, path: str, request: Request) -> Response:
    response = await _files_in(directory).get_response(path or ".", request.scope)
    response.headers["cache-control"] = "no-cache"
    return response


@lru_cache(maxsize=8)
def _files_in(directory: Path) -> StaticFiles:
    return StaticFiles(directory=directory, html=True, check_dir=False)
