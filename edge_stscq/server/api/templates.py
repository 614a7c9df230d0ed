"""`GET /v1/templates`: protected templates for a matcher, which follows them as they come and go.

A page looks at `limit` changes of the store, of whatever kind, so that its work is bounded; it may be empty and not the
last. Whoever has the last one's `next` asks again from there. A scope of its own opens it: a matcher needs no face that
is not protected, and whoever sees faces needs no template.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from edge_stscq.protocol import MAX_SEQUENCE, TEMPLATES_PATH
from edge_stscq.server.api.schemas import ErrorAnswer, TemplateInfo, TemplatePage
from edge_stscq.server.auth.audit_log import annotate, faces_shown, suppress
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.storage.face_store import ErasedFace, FaceStore, StoredFace, undamaged


def routes(guard: Guard, store: FaceStore) -> APIRouter:
    router = APIRouter(responses={"4XX": {"model": ErrorAnswer}})
    takes = Depends(guard.require(Scope.TEMPLATES))

    @router.get(TEMPLATES_PATH)
    def list_templates(
        request: Request,
        after: Annotated[int, Query(ge=0, le=MAX_SEQUENCE)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        principal: Principal = takes,
    ) -> TemplatePage:
        """List changes after revision `after`, at most `limit` of them looked at."""
        changes = store.changes(after, limit, principal.only_device)
        found = [face for face in changes if isinstance(face, StoredFace) and face.protected]
        if found:
            annotate(request, after=after, count=len(found), faces=faces_shown(face.id for face in found))
        else:
            suppress(request)  # a matcher asks every second, and was shown nothing
        return TemplatePage(
            templates=[TemplateInfo.of(face) for face in undamaged(found)],
            erased=[face.id for face in changes if isinstance(face, ErasedFace)],
            next=changes[-1].revision if changes else after, complete=len(changes) < limit,
        )  # fmt: skip

    return router
