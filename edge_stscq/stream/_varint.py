"""LEB128 numbers: seven bits a byte, low ones first, the top bit set on all but the last."""

from edge_stscq.errors import FrameError


def encode_varint(value: int) -> bytes:
    """Shortest LEB128 of a number from 0 up."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(buffer: bytes, offset: int, most: int, name: str) -> tuple[int, int]:
    """A number of at most `most` bytes and the offset behind it.

    Args:
        name: of the field, for the message.

    Raises:
        FrameError: it is cut off, longer, or not in its shortest form.
    """
    value = 0
    try:
        for position in range(most):
            byte = buffer[offset + position]
            value |= (byte & 0x7F) << 7 * position
            if byte < 0x80:
                if byte == 0 and position:
                    raise FrameError(f"{name} is not written in its shortest form: the frame is damaged")
                return value, offset + position + 1
    except IndexError:
        raise FrameError(f"truncated: no {name}") from None
    raise FrameError(f"{name} has more than {most} bytes: the frame is damaged")


def byte_at(buffer: bytes, offset: int, name: str) -> int:
    """One byte.

    Raises:
        FrameError: the buffer ends before it.
    """
    if offset >= len(buffer):
        raise FrameError(f"truncated: no {name}")
    return buffer[offset]


def zigzag(value: int) -> int:
    """A signed number as an unsigned one: 0, -1, 1, -2, ... become 0, 1, 2, 3, ..."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    """The inverse of `zigzag`."""
    return -(value + 1 >> 1) if value & 1 else value >> 1
