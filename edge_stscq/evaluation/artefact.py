"""A bundle's artefact as something to judge, beside the model it was exported from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle import Bundle, open_bundle
from edge_stscq.codec import store
from edge_stscq.device import DeviceEncoder
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.subject import Codes, Encode, Progress, Subject, no_progress
from edge_stscq.stream import model_id
from targets.subprocess_check import load_encoder_or_reference


def encode_with(encoder: DeviceEncoder) -> Encode:
    """An `encode` function that runs crops uint8 [N,128,128,3] through the artefact one at a time, as on a device."""

    def encode(images: NDArray[np.uint8], progress: Progress = no_progress) -> Codes:
        rows = []
        for image in images:
            rows.append(encoder.run(image))
            progress(1)
        return Codes(np.array([group for group, _ in rows], np.int32), np.stack([tokens for _, tokens in rows]))

    return encode


def coded_by(subject: Subject, bundle: Path, model: Path) -> Subject:
    """The subject of a model folder with the artefact of one of its bundles in place of the encoder.

    Raises:
        EdgeError: the bundle is damaged, of another model, or its runtime is missing.
    """
    opened = open_bundle(bundle)
    check_same_model(opened, model)
    artefact = load_encoder_or_reference(opened)
    name = f"{opened.manifest.target} {opened.manifest.precision} on {artefact.runtime}"
    return replace(subject, name=name, encode=encode_with(artefact))


def check_same_model(bundle: Bundle, folder: Path) -> None:
    """Refuse a bundle that was not exported from the model in `folder`.

    Raises:
        EdgeError: codebooks or frequency tables differ.
    """
    found = model_id(store.full_books(folder), store.load_tables(folder)).hex()
    if found != bundle.manifest.model_id:
        raise EdgeError(
            f"{bundle.folder} is of model {bundle.manifest.model_id}, {folder} holds {found}; "
            "give the model it was exported from with --model"
        )
