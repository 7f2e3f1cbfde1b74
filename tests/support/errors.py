"""Exceptions beyond the ordinary ones, and what is to be compared of them.

``MAKERS`` maps a name to a function without arguments that makes the exception;
``raise_by_name`` raises it in a worker; ``portrait`` is all that a caller can see of it.
"""

from __future__ import annotations

import errno
import importlib.util
import io
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# -- classes -------------------------------------------------------------------


class KeywordOnly(Exception):
    def __init__(self, *, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Slotted(Exception):
    __slots__ = ("__private", "code", "unset")

    def __init__(self, code: int) -> None:
        super().__init__("slotted")
        self.code = code
        self.__private = code + 1

    @property
    def private(self) -> int:
        return self.__private


class NeedsNew(Exception):
    def __new__(cls, key: str, value: int) -> NeedsNew:
        made = super().__new__(cls, key)
        made.key = key
        made.value = value
        return made

    key: str
    value: int

    def __init__(self, key: str, value: int) -> None:
        super().__init__(f"{key}={value}")


@dataclass(frozen=True)
class Frozen(Exception):
    code: int
    reason: str


class ReadOnlyArgs(Exception):
    """``args`` is a property without a setter, as in rasterio."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text

    @property
    def args(self) -> tuple[Any, ...]:  # type: ignore[override]
        return self.number, self.text

    def __str__(self) -> str:
        return f"{self.number}: {self.text}"


class NoText(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        raise RuntimeError("this exception has no text")


class NoRepr(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("this exception has no repr")


class OwnReduce(Exception):
    """Leaves its lock at home on purpose; its own way must be honoured."""

    def __init__(self, text: str, *, code: int) -> None:
        super().__init__(text)
        self.code = code
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_own_reduce, (self.args[0], self.code)


def _make_own_reduce(text: str, code: int) -> OwnReduce:
    return OwnReduce(text, code=code)


class RaisingReduce(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = 11

    def __reduce__(self) -> tuple[Any, ...]:
        raise SystemExit("not even pickling works")


class WrongReduce(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = 12

    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, ("somebody else",)


class RefusesAttributes(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.__dict__["code"] = code

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("read-only")


class RecursesOnGetattr(Exception):
    def __getattr__(self, name: str) -> Any:
        return getattr(self, name + "_")


class Both(KeyError, AttributeError):
    """Two builtin bases, one of which keeps state outside ``__dict__``."""


class OwnOSError(OSError):
    def __init__(self, path: str, *, retry: bool) -> None:
        super().__init__(errno.ENOENT, "gone", path)
        self.retry = retry


# -- makers --------------------------------------------------------------------


def _attribute_error() -> BaseException:
    try:
        (5).missing  # type: ignore[attr-defined]  # noqa: B018  # wanted: the error
    except AttributeError as error:
        return error.with_traceback(None)
    raise AssertionError


def _name_error() -> BaseException:
    try:
        missing_name  # type: ignore[name-defined]  # noqa: B018  # wanted: the error
    except NameError as error:
        return error.with_traceback(None)
    raise AssertionError


def _syntax_error() -> BaseException:
    try:
        compile("x = (1,\ny = 2\n", "given.py", "exec")
    except SyntaxError as error:
        return error.with_traceback(None)
    raise AssertionError


def _file_not_found() -> BaseException:
    try:
        open("/no/such/file", encoding="utf-8").close()
    except FileNotFoundError as error:
        return error.with_traceback(None)
    raise AssertionError


def _two_files() -> BaseException:
    return FileExistsError(errno.EEXIST, "both", "one", None, "two")


def _blocking() -> BaseException:
    error = BlockingIOError(errno.EAGAIN, "busy")
    error.characters_written = 12
    return error


def _chain() -> BaseException:
    error = ValueError("last")
    error.__cause__ = KeyError("cause")
    error.__cause__.__cause__ = OSError(errno.EIO, "first")
    error.__context__ = TypeError("context")
    return error


def _suppressed() -> BaseException:
    error = ValueError("shown")
    error.__context__ = TypeError("hidden")
    error.__suppress_context__ = True
    return error


def _cycle() -> BaseException:
    one, two, three = ValueError("one"), TypeError("two"), KeyError("three")
    one.__context__, two.__context__, three.__context__ = two, three, one
    return one


def _own_cycle() -> BaseException:
    error = ValueError("itself")
    error.me = [error]  # type: ignore[attr-defined]
    return error


def _notes() -> BaseException:
    error = ValueError("noted")
    error.__notes__ = ["first note", "second\nnote"]  # type: ignore[attr-defined]
    return error


def _deep() -> BaseException:
    first = error = ValueError("0")
    for i in range(1, 500):
        error.__cause__ = ValueError(str(i))
        error = error.__cause__  # type: ignore[assignment]
    return first


MAKERS: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "SystemExit-text": lambda: SystemExit("a message"),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": lambda: GeneratorExit("closed"),
    "StopIteration": lambda: StopIteration({"value": 1}),
    "StopAsyncIteration": lambda: StopAsyncIteration("over"),
    "FileNotFoundError": _file_not_found,
    "FileExistsError": _two_files,
    "BlockingIOError": _blocking,
    "UnsupportedOperation": lambda: io.UnsupportedOperation("not readable"),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"a\xffb", 1, 2, "invalid start byte"),
    "UnicodeEncodeError": lambda: UnicodeEncodeError("ascii", "h\xe9", 1, 2, "ordinal not in range"),
    "UnicodeTranslateError": lambda: UnicodeTranslateError("h\xe9", 1, 2, "untranslatable"),
    "SyntaxError": _syntax_error,
    "IndentationError": lambda: IndentationError("unexpected", ("file.py", 3, 4, "   x\n")),
    "ImportError": lambda: ImportError("no", name="package.module", path="/somewhere"),
    "ModuleNotFoundError": lambda: ModuleNotFoundError("No module named 'x'", name="x"),
    "AttributeError": _attribute_error,
    "NameError": _name_error,
    "KeyError": lambda: KeyError(("a", 1)),
    "no-args": ValueError,
    "many-args": lambda: RuntimeError("text", 1, None, [2]),
    "KeywordOnly": lambda: KeywordOnly(status=429, text="slow down"),
    "Slotted": lambda: Slotted(5),
    "NeedsNew": lambda: NeedsNew("k", 4),
    "Frozen": lambda: Frozen(404, "gone"),
    "ReadOnlyArgs": lambda: ReadOnlyArgs(5, "read-only"),
    "NoText": lambda: NoText(6),
    "NoRepr": lambda: NoRepr("text", 6),
    "RaisingReduce": lambda: RaisingReduce("text"),
    "WrongReduce": lambda: WrongReduce("text"),
    "RefusesAttributes": lambda: RefusesAttributes(13),
    "RecursesOnGetattr": lambda: RecursesOnGetattr("text"),
    "Both": lambda: Both("key"),
    "OwnOSError": lambda: OwnOSError("/gone", retry=True),
    "chain": _chain,
    "suppressed-context": _suppressed,
    "cycle": _cycle,
    "own-cycle": _own_cycle,
    "notes": _notes,
    "deep-chain": _deep,
}

if sys.version_info >= (3, 11):

    class OwnGroup(ExceptionGroup[Exception]):
        code: int

        def __new__(cls, message: str, errors: list[Exception], code: int) -> OwnGroup:
            made = super().__new__(cls, message, errors)
            made.code = code
            return made

        def derive(self, errors: Any) -> OwnGroup:
            return OwnGroup(self.message, errors, self.code)

    def _nested_group() -> BaseException:
        inner = ExceptionGroup("inner", [KeywordOnly(status=500, text="down"), _chain()])  # type: ignore[list-item]
        return BaseExceptionGroup("outer", [inner, KeyboardInterrupt(), SystemExit(4)])

    MAKERS |= {
        "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError("a"), KeywordOnly(status=1, text="b")]),
        "BaseExceptionGroup": _nested_group,
        "OwnGroup": lambda: OwnGroup("own", [ValueError("a"), TypeError("b")], 21),
    }


def raise_by_name(name: str) -> None:
    raise MAKERS[name]()


def return_by_name(name: str) -> BaseException:
    return MAKERS[name]()


def raise_given(error: BaseException) -> None:
    raise error


def raise_third(name: str, i: int) -> int:
    """Square *i*; the third task raises."""
    if i == 2:
        raise_by_name(name)
    return i * i


class Third:
    """``raise_third`` for one name, to be mapped."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, i: int) -> int:
        return raise_third(self.name, i)


def raise_own_reduce() -> None:
    raise OwnReduce("own", code=31)


class WithSocket(Exception):
    def __init__(self, text: str, conn: socket.socket) -> None:
        super().__init__(text)
        self.conn = conn
        self.code = 41


def raise_with_socket() -> None:
    with socket.socket() as conn:
        raise WithSocket("no route", conn)


def raise_from_file(path: str) -> None:
    """Raise an error of a class in a module that only this process can import."""
    spec = importlib.util.spec_from_file_location("only_in_worker", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["only_in_worker"] = module
    spec.loader.exec_module(module)
    module.fail()


# -- comparing -----------------------------------------------------------------

_BUILTIN_STATE = (
    *("errno", "strerror", "filename", "filename2", "characters_written"),
    *("encoding", "object", "start", "end", "reason"),
    *("msg", "lineno", "offset", "text", "end_lineno", "end_offset", "print_file_and_line"),
    *("name", "path", "name_from", "obj", "value", "code", "message"),
)
"""What builtin exceptions keep outside ``__dict__``."""


def _safe(get: Callable[[], Any]) -> Any:
    """Return what *get* returns, or the type of what it raises: that is to be seen, too."""
    try:
        return get()
    except Exception as error:
        return f"<{type(error).__name__}>"


def portrait(error: BaseException | None, _seen: tuple[int, ...] = ()) -> Any:
    """Return all that a caller can see of *error*, as plain data that compares by value."""
    if error is None:
        return None
    if id(error) in _seen:
        return f"<the one {len(_seen) - _seen.index(id(error))} above>"
    seen = (*_seen, id(error))

    def shown(value: Any) -> Any:
        if isinstance(value, BaseException):
            return portrait(value, seen)
        if isinstance(value, (list, tuple)):
            return type(value)(shown(one) for one in value)
        return value

    cls = type(error)
    fields: dict[str, Any] = {
        "class": cls,
        "text": _safe(lambda: str(error)),
        "repr": _safe(lambda: repr(error)),
        "args": shown(_safe(lambda: error.args)),
        "dict": {key: shown(value) for key, value in sorted(object.__getattribute__(error, "__dict__").items())},
        "cause": portrait(error.__cause__, seen),
        "context": portrait(error.__context__, seen),
        "suppress": error.__suppress_context__,
    }
    for base in cls.__mro__:
        descriptors = [n for n in _BUILTIN_STATE if n in base.__dict__]
        slots = base.__dict__.get("__slots__", ())
        for name in [*descriptors, *((slots,) if isinstance(slots, str) else slots)]:
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{base.__name__.lstrip('_')}{name}"
            fields[f".{name}"] = shown(_safe(lambda name=name: object.__getattribute__(error, name)))
    if hasattr(cls, "exceptions"):
        fields["exceptions"] = [portrait(one, seen) for one in error.exceptions]  # type: ignore[attr-defined]
    return fields


def raise_no_such_key() -> None:
    """Raise what a client of boto3 would, by a class that botocore has made for that client's session."""
    import boto3

    client = boto3.client("s3", region_name="x", aws_access_key_id="a", aws_secret_access_key="b")
    answer = {"Error": {"Code": "NoSuchKey", "Message": "gone"}}
    raise client.exceptions.NoSuchKey(answer, "GetObject")
