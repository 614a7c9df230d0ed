"""`WS /v1/visits/live`: events of visits as they come, one JSON message each (`persons.events.VisitEvent`).

It begins with what comes next, and a client that lags misses the oldest: `/v1/visits/changes` misses nothing. Tokens,
origins, the audit log and the limit of clients are those of `/v1/live`.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, WebSocket
from starlette.websockets import WebSocketDisconnect

from edge_stscq.protocol import DEVICE_NAME
from edge_stscq.server.api.live import FAILED, SEND_SECONDS, SLOW, ConnectionLimit, Shown, attend, check_origin
from edge_stscq.server.auth.audit_log import AuditTrail
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.persons.events import VisitEvent
from edge_stscq.server.persons.people import People


def routes(guard: Guard, people: People, connections: ConnectionLimit, trail: AuditTrail) -> APIRouter:
    router, reads = APIRouter(prefix="/v1"), Depends(guard.require(Scope.READ))

    @router.websocket("/visits/live")
    async def live(
        socket: WebSocket,
        device: Annotated[str | None, Query(pattern=rf"^{DEVICE_NAME}$")] = None,
        principal: Principal = reads,
    ) -> None:
        check_origin(socket)
        if device is not None:
            principal.check_device(device)
        async with connections.hold():
            shown = Shown(socket, principal, trail, "WS /v1/visits/live")
            events = people.events.follow(device or principal.only_device)
            await attend(socket, guard, shown, _send(socket, events, shown))

    return router


async def _send(socket: WebSocket, events: AsyncIterator[list[VisitEvent]], shown: Shown) -> tuple[int, str]:
    try:
        async for some in events:
            for event in some:
                async with asyncio.timeout(SEND_SECONDS):
                    await socket.send_text(event.model_dump_json())
                if event.face is not None and not await shown.add(event.face):
                    return FAILED, "the audit log cannot be written now; come back later"
    except TimeoutError:
        return SLOW, "too slow; see /v1/visits/changes for what was missed"
    except WebSocketDisconnect:
        pass
    return 0, ""
