"""``safemp.inspect``: what in an object cannot travel, where it is, and what to type instead.

The codec finds (``survey``, ``loading``, ``sizes``); here the findings become one
``Report``, and ``tree``, ``text`` and ``html`` show it.

Rule 1: what is found is what a pool would meet. Nothing is looked at that pickling
would not look at, and no property, ``__getattr__`` or ``__repr__`` runs that pickling or
loading would not run.
Rule 2: a report keeps texts. Only ``get()`` of what it lists keeps an object alive.
"""

from __future__ import annotations

from safemp.inspection.look import inspect
from safemp.inspection.report import Report

__all__ = ["Report", "inspect"]
