"""Reader of the tokens for an event loop: files are touched in threads, so that one that hangs holds up nobody else.

Whoever shows a token waits for a look at the file's date that begins after that, and while the file is read anew;
probes and the page, which need none, do not.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from edge_stscq.server.auth.tokens import Token, TokenStore, today
from edge_stscq.server.write_queue import GroupCommitQueue

AT_ONCE = 1000
"""Tokens that one look at the file is for, at most."""


class TokenReader:
    """Reads `tokens`, which it closes with itself."""

    def __init__(self, tokens: TokenStore) -> None:
        self._tokens = tokens
        self._reader: GroupCommitQueue[str, Token | None] = GroupCommitQueue(self._find_all, AT_ONCE, "tokens")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="token-use")
        self._noted: dict[str, str] = {}

    async def find(self, plain: str) -> Token | None:
        """The valid token that `plain` is, or None.

        Raises:
            StoreError: the file was changed, and cannot be read now; or it is gone.
        """
        return await self._reader.submit(plain)

    def _find_all(self, plains: Sequence[str]) -> list[Token | None]:
        self._tokens.refresh()
        return list(map(self._tokens.known, plains))

    def note_use(self, token: Token) -> None:
        """Have the day of a token's use written down, once a day; nobody waits for it."""
        day = today()
        if token.used != day and self._noted.get(token.id) != day:
            self._noted[token.id] = day
            self._writer.submit(self._tokens.note_use, token)

    def close(self) -> None:
        self._reader.close()
        self._writer.shutdown(wait=False, cancel_futures=True)
        self._tokens.close()
