"""The server that ingest is measured against: same framework, same database settings, and no idea what it stores.

    python -m benchmarks.server.blob_server PLACE          prints its address, and serves until it is told to end

It takes the requests of `POST /v2/frames`, keeps each body as one blob in one row, and acknowledges after the commit.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import typer
import uvicorn
from fastapi import FastAPI, Request
from sqlalchemy import Column, Double, Integer, LargeBinary, MetaData, Table, Text

from edge_stscq.protocol import STREAMS_PATH, StreamAcknowledgement
from edge_stscq.server.storage.database import Database, store_url
from edge_stscq.server.storage.tables import LAYOUT

metadata = MetaData()
blobs = Table(
    "blobs", metadata,
    Column("id", Integer, primary_key=True), Column("device", Text), Column("first", Integer),
    Column("received", Double), Column("body", LargeBinary),
)  # fmt: skip


def opaque_app(place: str) -> FastAPI:
    """The application; `place` is what a store may be."""
    database = Database(store_url(place), LAYOUT)
    with database.write() as db:
        metadata.create_all(db)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        database.close()

    app = FastAPI(lifespan=lifespan)

    def keep(body: bytes) -> None:
        with database.write() as db:
            db.execute(blobs.insert(), [{"device": "cam", "first": 0, "received": time.time(), "body": body}])

    @app.post(STREAMS_PATH)
    async def post(request: Request) -> StreamAcknowledgement:
        await asyncio.to_thread(keep, await request.body())
        return StreamAcknowledgement(device="cam", count=1, stored=1, extended=0, duplicate=0)

    return app


def main(place: str) -> None:
    """Serve on a free port of this machine."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=2048)) as listener:
        config = uvicorn.Config(opaque_app(place), log_level="warning", server_header=False, access_log=False)
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    typer.run(main)
