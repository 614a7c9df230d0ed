"""The device's side, without torch: open and verify a bundle, turn a crop into a coded face."""

from edge_stscq.device.bundle import Bundle, Golden, open_bundle
from edge_stscq.device.encoder import DeviceEncoder, load_encoder
from edge_stscq.device.manifest import Manifest
from edge_stscq.device.selftest import SelfTest, selftest

__all__ = ["Bundle", "DeviceEncoder", "Golden", "Manifest", "SelfTest", "load_encoder", "open_bundle", "selftest"]
