"""The gallery page at `/` and its parts under `/page`.

The page holds nothing secret and asks for no token; what it shows comes from the same routes that programs use, with
the token that the operator enters.
"""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

PAGE = Path(__file__).parents[1] / "page"


def add_page(app: FastAPI) -> None:
    """Serve the page and its parts."""

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    def get_page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
