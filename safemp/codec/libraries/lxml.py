"""lxml: an element travels with its whole document, and is found in it again.

An element can go to its parent, so a part of the tree is not the element. Elements of
one document stay elements of one document.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.rebuild import Made
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]


def _element(element: Any) -> Any:
    way: list[int] = []
    above = element.getparent()
    while above is not None:
        way.append(above.index(element))
        element, above = above, above.getparent()
    if way:
        return functools.reduce, (operator.getitem, way[::-1], element)
    etree = loaded("lxml.etree", "__dict__") or vars(__import__("sys").modules["lxml.etree"])
    text = etree["tostring"](element.getroottree(), encoding="utf-8")
    if type(element) is loaded("lxml.html", "HtmlElement"):
        return etree["fromstring"], (text, Made(loaded("lxml.html", "XHTMLParser")))
    return etree["fromstring"], (text,)


def _tree(tree: Any) -> Any:
    root = tree.getroot()
    if root is None:
        return type(tree), ()
    return Made(getattr, root, "getroottree"), ()


def _compiled(thing: Any) -> Any:
    name = type(thing).__name__
    raise RefusedError(
        f"cannot pickle an lxml {name}: it is compiled", f"send its source, and make the {name} in the task"
    )


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "its document travels as text, and the element is found there at the same place"
    return {
        loaded("lxml.etree", "_Element"): Repair(RECONSTRUCT, why, _element),
        loaded("lxml.html", "HtmlElement"): Repair(RECONSTRUCT, why, _element),
        loaded("lxml.etree", "_Comment"): Repair(RECONSTRUCT, why, _element),
        loaded("lxml.etree", "_ProcessingInstruction"): Repair(RECONSTRUCT, why, _element),
        loaded("lxml.etree", "_ElementTree"): Repair(RECONSTRUCT, "its document travels as text", _tree),
        loaded("lxml.etree", "XSLT"): Repair(RECONSTRUCT, "", _compiled),
        loaded("lxml.etree", "XMLSchema"): Repair(RECONSTRUCT, "", _compiled),
        loaded("lxml.etree", "XPath"): Repair(RECONSTRUCT, "", _compiled),
    }
