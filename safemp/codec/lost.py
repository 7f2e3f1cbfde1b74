"""What stands in the place of a value that could not travel.

It says what the value was and why it stayed behind, and whoever uses it as if it
were the value gets an ``AttributeError`` which says so too.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Lost"]


class Lost:
    """Stand for a value that could not be sent.

    Equal when all three attributes are equal. It is immutable by convention only.

    Attributes:
        type_name: The value's type, with its module unless that is ``builtins``.
        reason: What the pickler said of it, in one line.
        path: Where it was, an expression rooted at the exception: ``exc.args[0]``.
    """

    __module__ = "safemp"
    __slots__ = ("path", "reason", "type_name")

    type_name: str
    reason: str
    path: str

    def __init__(self, type_name: str, reason: str, path: str = "") -> None:
        self.type_name = type_name
        self.reason = reason
        self.path = path

    def __repr__(self) -> str:
        return f"<Lost: {self.type_name}, {self.reason}>"

    def __eq__(self, other: object) -> bool:
        return self.__reduce__() == other.__reduce__() if type(other) is Lost else NotImplemented

    def __hash__(self) -> int:
        return hash((Lost, self.type_name, self.reason, self.path))

    def __dir__(self) -> list[str]:
        # traceback.py searches here for "Did you mean ...?" when this is AttributeError.obj.
        return []

    def __getattr__(self, name: str) -> Any:
        # Never for a special name: copy and pickle ask for those and expect a plain "no".
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"cannot read .{name} of {self.path}: the {self.type_name} did not travel ({self.reason})")

    def __reduce__(self) -> tuple[Any, ...]:
        return Lost, (self.type_name, self.reason, self.path)
