"""Route of the devices: what each has sent, and when."""

from fastapi import APIRouter, Depends, Request

from edge_stscq.server.api.schemas import DeviceInfo, DeviceList, moment
from edge_stscq.server.auth.audit_log import annotate
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.storage.device_stats import DeviceStatsCache


def routes(guard: Guard, device_stats: DeviceStatsCache) -> APIRouter:
    router, reads = APIRouter(prefix="/v1"), Depends(guard.require(Scope.READ))

    @router.get("/devices")
    def list_devices(request: Request, principal: Principal = reads) -> DeviceList:
        counted, found = device_stats.get(principal.only_device)
        annotate(request, count=len(found))
        devices = [
            DeviceInfo(
                device=stats.device, faces=stats.faces, bytes=stats.bytes,
                last_received=moment(stats.last_received),
                faces_last_hour=stats.recent_faces, bytes_last_hour=stats.recent_bytes,
            )
            for stats in found
        ]  # fmt: skip
        return DeviceList(time=moment(counted), devices=devices)

    return router
