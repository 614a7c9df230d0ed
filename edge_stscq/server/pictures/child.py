"""Process that codes uploaded pictures: what it reads came from strangers, so it may do nothing else.

It gives up files, sockets and programs before anything is imported (`decoding/confinement.py`), then brings what a
camera has: the detector, the gate and the bundle's encoder. The server's own process never imports these. It answers
in JSON, since whoever takes this process over must not choose what the server unpickles.
"""

import json
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from edge_stscq.server.decoding.confinement import User, confine, end_with_parent

MAX_PIXELS = 64_000_000
"""Largest picture that is decoded: what telephones take, and 0.2 GB as an array."""
NICENESS = 10
"""Added to the server's, as to the decoder's: requests are answered first."""


def run(pipe: Connection, bundle: Path, user: User | None) -> None:
    """Code the pictures that come through the pipe, until its other end is closed."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the server decides when this one ends
    nowhere = os.open(os.devnull, os.O_WRONLY)  # after this nothing is opened for writing
    done = confine([bundle])
    from edge_stscq.errors import EdgeError

    os.nice(NICENESS)
    try:
        code = _silently(nowhere, lambda: _coder(bundle))
        given_up = ", ".join([*([user.become()] if user else []), *done])
    except Exception as error:
        pipe.send_bytes(_json({"error": _line(error)}))
        return
    pipe.send_bytes(_json({"confinement": given_up or "none"}))
    while True:
        try:
            data = pipe.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)  # the server is gone, and there is nothing to tidy up
        try:
            answer = code(data)
        except EdgeError as error:
            answer = {"reason": str(error)}
        except Exception as error:
            answer = {"error": _line(error)}
        pipe.send_bytes(_json(answer))


def _coder(bundle: Path) -> Any:
    """Function from the bytes of a picture file to what is answered."""
    from edge_stscq._images import decode_image, picture_format
    from edge_stscq._images.formats import picture_size
    from edge_stscq.bundle.bundle import open_bundle
    from edge_stscq.device.detect import Detector
    from edge_stscq.device.encoder import load_encoder
    from edge_stscq.device.quality.gate import QualityGate
    from edge_stscq.errors import EdgeError

    encoder, detector = load_encoder(open_bundle(bundle)), Detector()
    gate = QualityGate(detector)

    def code(data: bytes) -> dict[str, Any]:
        name = picture_format(data)
        size = picture_size(data, name) if name else None
        if size is not None and size[0] * size[1] > MAX_PIXELS:
            raise EdgeError(f"{size[0]} x {size[1]} pixels are too many; make it smaller, {MAX_PIXELS:,} are read")
        picture = decode_image(data)
        if picture is None:
            raise EdgeError("damaged or not a picture; give a whole JPEG, PNG or WebP file")
        faces = detector.faces(picture)
        if not faces:
            raise EdgeError("no face found; give a sharp picture with a face at least 60 pixels wide")
        judgement = gate.judge(picture, faces[0])
        answer: dict[str, Any] = {"faces": len(faces), "box": judgement.face.box, "quality": judgement.score}
        if judgement.refusal is not None:
            return answer | {"reason": str(judgement.refusal)}
        coded = encoder.encode(judgement.crop)
        return answer | {"group": coded.group, "tokens": coded.tokens.tolist(), "layers": coded.layers}

    return code


def _silently(nowhere: int, load: Callable[[], Any]) -> Any:
    """Load without the runtimes' chatter of devices that they may not look at; an error is raised as ever."""
    kept = os.dup(2)
    os.dup2(nowhere, 2)
    try:
        return load()
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
