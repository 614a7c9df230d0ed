"""Compress the largest face of every photograph in a folder to one stream, and decode it again.

python examples/compress_folder.py PHOTOS faces.stsq --model face64 --decoded decoded
"""

import argparse
from pathlib import Path

import numpy as np

import edge_stscq as es

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compress the largest face of every photograph in a folder.")
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("stream", type=Path, help="file to write")
    parser.add_argument("--model", default="face64", help="model folder, or the name of a released one")
    parser.add_argument("--layers", type=int, help="keep so many layers; otherwise all")
    parser.add_argument("--decoded", type=Path, help="folder for the faces that the stream decodes to")
    given = parser.parse_args()

    codec, crops, names = es.Codec.load(given.model), [], []
    for path in sorted(given.photos.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            try:
                crops.append(es.align(es.read_image(path)))
                names.append(path.stem)
            except es.EdgeError as error:
                print(f"{path.name}: left out: {error}")
    if not crops:
        raise SystemExit(f"{given.photos} shows no face")
    data = codec.compress(np.stack(crops), given.layers)
    given.stream.write_bytes(data)
    print(f"{len(crops)} faces in {len(data)} bytes: {given.stream}")
    if given.decoded:
        given.decoded.mkdir(parents=True, exist_ok=True)
        for name, face in zip(names, codec.decompress(data), strict=True):
            (given.decoded / f"{name}.png").write_bytes(es.encode_image(face))


if __name__ == "__main__":
    main()
