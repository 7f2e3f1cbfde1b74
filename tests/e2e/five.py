"""Small stand-ins for the five objects that the README tells of."""

from __future__ import annotations

import ctypes
import logging
import math
import threading
from collections.abc import Callable
from typing import Any

from safemp.demo.errors import RateLimitError, Response

__all__ = ["Dataset", "Driver", "Guardrails", "Service", "batch", "capsule", "generate", "invoke", "serve", "total"]


class _Model:
    def __init__(self) -> None:
        self.lock = threading.RLock()


class Guardrails:
    """1: a pipeline with a lock far down."""

    def __init__(self) -> None:
        self.chain: dict[str, Any] = {"steps": [str.strip, _Model()]}


def invoke(rails: Guardrails, text: str) -> str:
    """Run the pipeline, and take its lock."""
    strip, model = rails.chain["steps"]
    with model.lock:
        return str(strip(text))


def generate(prompt: str) -> str:
    """2: a task whose error wants keyword arguments that pickle does not know of."""
    response = Response(429, "http://127.0.0.1/v1", "{}")
    raise RateLimitError(f"no more than this: {prompt}", response=response, body={"code": "rate_limit_exceeded"})


class Driver:
    """3: a driver that was given modules."""

    def __init__(self) -> None:
        self.modules = [math]


def total(driver: Driver, value: float) -> float:
    """Use one of the driver's modules."""
    return float(driver.modules[0].sqrt(value))


def capsule() -> Any:
    """Return a ``PyCapsule``, as a C extension would."""
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(1, None, None)


class Service:
    """4: a service that reaches a ``PyCapsule``."""

    def __init__(self) -> None:
        self.pipe = {"vae": [capsule()]}


def serve(service: Service) -> str:
    """Never reached: the service cannot be sent."""
    return type(service).__name__


class Dataset:
    """5: a dataset with a logger, a lambda and a lock."""

    def __init__(self) -> None:
        self.log = logging.getLogger("five")
        self.transform: Callable[[int], int] = lambda x: x + 1
        self.lock = threading.Lock()


def batch(dataset: Dataset, index: int) -> int:
    """Fetch one item."""
    with dataset.lock:
        dataset.log.debug("item %d", index)
        return dataset.transform(index)
