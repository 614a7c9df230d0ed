"""The HTTP and WebSocket routes, one module for each resource, and the JSON models that they answer with.

    POST /v1/frames              a stream (file header and frames); acknowledged once on disk
    GET  /v1/faces               what is stored, page by page, by `?device=`, `?since=` and `?until=` if given
    GET  /v1/faces/{id}.png      a face, decoded from all its layers or from `?layers=N`
    POST /v1/match               the stored faces most like one
    GET  /v1/devices             what each device has sent, and when
    WS   /v1/live                faces as they come
    WS   /v1/visits/live         visits as they begin, and who of the watch list is seen
    GET  /v1/models              the models whose frames are accepted
    GET  /                       the gallery page
    GET  /metrics                for Prometheus
    GET  /openapi.json           the routes, for programs
    GET  /health, /ready         for supervisors and balancers; never ask for a token

Each module makes routers from what they need. A route names the scope of the token it asks for as a dependency:
`Depends(guard.require(Scope.READ))`.
"""
