"""Catalog of the models that one server holds, by model id: all but their networks.

Every stream names its model and every stored face keeps that name, so frames of any model in the catalog are accepted
and each face is decoded by its own decoder. Whoever answers requests needs the catalog; only whoever decodes needs a
`DecoderPool`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_stscq.bundle.match_rule import MatchRule
from edge_stscq.bundle.matcher import Matcher
from edge_stscq.bundle.model_folder import load_config, load_frame_codec, load_matcher
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.stream.frame import FrameCodec


class WrongModelError(EdgeError):
    """A model that this server does not hold."""


@dataclass(frozen=True, slots=True, eq=False)
class CatalogEntry:
    """One model.

    Attributes:
        config: shape of the codec.
        codec: reads and writes its frames.
        matcher: reads identity from its tokens.
        rule: scores and thresholds by which two of its faces are one person's; None of a model not measured.
    """

    config: CodecConfig
    codec: FrameCodec
    matcher: Matcher
    rule: MatchRule | None = None

    @property
    def model_id(self) -> bytes:
        """The 8 bytes that every stream of this model begins with."""
        return self.codec.model_id


class ModelCatalog:
    """Read the models in `folders`; iterates over them in this order.

    Raises:
        EdgeError: a folder is unusable, or two hold the same model.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._entries: dict[bytes, CatalogEntry] = {}
        for folder in folders:
            config, codec, rule = load_config(folder), load_frame_codec(folder), MatchRule.load(folder)
            if rule is not None:
                rule.thresholds.check(codec.model_id, config.layer_names, str(folder))
            entry = CatalogEntry(config, codec, load_matcher(folder), rule)
            if entry.model_id in self._entries:
                raise EdgeError(f"{folder} holds model {entry.model_id.hex()} a second time; name each model once")
            self._entries[entry.model_id] = entry

    def __iter__(self) -> Iterator[CatalogEntry]:
        return iter(self._entries.values())

    @property
    def names(self) -> dict[str, str]:
        """Name of each by its id, in hexadecimal digits."""
        return {entry.model_id.hex(): entry.config.name for entry in self}

    def find(self, model_id: bytes, what: str) -> CatalogEntry:
        """Look up a model.

        Args:
            what: of this model, to begin the error with.

        Raises:
            WrongModelError: it is not in the catalog.
        """
        entry = self._entries.get(model_id)
        if entry is None:
            held = ", ".join(each.hex() for each in self._entries)
            raise WrongModelError(
                f"{what} is of model {model_id.hex()} and this server holds {held}; "
                "use the model it was encoded with, or start the server with that --model, too"
            )
        return entry
