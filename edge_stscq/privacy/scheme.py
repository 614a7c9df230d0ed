"""Protected templates: an identity embedding under a record key, and how another embedding is compared with it.

A template is one byte for the scheme, eight for the key, the content, whose size the scheme fixes, and a tag of seven
bytes under the key over all of that, so that whoever holds the key notices a template that was changed. It is matched
with an embedding and the record's key; templates of one key may be compared with each other. Keys, and rows that were
expanded with them, are as secret as the embeddings themselves.
"""

import hmac
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_stscq.config.codec import EMBEDDING
from edge_stscq.errors import EdgeError
from edge_stscq.privacy.keys import KEY_ID_BYTES, TAG_BYTES, RecordKey

Parameters = TypeVar("Parameters")
HEADER_BYTES = 1 + KEY_ID_BYTES
_NAMES = {1: "slerpface", 2: "rotated", 3: "polyprotect"}


class Template(NamedTuple):
    """A template taken apart."""

    scheme: int
    key_id: bytes
    content: bytes
    tag: bytes


def read_template(data: bytes) -> Template:
    """Take a template apart; its content is checked by the scheme.

    Raises:
        EdgeError: it is too short for any.
    """
    if len(data) <= HEADER_BYTES + TAG_BYTES:
        raise EdgeError(f"a template of {len(data)} bytes is cut off; fetch it again")
    return Template(data[0], data[1:HEADER_BYTES], data[HEADER_BYTES:-TAG_BYTES], data[-TAG_BYTES:])


def scheme_name(number: int) -> str:
    """Name of a scheme, for messages."""
    return _NAMES.get(number, f"number {number}")


class Scheme(ABC, Generic[Parameters]):
    """One way to protect an embedding.

    Subclasses say what a key means (`parameters`), what is stored (`protect`, `pack`, `unpack`), what a record becomes
    in memory (`row`) and how an embedding is scored against rows. Whoever protects or matches calls the other methods.

    Attributes:
        number: first byte of a template, 1 to 255.
        name: in recipes and messages.
        content_bytes: of a template, without its header of nine bytes and its tag of seven.

    Example:
        >>> template = scheme.enroll(matcher.embed([face])[0], key)
        >>> alike = scheme.match(template, matcher.embed([other])[0], key) > threshold
    """

    number: ClassVar[int]
    name: ClassVar[str]
    content_bytes: int

    @property
    def template_bytes(self) -> int:
        """Bytes of a template."""
        return HEADER_BYTES + self.content_bytes + TAG_BYTES

    def enroll(self, embedding: NDArray[np.float32], key: RecordKey) -> bytes:
        """The template of an embedding.

        Args:
            embedding: unit vector float32 `[128]` of `Matcher.embed`.
            key: of this record alone: a fresh one for every template.

        Raises:
            EdgeError: the embedding is no unit vector.
        """
        content = self.pack(self.protect(_checked(embedding), self.parameters(key)))
        body = bytes([self.number]) + key.id + content
        return body + key.tag(body)

    def match(self, template: bytes, embedding: NDArray[np.float32], key: RecordKey) -> float:
        """Score of an embedding against a template; higher is more alike, each scheme has its own threshold.

        Raises:
            EdgeError: the template is of another scheme or key, or cut off; the embedding is no unit vector.
        """
        return float(self.gallery([template], [key]).scores(embedding)[0])

    def compare(self, first: bytes, second: bytes) -> float:
        """Score of two templates of one key, as when a camera protects with the key of the record it asks for.

        Without the key their tags are not checked; `checked` does that.

        Raises:
            EdgeError: they are of other schemes or of two keys, or cut off.
        """
        (key_id, values), (other_id, other) = self._read(first), self._read(second)
        if key_id != other_id:
            raise EdgeError(
                f"the templates are of keys {key_id.hex()} and {other_id.hex()}, which do not compare; "
                "match an embedding with each key"
            )
        return float(self.similarity(values[None], other[None])[0])

    def gallery(self, templates: Sequence[bytes], keys: Sequence[RecordKey]) -> "Gallery":
        """Templates with their keys expanded, to be searched many times.

        Raises:
            EdgeError: as `match`.
        """
        rows = [self.row(self.checked(*pair), self.parameters(pair[1])) for pair in zip(templates, keys, strict=True)]
        return Gallery(self, np.stack(rows) if rows else None)

    def check(self, embedding: NDArray[np.float32]) -> None:
        """Refuse what `enroll` would.

        Raises:
            EdgeError: the embedding is no unit vector.
        """
        _checked(embedding)

    def checked(self, template: bytes, key: RecordKey) -> NDArray[np.float32]:
        """Stored values of a template of this scheme and key.

        Raises:
            EdgeError: it is of another scheme or key, cut off, or was changed since it was made.
        """
        key_id, values = self._read(template)
        if key_id != key.id:
            raise EdgeError(
                f"the template is of key {key_id.hex()}, not {key.id.hex()}: another secret, or the record was renewed "
                "since; use the record's key of today and enroll again what was revoked"
            )
        if not hmac.compare_digest(key.tag(template[:-TAG_BYTES]), template[-TAG_BYTES:]):
            raise EdgeError(
                f"the template of key {key_id.hex()} was changed since it was made: its tag differs; fetch it again, "
                "and see who can write the store"
            )
        return values

    @abstractmethod
    def parameters(self, key: RecordKey) -> Parameters:
        """Everything that the scheme draws from a key."""

    @abstractmethod
    def protect(self, unit: NDArray[np.float64], parameters: Parameters) -> NDArray[np.float32]:
        """Values to be stored, one-dimensional, of a unit vector float64 `[128]`."""

    @abstractmethod
    def pack(self, values: NDArray[np.float32]) -> bytes:
        """Bytes of these values."""

    @abstractmethod
    def unpack(self, content: bytes) -> NDArray[np.float32]:
        """Values that these bytes stand for."""

    @abstractmethod
    def row(self, values: NDArray[np.float32], parameters: Parameters) -> NDArray[np.float32]:
        """Stored values and parameters as one row of a gallery."""

    @abstractmethod
    def scores(self, rows: NDArray[np.float32], unit: NDArray[np.float64]) -> NDArray[np.float32]:
        """Scores `[N]` of a unit vector float64 `[128]` against rows `[N, ...]`."""

    @abstractmethod
    def similarity(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores `[N]` of stored values `[N, ...]` against others."""

    def _read(self, template: bytes) -> tuple[bytes, NDArray[np.float32]]:
        number, key_id, content, _ = read_template(template)
        if number != self.number:
            raise EdgeError(f"the template is of scheme {scheme_name(number)}, not {self.name}; enroll the face again")
        if len(content) != self.content_bytes:
            raise EdgeError(
                f"a template of {self.name} has {self.template_bytes} bytes, not {len(template)}: it is cut off or "
                "damaged; fetch it again"
            )
        values = self.unpack(content)
        if not np.isfinite(values).all():
            raise EdgeError(f"the template of {self.name} holds numbers that are none: it is damaged; fetch it again")
        return key_id, values


class Gallery:
    """Expanded rows of one scheme in memory. They are as secret as unprotected embeddings."""

    def __init__(self, scheme: Scheme[Parameters], rows: NDArray[np.float32] | None) -> None:
        self._scheme, self._rows = scheme, rows

    def __len__(self) -> int:
        return 0 if self._rows is None else len(self._rows)

    @property
    def bytes(self) -> int:
        """Memory of the rows."""
        return 0 if self._rows is None else self._rows.nbytes

    def scores(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores float32 `[N]` of a unit embedding float32 `[128]`, in the order of the templates.

        Raises:
            EdgeError: the embedding is no unit vector.
        """
        unit = _checked(embedding)
        return np.empty(0, np.float32) if self._rows is None else self._scheme.scores(self._rows, unit)


def _checked(embedding: NDArray[np.float32]) -> NDArray[np.float64]:
    unit = np.asarray(embedding, np.float64)
    if unit.shape != (EMBEDDING,) or not abs(np.linalg.norm(unit) - 1) < 1e-3:
        raise EdgeError(f"no unit embedding of {EMBEDDING} numbers; take one of a face with identity tokens")
    return unit
