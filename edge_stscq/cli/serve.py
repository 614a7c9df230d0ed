"""`edge-stscq serve`: the decode service, in one process."""

import contextlib
import socket
from pathlib import Path
from typing import Annotated, Literal

import typer


def serve(
    model: Annotated[Path, typer.Option(help="Folder of the model whose frames are accepted.")],
    store: Annotated[Path, typer.Option(help="SQLite file of the accepted frames; made if absent.")] = Path("faces.db"),
    host: Annotated[str, typer.Option(help="Address to listen on; a public one needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8377,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="cuda decodes in bfloat16.")] = "cpu",
    token: Annotated[
        str | None, typer.Option(envvar="EDGE_STSCQ_TOKEN", help="Bearer token that every /v1 route asks for.")
    ] = None,
) -> None:
    """Accept frames, store them and answer with faces."""
    from edge_stscq.errors import require

    uvicorn = require("uvicorn", "server")
    require("fastapi", "server")
    from pydantic import SecretStr

    from edge_stscq.server.settings import ServerSettings

    secret = None if token is None else SecretStr(token)
    settings = ServerSettings(model=model, store=store, host=host, port=port, device=device, token=secret)
    with contextlib.closing(_listen(host, port)) as listener:
        from edge_stscq.server.app import create_app

        app = create_app(settings)
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{listener.getsockname()[1]}"
        service = app.state.service
        typer.echo(f"serving {service.config.name} {service.model_id.hex()} on {url} ({device}), faces in {store}")
        config = uvicorn.Config(app, log_level="warning", server_header=False, access_log=False)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that a taken port is one clear line and port 0 can be named."""
    from edge_stscq.errors import EdgeError

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise EdgeError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port") from None
