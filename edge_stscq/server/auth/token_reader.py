"""Reader of the tokens for an event loop: files are touched in threads, so that a locked one holds up nobody else.

Requests that need a token wait while the file is read anew; probes and the page, which need none, do not.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from edge_stscq.server.auth.tokens import Token, TokenStore, today


class TokenReader:
    """Reads `tokens`, which it closes with itself."""

    def __init__(self, tokens: TokenStore) -> None:
        self._tokens = tokens
        self._reading: asyncio.Task[None] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="token-use")
        self._noted: dict[str, str] = {}

    async def find(self, plain: str) -> Token | None:
        """The valid token that `plain` is, or None.

        Raises:
            StoreError: the file was changed, and cannot be read now.
        """
        if self._tokens.changed():
            await self._refreshed()
        return self._tokens.known(plain)

    async def _refreshed(self) -> None:
        if (earlier := self._reading) is not None:
            await asyncio.wait({earlier})  # it may have begun before the change
        if self._reading is None or self._reading is earlier:
            self._reading = asyncio.create_task(self._read())
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._reader, self._tokens.refresh)
        finally:
            self._reading = None

    def note_use(self, token: Token) -> None:
        """Have the day of a token's use written down, once a day; nobody waits for it."""
        day = today()
        if token.used != day and self._noted.get(token.id) != day:
            self._noted[token.id] = day
            self._writer.submit(self._tokens.note_use, token)

    def close(self) -> None:
        self._reader.shutdown(wait=False)
        self._writer.shutdown(wait=False, cancel_futures=True)
        self._tokens.close()
