"""Records: enrolled, renewed and revoked, each change in the order in which a failure leaves nothing half done.

A template goes to the server before its key is written, so a record that has a key has a template; a template without a
key is worth nothing, to us or to anybody. A revoked key is gone before its template, which may stay if the server does
not answer.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError
from edge_stscq.matcher.template_source import SourceError, TemplateSource
from edge_stscq.privacy import FaceTemplate, RecordKey, TemplateMatcher


class Changed(NamedTuple):
    """Result of a change: the face of the new template, those erased from the server, and those still to be erased."""

    face: str | None
    erased: list[str]
    left: list[str]


class Records:
    """Records of one matcher and the server that keeps their templates; for many threads."""

    def __init__(self, matcher: TemplateMatcher, source: TemplateSource) -> None:
        self._matcher, self._source = matcher, source

    def enroll(self, record: str, embedding: NDArray[np.float32], model_id: bytes) -> Changed:
        """A new record, with a fresh key in the first key store, and its template at the server.

        Raises:
            EdgeError: the record has a key already, or is no name; the embedding is no unit vector; the server does not
                take the template. Nothing is written then.
        """
        first, *others = self._matcher.ring.stores
        if any(record in store for store in others):
            raise EdgeError(f"record {record!r} has a key already; renew or revoke it")
        return self._replace(lambda: first.issuing(record), embedding, model_id, [])

    def renew(self, record: str, embedding: NDArray[np.float32], model_id: bytes) -> Changed:
        """A fresh key and a fresh template in place of a record's; the old template matches no more.

        Raises:
            EdgeError: the record has no key; otherwise as `enroll`.
        """
        self._matcher.refresh()
        held, old = self._matcher.held_key(record), self._matcher.of_record(record)
        return self._replace(lambda: held.store.renewing(record), embedding, model_id, old)

    def revoke(self, record: str) -> Changed:
        """Delete a record's key, then its templates.

        Raises:
            EdgeError: it has none.
        """
        self._matcher.refresh()
        held, old = self._matcher.held_key(record), self._matcher.of_record(record)
        held.store.revoke(record)
        self._matcher.refresh()
        return self._erased(None, old)

    def _replace(
        self, writing: Callable[[], AbstractContextManager[RecordKey]], embedding: NDArray[np.float32], model_id: bytes,
        old: Iterable[str],
    ) -> Changed:  # fmt: skip
        scheme = self._matcher.scheme
        scheme.check(embedding)
        face = None
        try:
            with writing() as key:
                template = scheme.enroll(embedding, key)
                face = self._source.send(template, model_id)
        except EdgeError:
            if face is not None:
                with suppress(SourceError):
                    self._source.erase(face)
            raise
        self._matcher.refresh()
        self._matcher.put([FaceTemplate(face, template, model_id, self._source.device)])
        return self._erased(face, old)

    def _erased(self, face: str | None, old: Iterable[str]) -> Changed:
        changed = Changed(face, [], [])
        for one in old:
            try:
                self._source.erase(one)
            except SourceError:
                changed.left.append(one)
            else:
                changed.erased.append(one)
                self._matcher.remove([one])
        return changed
