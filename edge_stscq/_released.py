"""The released model and the bundle of it that runs everywhere, by name: what is used where nobody names another.

`make` reads the name from here, too.
"""

MODEL = "face64"
BUNDLE = f"{MODEL}:onnx-int8"
