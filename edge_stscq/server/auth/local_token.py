"""Token of a server's own machine, made at the first start: the page and the commands there are let in with it.

It opens everything, as whoever may start the server could. Its text stands in `local-token` beside the tokens, readable
by the server's user alone; it can be revoked as any other, and is not made again.
"""

import getpass
from dataclasses import dataclass
from pathlib import Path

from edge_stscq._files import refuse_shared_file, write_file
from edge_stscq.server.auth.audit_log import annotate_command
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import ANY_DEVICE, TokenStore

NAME = "local-token"


@dataclass(frozen=True, slots=True)
class LocalToken:
    """Text of the token and the file where it stands."""

    text: str
    file: Path


def local_server_token(tokens: TokenStore, name: str = NAME) -> LocalToken | None:
    """The token of this machine; made if there was never any token, None if it was revoked or other tokens were made.

    Args:
        name: of its file; a matcher beside a server has one of its own.

    Raises:
        EdgeError: its file cannot be written, or others can read it.
    """
    file = tokens.path.with_name(name)
    if not tokens.any_made():
        made, text = tokens.create(ANY_DEVICE, Scope, owner=f"{_user()} on this machine")
        annotate_command("token create", made.id, made.device, " ".join(made.scopes))
        write_file(file, f"{text}\n".encode(), private=True)
        return LocalToken(text, file)
    refuse_shared_file(file, "the token of this machine")
    try:
        text = file.read_text("utf-8").strip()
    except OSError:
        return None
    return LocalToken(text, file) if tokens.find(text) else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return "the user"
