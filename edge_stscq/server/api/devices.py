"""The page at `/`, and the health of devices that it shows.

The page holds nothing secret and asks for no token; what it shows comes from the same routes that programs use, with
the token that the operator enters.
"""

from datetime import UTC, datetime
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from edge_stscq.server.api.schemas import DeviceInfo, DeviceList
from edge_stscq.server.auth.audit_log import annotate
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.tokens import Scope
from edge_stscq.server.storage.device_stats import DeviceStatsCache

PAGE = Path(__file__).parents[1] / "page"


def add_page(app: FastAPI) -> None:
    """Serve the page at `/` and its parts under `/page`."""

    @app.get("/", include_in_schema=False)
    def get_page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))


def device_routes(guard: Guard, device_stats: DeviceStatsCache) -> APIRouter:
    router, reads = APIRouter(prefix="/v1"), Depends(guard.require(Scope.READ))

    @router.get("/devices")
    def list_devices(request: Request, principal: Principal = reads) -> DeviceList:
        counted, found = device_stats.get(principal.only_device)
        annotate(request, count=len(found))
        devices = [
            DeviceInfo(
                device=stats.device, faces=stats.faces, bytes=stats.bytes,
                last_received=datetime.fromtimestamp(stats.last_received, UTC),
                faces_last_hour=stats.recent_faces, bytes_last_hour=stats.recent_bytes,
            )
            for stats in found
        ]  # fmt: skip
        return DeviceList(time=datetime.fromtimestamp(counted, UTC), devices=devices)

    return router
