"""Folder of the released model, which is measured unless another is named."""

from pathlib import Path

from edge_stscq._released import MODEL as NAME

MODEL = Path("models") / NAME
