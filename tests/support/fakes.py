"""Stand-ins for what a test does not run."""

from edge_stscq.protocol import Acknowledgement


def acknowledgement(device: str, first: int, count: int) -> str:
    """JSON by which a server acknowledges a request of frames that are all new."""
    answer = Acknowledgement(device=device, first=first, count=count, stored=count, extended=0, duplicate=0)
    return answer.model_dump_json()
