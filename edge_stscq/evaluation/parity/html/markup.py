"""HTML and SVG as a tree that escapes its own text, so that no name of a file can become markup."""

from xml.etree.ElementTree import Element, tostring


def node(tag: str, *children: Element | str, **attributes: object) -> Element:
    """An element with children and text. In names of attributes `_` stands for `-`, and one at the end for nothing:
    `class_="wide"`, `text_anchor="end"`.
    """
    element = Element(tag, {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()})
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            element.append(child)
            last = child
        elif last is None:
            element.text = (element.text or "") + child
        else:
            last.tail = (last.tail or "") + child
    return element


def html(root: Element) -> bytes:
    """The whole page in UTF-8."""
    return b"<!doctype html>\n" + tostring(root, encoding="utf-8", method="html") + b"\n"
