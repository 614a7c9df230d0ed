"""The decode server: checks, stores and acknowledges frames, and turns stored tokens back into faces.

    app = create_app(load_settings(model="models/face64", store="faces.db"))    # for any ASGI server
    with open_persons("faces.db") as people:                                    # visits and persons of its store
        people.name(people.visits(1)[0].person, "Ada")

A request travels `api -> ingest -> storage` when a device sends, and `api -> storage -> decoding` when somebody looks
at a face. `app` puts the parts together. Importing this package imports none of it: its names come when they are
first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_stscq.server.app import create_app
    from edge_stscq.server.persons.opening import open_persons
    from edge_stscq.server.settings import ServerSettings as Settings
    from edge_stscq.server.settings import load_settings

__all__ = ["Settings", "create_app", "load_settings", "open_persons"]

_PLACES = {
    "Settings": ("settings", "ServerSettings"),
    "create_app": ("app", "create_app"),
    "load_settings": ("settings", "load_settings"),
    "open_persons": ("persons.opening", "open_persons"),
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edge_stscq.errors import require

    module, attribute = _PLACES[name]
    value: object = getattr(require(f"{__name__}.{module}", "server"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
