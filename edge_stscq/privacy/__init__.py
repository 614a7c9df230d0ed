"""Protected templates: revocable, keyed, unlinkable under fresh keys; and the keys, kept apart from them."""

from edge_stscq._secrets import read_secret, write_new_secret
from edge_stscq.privacy.key_ring import KeyRing
from edge_stscq.privacy.key_store import KeyStore
from edge_stscq.privacy.keys import RecordKey
from edge_stscq.privacy.polyprotect import PolyProtect
from edge_stscq.privacy.protector import Protector
from edge_stscq.privacy.rotated import RotatedGroups
from edge_stscq.privacy.scheme import Gallery, Scheme
from edge_stscq.privacy.schemes import SCHEMES, scheme_named, scheme_of
from edge_stscq.privacy.slerpface import SlerpFace
from edge_stscq.privacy.template_matcher import FaceTemplate, TemplateHit, TemplateMatcher

__all__ = [
    "SCHEMES",
    "FaceTemplate",
    "Gallery",
    "KeyRing",
    "KeyStore",
    "PolyProtect",
    "Protector",
    "RecordKey",
    "RotatedGroups",
    "Scheme",
    "SlerpFace",
    "TemplateHit",
    "TemplateMatcher",
    "read_secret",
    "scheme_named",
    "scheme_of",
    "write_new_secret",
]
