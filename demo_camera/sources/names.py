"""Names that are safe to print: one line, valid text, and no secret of an address."""

from urllib.parse import parse_qsl, urlsplit, urlunsplit

from edge_stscq.errors import EdgeError

SCHEMES = ("rtsp", "rtsps", "http", "https")


def printable(text: str) -> str:
    """The text in one line of valid UTF-8: bytes of a name that are none, and control characters, become `?`."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def address_name(address: str) -> str:
    """A network camera's address without its password and without the values of its query, which may hold one.

    Raises:
        EdgeError: the address is none that is read here.

    Example:
        >>> address_name("rtsp://door:secret@10.0.0.7:554/main?key=secret")
        'rtsp://door:***@10.0.0.7:554/main?key=***'
    """
    scheme = address.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise EdgeError(f"{printable(scheme)}:// is not read; give rtsp://, rtsps://, http:// or https://")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not address.isprintable() or " " in address:
        raise EdgeError(
            f"the address of a camera at {scheme}:// is damaged; give {scheme}://USER:PASSWORD@HOST:PORT/PATH"
        )
    user, at, place = parts.netloc.rpartition("@")
    if ":" in user:
        user = user.partition(":")[0] + ":***"
    keys = [key for key, _ in parse_qsl(parts.query, keep_blank_values=True)]
    query = "&".join(f"{key}=***" for key in keys) if "=" in parts.query else "***" * bool(parts.query)
    return printable(urlunsplit((scheme, f"{user}{at}{place}", parts.path, query, "")))
