"""The five failures of the README: each shown as it is today, then with safemp."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import cloudpickle
import pytest

import safemp
from safemp.demo.errors import RateLimitError
from tests.e2e.five import Dataset, Driver, Guardrails, Service, batch, generate, invoke, serve, total


def test_1_a_lock_deep_inside() -> None:
    """A pipeline with an RLock far down travels; its copy has a lock of its own."""
    with pytest.raises(TypeError, match=r"^cannot pickle '_thread.RLock' object(\nwhen .*)*$"):
        cloudpickle.dumps(Guardrails())

    with safemp.Pool(1) as pool:
        assert pool.apply(invoke, (Guardrails(), "  hello ")) == "hello"


def test_2_an_error_with_keyword_arguments() -> None:
    """An error that does not unpickle arrives as itself, and the pool goes on."""
    with pytest.raises(RateLimitError) as raised:
        generate("x")
    with pytest.raises(TypeError, match="missing 2 required keyword-only arguments"):
        pickle.loads(pickle.dumps(raised.value))

    with safemp.Pool(1) as pool:
        with pytest.raises(RateLimitError, match="no more than this: x") as raised:
            pool.apply(generate, ("x",))
        assert (raised.value.status_code, raised.value.body) == (429, {"code": "rate_limit_exceeded"})
        assert pool.apply(abs, (-1,)) == 1


def test_3_a_driver_with_modules() -> None:
    """An object that holds modules travels; the worker has its own by the same name."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        future = executor.submit(total, Driver(), 9.0)
        with pytest.raises(TypeError, match=r"^cannot pickle 'module' object"):
            future.result(30)

    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(total, Driver(), 9.0).result(30) == 3.0


def test_4_a_capsule_and_no_word_where() -> None:
    """An object that cannot travel is named by its path, where the call is made."""
    with pytest.raises(TypeError, match=r"^cannot pickle 'PyCapsule' object(\nwhen .*)*$"):
        cloudpickle.dumps(Service())
    service = Service()

    with safemp.SafeExecutor(1) as executor, pytest.raises(safemp.PreflightError) as raised:
        executor.submit(serve, service)
    assert str(raised.value).startswith("cannot send args[0].pipe['vae'][0]: PyCapsule does not pickle\n")
    assert [culprit.get() for culprit in raised.value.culprits] == [service.pipe["vae"][0]]


def test_5_a_dataset_with_a_logger_a_lambda_and_a_lock() -> None:
    """A dataset with a logger, a lambda and a lock travels to a clean interpreter."""
    process = multiprocessing.get_context("spawn").Process(target=batch, args=(Dataset(), 1))
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        process.start()
    dataset = Dataset()
    dataset.transform = abs
    with pytest.raises(TypeError, match=r"^cannot pickle '_thread.lock' object"):
        pickle.dumps(dataset)
    assert isinstance(dataset.log, logging.Logger)

    with safemp.Pool(1) as pool:
        assert pool.starmap(batch, [(Dataset(), i) for i in range(4)]) == [1, 2, 3, 4]
