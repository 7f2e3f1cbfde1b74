"""What an exception that came back has kept of the one that was raised."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from safemp.audit.portrait import Portrait, portrait
from safemp.codec.lost import Lost
from safemp.codec.statics import type_name

__all__ = ["BREAKS", "CLASS", "FAITHFUL", "KINDS", "LINKS", "STATE", "TEXT", "Verdict", "judge"]

FAITHFUL = "comes back whole"
LINKS = "loses its cause or notes"
STATE = "loses attributes"
TEXT = "loses its text"
CLASS = "arrives as another class"
BREAKS = "breaks the pool"
KINDS = (FAITHFUL, LINKS, STATE, TEXT, CLASS, BREAKS)
"""From the best to the worst. Each has also what is behind it in this list."""

_SHOWN = 160


@dataclass(frozen=True)
class Verdict:
    """What became of one exception.

    Attributes:
        kind: One of ``KINDS``.
        why: What exactly, in one line.
        caught: ``except`` its own class, or the nearest that can be imported, catches it.
        lost: Attributes that no pickle can copy, and of which a ``Lost`` came back.
    """

    kind: str
    why: str = ""
    caught: bool = True
    lost: tuple[str, ...] = ()


def judge(original: Portrait, made: Any) -> Verdict:
    """Compare what came back with the portrait of what was raised."""
    caught = _is_caught(original, made)
    if not isinstance(made, BaseException):
        return Verdict(CLASS, f"{type_name(type(made))}, which is no exception", False)
    theirs = portrait(made)
    own = _class_of(original.cls)
    # By the class itself where it can be had: some rename theirs when they make an instance.
    same = theirs.cls == original.cls if own is None else type(made) is own
    if not same or hasattr(type(made), "_safemp_names"):
        said = theirs.text.partition("\n")[0][:_SHOWN]
        return Verdict(CLASS, f"{type_name(type(made))}: {said}", caught)
    lost = tuple(name for name, value in _raw(made).items() if isinstance(value, Lost))
    if theirs.text != original.text:
        return Verdict(TEXT, f"{_short(original.text)} becomes {_short(theirs.text)}", caught, lost)
    missing = _missing(original, theirs)
    if missing:
        return Verdict(STATE, ", ".join(missing)[:_SHOWN], caught, lost)
    if original.links != theirs.links or original.notes != theirs.notes:
        return Verdict(LINKS, "notes" if original.links == theirs.links else "cause or context", caught, lost)
    return Verdict(FAITHFUL, "", caught, lost)


def _missing(original: Portrait, theirs: Portrait) -> list[str]:
    """Name what is not equal of all that can be compared."""
    found = []
    if len(original.args) != len(theirs.args):
        found.append("args")
    else:
        pairs = zip(original.args, theirs.args, strict=True)
        found += [f"args[{i}]" for i, (ours, other) in enumerate(pairs) if ours is not None and ours != other]
    for name, digest in original.attributes.items():
        if digest is not None and theirs.attributes.get(name) != digest:
            found.append(name)
    return found


def _is_caught(original: Portrait, made: Any) -> bool:
    nearest = next((cls for cls in map(_class_of, (original.cls, *original.bases)) if cls is not None), BaseException)
    return isinstance(made, nearest)


def _class_of(name: tuple[str, str]) -> type | None:
    """Import a class; ``None``: it cannot be imported by its name."""
    try:
        found: Any = importlib.import_module(name[0])
        for part in name[1].split("."):
            found = getattr(found, part)
    except BaseException:  # importing is user code
        return None
    return found if isinstance(found, type) and found.__qualname__ == name[1] else None


def _raw(exc: BaseException) -> dict[str, Any]:
    found: dict[str, Any] = BaseException.__dict__["__dict__"].__get__(exc)
    return found


def _short(text: str) -> str:
    line = text.replace("\n", " ")
    return repr(line if len(line) <= _SHOWN // 2 else f"{line[: _SHOWN // 2]}...")
