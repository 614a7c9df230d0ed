"""Decoders: which models there are, how they run, and the queue in front of them."""
