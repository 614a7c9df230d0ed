"""Faces of a camera to a server, through a spool that survives power cuts and bad links. Without torch.

    edge-stscq serve --model face64 &
    python examples/camera_to_server.py 0 http://127.0.0.1:8377 --faces 10

SOURCE is a camera's number, a video or a picture. One process may do both, as here; on a device that must not wait for
the network, `edge-stscq spool drain --follow` sends from a process of its own.
"""

import argparse
from pathlib import Path

import cv2

import edge_stscq as es


def main() -> None:
    parser = argparse.ArgumentParser(description="Send the faces of a camera to a server.")
    parser.add_argument("source", help="a camera's number, a video or a picture")
    parser.add_argument("server", help="address, e.g. http://127.0.0.1:8377")
    parser.add_argument("--bundle", default="face64:onnx-int8", help="bundle folder, or the name of a released one")
    parser.add_argument("--device", default="door-1", help="name of this device")
    parser.add_argument("--spool", type=Path, default=Path("door-1.spool"), help="file that keeps what is not sent yet")
    parser.add_argument("--faces", type=int, default=10, help="stop after so many")
    parser.add_argument("--budget", help="most bytes on the link, e.g. 2kB/min")
    given = parser.parse_args()

    encoder = es.Bundle.open(given.bundle).load_encoder()
    camera = cv2.VideoCapture(int(given.source) if given.source.isdecimal() else given.source)
    found = 0
    with es.Spool(given.spool, given.device) as spool, es.Sender(given.server, given.device) as sender:
        while found < given.faces:
            there, picture = camera.read()
            if not there:
                break
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            face = es.detect(picture)
            if face is not None and face.eye_distance > 20:
                spool.put(encoder.encode_frame(es.align(picture, face.points)))
                found += 1
        report = sender.drain(spool, given.budget)
    camera.release()
    print(f"{found} faces seen, {report.stored} stored by the server, {report.bytes} bytes on the link")


if __name__ == "__main__":
    main()
