"""The device's side, without torch: find, align and judge a face, code its crop, and match coded faces."""

from edge_stscq.bundle.matcher import Matcher
from edge_stscq.device.encoder import DeviceEncoder, load_encoder

__all__ = ["DeviceEncoder", "Matcher", "load_encoder"]
