"""The schemes there are, by name and by the first byte of their templates."""

from typing import Any

from edge_stscq.errors import EdgeError
from edge_stscq.privacy.polyprotect import PolyProtect
from edge_stscq.privacy.rotated import RotatedGroups
from edge_stscq.privacy.scheme import Scheme, read_template, scheme_name
from edge_stscq.privacy.slerpface import SlerpFace

SCHEMES: tuple[Scheme[Any], ...] = (SlerpFace(), RotatedGroups(), PolyProtect())


def scheme_named(name: str) -> Scheme[Any]:
    """The scheme that a recipe names.

    Raises:
        EdgeError: there is none of that name.

    Example:
        >>> scheme_named("rotated").template_bytes
        64
    """
    for scheme in SCHEMES:
        if scheme.name == name:
            return scheme
    raise EdgeError(f"no scheme is called {name!r}; there are {', '.join(scheme.name for scheme in SCHEMES)}")


def scheme_of(template: bytes) -> Scheme[Any]:
    """The scheme of a template.

    Raises:
        EdgeError: the template is cut off, or of a scheme that this program does not know.
    """
    number = read_template(template).scheme
    for scheme in SCHEMES:
        if scheme.number == number:
            return scheme
    raise EdgeError(f"the template is of scheme {scheme_name(number)}, which this program does not know; upgrade it")
