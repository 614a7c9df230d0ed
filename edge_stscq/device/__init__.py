"""The device's side, without torch: find, align and judge a face, and turn its crop into a coded face."""

from edge_stscq.device.encoder import DeviceEncoder, load_encoder

__all__ = ["DeviceEncoder", "load_encoder"]
