"""Templates of many records with their keys expanded, matched 1 to 1 and 1 to N.

Templates come in any order, before or after their keys: what has no key, is of another scheme or was changed since it
was made is held, counted and never matched, and `verify` says why. Whoever can read the memory of this has the faces.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError
from edge_stscq.privacy.growing_rows import GrowingRows
from edge_stscq.privacy.key_ring import HeldKey, KeyRing
from edge_stscq.privacy.scheme import Scheme, read_template

_WITHOUT_KEY, _REFUSED = "without key", "refused"


class FaceTemplate(NamedTuple):
    """A template as a store has it.

    Attributes:
        face: name there.
        model_id: 8 bytes, of the tokens it was made of.
        device: that captured the face.
        captured: when, if that is known.
    """

    face: str
    template: bytes
    model_id: bytes
    device: str = ""
    captured: datetime | None = None


class TemplateHit(NamedTuple):
    """A template that is like an embedding, the record of its key, and the scheme's score."""

    face: str
    record: str
    device: str
    captured: datetime | None
    score: float


class TemplateMatcher:
    """Empty at first; for many threads.

    Args:
        scheme: of all that is matched: scores of two schemes do not compare.
        ring: keys; it is this matcher's alone.

    Example:
        >>> matcher = TemplateMatcher(scheme_named("rotated"), KeyRing([keys]))
        >>> matcher.put([FaceTemplate("door-1-42", template, bundle.frames.model_id)])
        >>> matcher.match(embedding, bundle.frames.model_id)[0].score
        0.83
    """

    def __init__(self, scheme: Scheme[Any], ring: KeyRing) -> None:
        self.scheme, self.ring = scheme, ring
        self._lock, self._refreshing = threading.RLock(), threading.Lock()
        self._held: dict[str, FaceTemplate] = {}
        self._of_key: dict[bytes, dict[str, None]] = defaultdict(dict)  # in the order they came
        self._rows: dict[bytes, GrowingRows] = defaultdict(GrowingRows)
        self._unmatched: dict[str, str] = {}
        self.refresh()

    def __len__(self) -> int:
        """Templates that can be matched."""
        return sum(map(len, self._rows.values()))

    @property
    def unmatched(self) -> Counter[str]:
        """Templates that are held and not matched: `without key`, or `refused` (another scheme, or changed)."""
        with self._lock:
            return Counter(self._unmatched.values())

    @property
    def memory(self) -> int:
        """Bytes of the expanded templates."""
        return sum(rows.bytes for rows in self._rows.values())

    def faces(self) -> set[str]:
        """Names of all that is held."""
        with self._lock:
            return set(self._held)

    def put(self, templates: Iterable[FaceTemplate]) -> None:
        """Take in templates; one of a name that is held takes its place."""
        for one in templates:
            with self._lock:
                if self._held.get(one.face) == one:
                    continue
                self._remove(one.face)
                self._held[one.face] = one
                if (key_id := _key_id(one)) is not None:
                    self._of_key[key_id][one.face] = None
                self._expand(one)

    def remove(self, faces: Iterable[str]) -> None:
        """Forget templates; names that are not held are no matter."""
        for face in faces:
            with self._lock:
                self._remove(face)

    def refresh(self) -> None:
        """Read the key stores again, if they have changed: what was revoked is matched no more.

        Raises:
            EdgeError: a key store cannot be read; what was read of it before stays.
        """
        with self._refreshing:
            news = self.ring.look()
            with self._lock:
                self._take(self.ring.take(news))

    def _take(self, key_ids: Iterable[bytes]) -> None:
        """Match by keys that came, and no more by keys that went."""
        for key_id in key_ids:
            for face in self._of_key.get(key_id, ()):
                one = self._held[face]
                self._rows[one.model_id].remove(face)
                self._expand(one)

    def match(
        self, embedding: NDArray[np.float32], model_id: bytes, limit: int = 10, device: str | None = None
    ) -> list[TemplateHit]:
        """The templates most like an embedding, best first.

        Args:
            embedding: unit vector float32 `[128]`.
            model_id: of the tokens it was read from.
            limit: most templates.
            device: only of this one.

        Raises:
            EdgeError: the embedding is no unit vector, or there are templates of other models alone.
        """
        self.scheme.check(embedding)
        with self._lock:
            rows = self._rows.get(model_id)
            if rows is None or not len(rows):
                self._check_model(model_id)
                return []
            scores = self.scheme.scores(rows.rows, np.asarray(embedding, np.float64))
            if device is not None:
                scores = np.where(rows.labeled(device), scores, -np.inf)
            best = np.argpartition(-scores, limit - 1)[:limit] if limit < len(scores) else np.arange(len(scores))
            ordered = best[np.argsort(-scores[best], kind="stable")]
            return [self._hit(rows.names[at], float(scores[at])) for at in ordered if np.isfinite(scores[at])]

    def verify(self, record: str, embedding: NDArray[np.float32], model_id: bytes) -> TemplateHit:
        """The newest template of a record against an embedding: is this the one who was enrolled?

        Raises:
            EdgeError: the record has no key or no template, or its template is of another model or scheme, or changed.
        """
        self.scheme.check(embedding)
        with self._lock:
            key = self.ring.of_record(record).key
            faces = [*self._of_key.get(key.id, ())]
            if not faces:
                raise EdgeError(
                    f"record {record!r} has a key and no template: the face was erased, or an older backup of the "
                    "store was restored; renew the record"
                )
            return self._verified(self._held[faces[-1]], embedding, model_id)

    def verify_face(self, face: str, embedding: NDArray[np.float32], model_id: bytes) -> TemplateHit:
        """A template against an embedding, by the name of its face; errors as `verify`."""
        self.scheme.check(embedding)
        with self._lock:
            if face not in self._held:
                raise EdgeError(
                    f"there is no protected template {face} here: it is unknown, erased, or a face with tokens, which "
                    "compares with no template but by its embedding"
                )
            return self._verified(self._held[face], embedding, model_id)

    def held_key(self, record: str) -> HeldKey:
        """The key of a record, and its key store; `EdgeError` if it has none."""
        with self._lock:
            return self.ring.of_record(record)

    def of_record(self, record: str) -> list[str]:
        """Names of the faces that are held under a record's key, the newest last.

        Raises:
            EdgeError: it has none.
        """
        with self._lock:
            return [*self._of_key.get(self.ring.of_record(record).key.id, ())]

    def _verified(self, one: FaceTemplate, embedding: NDArray[np.float32], model_id: bytes) -> TemplateHit:
        if one.model_id != model_id:
            raise EdgeError(
                f"template {one.face} is of model {one.model_id.hex()} and the embedding of {model_id.hex()}, which do "
                "not compare; take an embedding of that model"
            )
        held = self._key_of(one)
        return self._hit(one.face, self.scheme.match(one.template, embedding, held.key))

    def _key_of(self, one: FaceTemplate) -> HeldKey:
        key_id = read_template(one.template).key_id
        held = self.ring.find(key_id)
        if held is None:
            raise EdgeError(
                f"template {one.face} is of key {key_id.hex()}, which no key store here has: its record was renewed or "
                "revoked, or a backup came without its keys; enroll the face again"
            )
        return held

    def _check_model(self, model_id: bytes) -> None:
        others = sorted(model.hex() for model, rows in self._rows.items() if len(rows))
        if others:
            raise EdgeError(
                f"the embedding is of model {model_id.hex()} and all templates here are of {', '.join(others)}, which "
                "do not compare; take an embedding of their model"
            )

    def _hit(self, face: str, score: float) -> TemplateHit:
        one = self._held[face]
        return TemplateHit(face, self._key_of(one).record, one.device, one.captured, score)

    def _expand(self, one: FaceTemplate) -> None:
        """Make a row of a template, or note why there is none."""
        self._unmatched.pop(one.face, None)
        key_id = _key_id(one)
        held = None if key_id is None else self.ring.find(key_id)
        if held is None:
            self._unmatched[one.face] = _REFUSED if key_id is None else _WITHOUT_KEY
            return
        try:
            values = self.scheme.checked(one.template, held.key)
        except EdgeError:
            self._unmatched[one.face] = _REFUSED
            return
        self._rows[one.model_id].put(one.face, self.scheme.row(values, self.scheme.parameters(held.key)), one.device)

    def _remove(self, face: str) -> None:
        one = self._held.pop(face, None)
        if one is None:
            return
        self._unmatched.pop(face, None)
        self._rows[one.model_id].remove(face)
        if (key_id := _key_id(one)) is not None:
            del self._of_key[key_id][face]
            if not self._of_key[key_id]:
                del self._of_key[key_id]


def _key_id(one: FaceTemplate) -> bytes | None:
    """Id of a template's key; None of one that is cut off."""
    try:
        return read_template(one.template).key_id
    except EdgeError:
        return None
