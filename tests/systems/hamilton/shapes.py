"""Nodes of a graph, in a file."""

from __future__ import annotations


def area(side: int) -> int:
    return side * side


def perimeter(side: int) -> int:
    return 4 * side
