"""Released models and bundles by name: an index in the package, a place that holds the files, a verified cache."""

from edge_stscq.hub.index import Index, Release, load_index
from edge_stscq.hub.names import resolve
from edge_stscq.hub.transfer import pull

__all__ = ["Index", "Release", "load_index", "pull", "resolve"]
