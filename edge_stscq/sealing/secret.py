"""Source of a seal's secret: the same as of protected templates, for packages that see no templates."""

from edge_stscq.privacy.secret import read_secret, write_new_secret

__all__ = ["read_secret", "write_new_secret"]
