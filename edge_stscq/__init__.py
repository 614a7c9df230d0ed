"""Switchable Token-Specific Codebook Quantization for faces, from camera to server.

    import edge_stscq as es

    codec = es.Codec.load("face64")                            # a released model by name, or a folder
    crop = es.align(es.read_image("portrait.png"))             # the largest face, uint8 [128, 128, 3]
    data = codec.compress(crop, layers=3)                      # bytes of a stream
    face = codec.decompress(data)[0]                           # uint8 [128, 128, 3]
    codes = codec.encode(crops)                                # group [N], tokens [N, T]
    cosines = codec.embed(codes) @ codec.embed(codes).T        # who is who, nothing decoded
    said = codec.rule.verdict(*codec.embed(codes[:2], layers=2), layers=2)  # "same person", "perhaps" or "nobody here"

    calibration = es.quantize(codec, faces=crops, held_out=others, min_agreement=0.97)
    bundle = es.export(codec, target="onnx", calibration=calibration)
    es.parity([bundle], codec, others).to_html("parity.html")

    encoder = es.Bundle.open("face64:onnx-int8").load_encoder()  # no torch from here on: a camera
    with es.Spool("door.spool", device="door-1") as spool, es.Sender("http://server:8377", "door-1") as sender:
        spool.put(encoder.encode_frame(crop))
        sender.drain(spool, budget="2kB/min")
    app = es.server.create_app(es.server.load_settings(model="models/face64"))  # for any ASGI server

Names are imported when they are first used: a camera that encodes never imports torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_stscq import server
    from edge_stscq._images import encode_image, read_image
    from edge_stscq.api import (
        benchmark,
        distill,
        evaluate,
        export,
        finetune,
        parity,
        quantize,
        rate,
        template_thresholds,
        thresholds,
        train,
    )
    from edge_stscq.bundle.bundle import Bundle
    from edge_stscq.client.sender import Sender
    from edge_stscq.client.spool import Spool
    from edge_stscq.codec.model import Codec
    from edge_stscq.device.picture import align, detect
    from edge_stscq.errors import EdgeError
    from edge_stscq.stream.codes import Codes
    from edge_stscq.stream.envelope import CapturedFace
    from edge_stscq.stream.face import CodedFace

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "CapturedFace",
    "CodedFace",
    "Codec",
    "Codes",
    "EdgeError",
    "Sender",
    "Spool",
    "align",
    "benchmark",
    "detect",
    "distill",
    "encode_image",
    "evaluate",
    "export",
    "finetune",
    "parity",
    "quantize",
    "rate",
    "read_image",
    "server",
    "template_thresholds",
    "thresholds",
    "train",
]

_MODULES = {
    "Bundle": "bundle.bundle",
    "CapturedFace": "stream.envelope",
    "CodedFace": "stream.face",
    "Codec": "codec.model",
    "Codes": "stream.codes",
    "EdgeError": "errors",
    "Sender": "client.sender",
    "Spool": "client.spool",
    "align": "device.picture",
    "detect": "device.picture",
    "encode_image": "_images",
    "read_image": "_images",
    "server": "server",
}
"""Where a name is; the verbs are in `api`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edge_stscq.errors import require

    module = require(f"{__name__}.{_MODULES.get(name, 'api')}", "train")
    value: object = module if name == "server" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
