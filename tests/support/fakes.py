"""Stand-ins for what a test does not run."""

from edge_stscq.protocol import Acknowledgement, StreamAcknowledgement
from edge_stscq.stream.wire import read_frames


def acknowledgement(device: str, first: int, count: int) -> str:
    """JSON by which a server acknowledges a request of frames that are all new."""
    answer = Acknowledgement(device=device, first=first, count=count, stored=count, extended=0, duplicate=0)
    return answer.model_dump_json()


def stream_acknowledgement(body: bytes) -> str:
    """Answer, as JSON, of a server that stores every frame of a file of version 2."""
    frames = [frame for _, frame in read_frames(body)]
    count = len(frames)
    answer = StreamAcknowledgement(device=frames[0].source.device, count=count, stored=count, extended=0, duplicate=0)
    return answer.model_dump_json()
