"""The line that says where a server is, once it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_stscq.server.settings import ServerSettings


@dataclass(frozen=True)
class Announcement:
    """Where a server is and what it serves.

    Attributes:
        models: name by model id, in hexadecimal digits.
        store: without a password.
        decoders: fewest and most decoders on Ray; None in one process.
        token: that opens it on this machine, if one was made.
        token_file: where it stands.
    """

    url: str
    models: Mapping[str, str]
    accelerator: str
    store: str
    decoders: tuple[int, int] | None = None
    token: str | None = None
    token_file: str | None = None

    def __str__(self) -> str:
        names = ", ".join(f"{name} {model_id}" for model_id, name in self.models.items())
        ray = "" if self.decoders is None else ", {} to {} decoders on Ray".format(*self.decoders)
        return f"serving {names} on {self.url} ({self.accelerator}{ray}), faces in {self.store}"

    def page(self, with_token: bool) -> str:
        """Line about the page: its address with the token in the fragment, which no browser sends; or the token's file.

        Args:
            with_token: True where nobody keeps what is printed.
        """
        if self.token is None:
            return f"the page: {self.url}/ (asks for a token; see: edge-stscq token create)"
        if with_token:
            return f"the page: {self.url}/#token={self.token}"
        return f"the page: {self.url}/ (asks for a token; this machine's is in {self.token_file})"


Announce = Callable[[Announcement], None]


def server_url(settings: ServerSettings, port: int, tls: bool) -> str:
    """Address of a server at its host and a port."""
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if tls else 'http'}://{name}:{port}"
