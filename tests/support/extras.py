"""Commands beyond a camera's installation."""

NEEDED = {
    "serve": "server", "token list": "server", "decode x.stsq -o faces --model x/y": "server",
    "demo --model x/y": "demo", "export --target onnx --model x/y": "onnx",
    "quantize --faces x --model x/y": "executorch", "train --recipe x --data x": "train",
    "distill --recipe x --data x --model x/y": "train", "finetune --recipe x --data x --model x/y": "train",
    "parity x/y --model x/y": "train", "evaluate --crops x --pairs x --model x/y": "train",
    "camera schema": "camera", "camera check x": "camera", "camera run x": "camera",
    "matcher serve --server http://127.0.0.1:9 --secret file:x --keys y": "server",
    "bench rate --crops x --pairs x --model x/y": "train", "bench encode x/y --model x/y": "train",
}  # fmt: skip
"""Commands that a camera's installation does not run, and the extra that each asks for."""
