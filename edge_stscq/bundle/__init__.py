"""A model as a device gets it: open and verify a bundle, and replay its golden vectors."""

from edge_stscq.bundle.bundle import Bundle, open_bundle
from edge_stscq.bundle.golden import Golden
from edge_stscq.bundle.manifest import Manifest
from edge_stscq.bundle.matcher import Matcher
from edge_stscq.bundle.projection import IdentityProjection
from edge_stscq.bundle.selftest import SelfTest, selftest

__all__ = ["Bundle", "Golden", "IdentityProjection", "Manifest", "Matcher", "SelfTest", "open_bundle", "selftest"]
