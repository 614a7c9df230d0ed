"""The learned entropy model: frequencies of a token that depend on the tokens of the layers below, in whole numbers."""

from edge_stscq.stream.learned.coder import Learned
from edge_stscq.stream.learned.weights import Weights

__all__ = ["Learned", "Weights"]
