"""The contract of engines, over those that need no other package."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import loky
import pytest

from safemp.executor import AnyEngine
from safemp.testing import EngineContract


class TestInline(EngineContract):
    @contextmanager
    def engine(self, max_workers: int) -> Iterator[AnyEngine]:
        yield "inline"


class TestLocal(EngineContract):
    @contextmanager
    def engine(self, max_workers: int) -> Iterator[AnyEngine]:
        yield "local"


class TestThreads(EngineContract):
    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Executor]:
        with ThreadPoolExecutor(max_workers) as executor:
            yield executor


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Python 3.14 has the first InterpreterPoolExecutor")
class TestInterpreters(EngineContract):
    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Executor]:
        from concurrent.futures import InterpreterPoolExecutor

        with InterpreterPoolExecutor(max_workers) as executor:
            yield executor


class TestForked(EngineContract):
    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Executor]:
        with ProcessPoolExecutor(max_workers, multiprocessing.get_context("fork")) as executor:
            yield executor


class TestSpawned(EngineContract):
    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Executor]:
        with ProcessPoolExecutor(max_workers, multiprocessing.get_context("spawn")) as executor:
            yield executor


class TestLoky(EngineContract):
    @contextmanager
    def engine(self, max_workers: int) -> Iterator[AnyEngine]:
        def executor() -> Executor:
            made: Executor = loky.get_reusable_executor(max_workers)
            return made

        try:
            yield executor
        finally:
            loky.get_reusable_executor(max_workers).shutdown(kill_workers=True)
