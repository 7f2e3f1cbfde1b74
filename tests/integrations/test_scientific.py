"""SciPy, emcee, DEAP, pymoo, Optuna, adaptive, nautilus: serial answers, errors as themselves, locks in objectives."""

from __future__ import annotations

import functools
import pickle
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import safemp
from tests.support.child import run_script

try:
    import adaptive
    import emcee
    import nautilus
    import optuna
    import scipy.integrate
    import scipy.optimize
    from deap import algorithms, base, creator, tools
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.optimize import minimize
    from pymoo.parallelization import StarmapParallelization
except ImportError:
    scipy = None
    ElementwiseProblem = object

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(scipy is None, reason="wants scipy, emcee, deap, pymoo, optuna, adaptive and nautilus-sampler"),
    pytest.mark.timeout(120),
]

BOUNDS = [(-3.0, 3.0), (-3.0, 3.0)]
START = [0.5, 2.0]


@pytest.fixture(scope="module")
def pool() -> Iterator[safemp.Pool]:
    """Two workers for the module."""
    with safemp.Pool(2) as pool:
        yield pool


class Diverged(Exception):
    """Pickles, and does not unpickle."""

    def __init__(self, *, at: float) -> None:
        super().__init__(f"diverged at {at}")
        self.at = at


class DivergedType(TypeError):
    """The same, of a family that SciPy catches."""

    def __init__(self, *, at: float) -> None:
        super().__init__(f"diverged at {at}")
        self.at = at


class Cost:
    """Least at (1, 1); holds a lock, which plain pickle refuses."""

    def __init__(self, limit: float = 9.0, error: type[Any] = Diverged) -> None:
        self.lock = threading.Lock()
        self.limit = limit
        self.error = error

    def __call__(self, x: Any) -> float:
        with self.lock:
            if max(x) > self.limit:
                raise self.error(at=float(max(x)))
            return float(np.sum((np.asarray(x) - 1) ** 2))


def test_the_objects_here_are_hostile() -> None:
    """Stock pickle refuses the lock, and cannot load the exception."""
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock'"):
        pickle.dumps(Cost())
    with pytest.raises(TypeError, match=r"__init__\(\) takes 1 positional argument"):
        pickle.loads(pickle.dumps(Diverged(at=1.0)))


# -- SciPy -----------------------------------------------------------------------------

SCIPY: dict[str, Callable[[Any], Any]] = {
    "differential_evolution": lambda workers: (
        scipy.optimize.differential_evolution(Cost(), BOUNDS, rng=1, updating="deferred", maxiter=20, workers=workers).x
    ),
    "brute": lambda workers: scipy.optimize.brute(Cost(), [slice(-2, 2, 0.5)] * 2, finish=None, workers=workers),
    "shgo": lambda workers: scipy.optimize.shgo(Cost(), BOUNDS, workers=workers).x,
    "minimize": lambda workers: scipy.optimize.minimize(Cost(), START, method="BFGS", options={"workers": workers}).x,
    "least_squares": lambda workers: scipy.optimize.least_squares(Cost(), START, workers=workers).x,
    "quad_vec": lambda workers: scipy.integrate.quad_vec(lambda x: Cost()([x, x]), 0.0, 1.0, workers=workers)[0],
    "cubature": lambda workers: (
        scipy.integrate.cubature(lambda x: np.array([Cost()(row) for row in x]), [0.0], [1.0], workers=workers).estimate
    ),
}


@pytest.mark.parametrize("name", SCIPY)
def test_scipy_finds_the_same_on_a_pool(pool: safemp.Pool, name: str) -> None:
    """Every function that takes ``workers=`` gives the serial answer, bit for bit."""
    serial = SCIPY[name](map)

    assert np.array_equal(SCIPY[name](pool.map), serial)
    assert np.array_equal(SCIPY[name](safemp.map), serial)


def test_scipys_own_pool_is_ours_where_patched() -> None:
    """``workers=2`` fails on the lock by itself, and finds the serial answer inside ``patched()``."""
    with pytest.raises((TypeError, RuntimeError)):
        SCIPY["brute"](2)
    with safemp.patched():
        found = SCIPY["brute"](2)

    assert np.array_equal(found, SCIPY["brute"](map))


def test_an_error_in_a_cost_is_itself(pool: safemp.Pool) -> None:
    """Out of ``brute`` and ``differential_evolution``; a ``TypeError`` is the cause of SciPy's own."""
    with pytest.raises(Diverged) as caught:
        scipy.optimize.brute(Cost(limit=0), [slice(-1, 2, 1.0)], workers=pool.map)
    assert caught.value.at == 1.0
    with pytest.raises(Diverged):
        scipy.optimize.differential_evolution(Cost(limit=-4), BOUNDS, rng=1, updating="deferred", workers=pool.map)
    with pytest.raises(TypeError, match="map-like callable") as reported:
        scipy.optimize.brute(Cost(0, DivergedType), [slice(-1, 2, 1.0)], workers=pool.map)
    assert isinstance(reported.value.__cause__, DivergedType)


# -- emcee -----------------------------------------------------------------------------


def log_probability(x: Any, cost: Cost) -> float:
    """Highest at (1, 1)."""
    return -0.5 * cost(x)


def sample(pool: Any, cost: Cost) -> Any:
    """Run a few steps of eight walkers."""
    start = np.random.default_rng(1).normal(size=(8, 2))
    sampler = emcee.EnsembleSampler(8, 2, log_probability, args=[cost], pool=pool)
    sampler.random_state = np.random.RandomState(2).get_state()
    sampler.run_mcmc(start, 10)
    return sampler.get_chain()


def test_emcee_walks_the_same_way(pool: safemp.Pool) -> None:
    """The chain is the serial one; an error out of the log-probability is itself."""
    assert np.array_equal(sample(pool, Cost()), sample(None, Cost()))
    with pytest.raises(Diverged):
        sample(pool, Cost(limit=-9.0))


# -- DEAP ------------------------------------------------------------------------------


@pytest.fixture
def made_classes() -> Iterator[None]:
    """DEAP's classes, made here and known nowhere else."""
    creator.create("Best", base.Fitness, weights=(1.0,))
    creator.create("Individual", list, fitness=creator.Best)
    yield
    del creator.Best, creator.Individual


def evolve(map: Any, limit: float = 99.0) -> list[Any]:
    """Look for a list of ones."""
    cost = Cost(limit)
    random.seed(4)
    toolbox = base.Toolbox()
    toolbox.register("individual", tools.initRepeat, creator.Individual, lambda: random.randint(0, 1), 20)
    toolbox.register("population", tools.initRepeat, list, toolbox.individual)
    toolbox.register("evaluate", lambda individual: (-cost(individual),))
    toolbox.register("mate", tools.cxTwoPoint)
    toolbox.register("mutate", tools.mutFlipBit, indpb=0.05)
    toolbox.register("select", tools.selTournament, tournsize=3)
    toolbox.register("map", map)
    found, _ = algorithms.eaSimple(toolbox.population(n=20), toolbox, 0.5, 0.2, 8, verbose=False)
    return [(list(one), one.fitness.values) for one in found]


@pytest.mark.usefixtures("made_classes")
def test_deap_evolves_the_same(pool: safemp.Pool) -> None:
    """Population and fitness are those of ``map``; an error out of ``evaluate`` is itself."""
    assert evolve(pool.map) == evolve(map)
    with pytest.raises(Diverged):
        evolve(pool.map, limit=0.5)


# -- pymoo -----------------------------------------------------------------------------


class Two(ElementwiseProblem):  # type: ignore[misc]
    """Two costs, so a front of answers."""

    def __init__(self, limit: float = 9.0, **settings: Any) -> None:
        super().__init__(n_var=2, n_obj=2, xl=-2, xu=2, **settings)
        self.cost = Cost(limit)

    def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        out["F"] = [self.cost(x), self.cost(x + 1)]


def front(problem: Two) -> Any:
    """Return the front after a few generations."""
    return minimize(problem, NSGA2(pop_size=8), ("n_gen", 4), seed=1).F


def test_pymoo_finds_the_same_front(pool: safemp.Pool) -> None:
    """Through ``StarmapParallelization``; an error out of the problem is itself."""
    runner = StarmapParallelization(pool.starmap)
    serial = front(Two())

    assert np.array_equal(front(Two(elementwise_runner=runner)), serial)
    assert np.array_equal(front(Two(elementwise_runner=StarmapParallelization(safemp.starmap))), serial)
    with pytest.raises(Diverged):
        front(Two(limit=-9.0, elementwise_runner=runner))


JOBLIB = """
import pickle
import numpy as np
import safemp
from pymoo.parallelization import JoblibParallelization
from tests.integrations.test_scientific import Two, front

if __name__ == "__main__":
    runner = JoblibParallelization(n_jobs=2)
    try:
        front(Two(elementwise_runner=runner))
    except pickle.PicklingError:
        print("refused")
    with safemp.repairing():
        print(np.array_equal(front(Two(elementwise_runner=runner)), front(Two())))
"""


def test_pymoos_joblib_sends_the_lock_where_repairing(tmp_path: Path) -> None:
    """By itself joblib cannot pickle the problem."""
    ended = run_script(tmp_path, JOBLIB)  # a child, since joblib's resource tracker stays

    assert (ended.returncode, ended.out) == (0, "refused\nTrue\n"), str(ended)


# -- Optuna ----------------------------------------------------------------------------


def search(submit: Callable[..., Any], trials: int) -> Any:
    """Ask and tell, three trials at once."""
    space = {"x": optuna.distributions.FloatDistribution(-3, 3), "y": optuna.distributions.FloatDistribution(-3, 3)}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    cost, running = Cost(limit=2.5), {}
    while trials or running:
        while trials and len(running) < 3:
            trial = study.ask(space)
            running[submit(at, cost, **trial.params)] = trial
            trials -= 1
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            trial = running.pop(future)
            error = future.exception()
            if error is not None:
                assert type(error) is Diverged
                assert error.at == max(trial.params.values())
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, future.result())
    return [(trial.params, trial.value, trial.state) for trial in study.trials]


def at(cost: Cost, x: float, y: float) -> float:
    """Return the cost there."""
    return cost([x, y])


def test_optuna_is_told_what_became_of_its_trials() -> None:
    """Values and failures are those of a serial run; a failed trial says why, as itself."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with safemp.SafeExecutor(2) as executor:
        found = search(executor.submit, 20)
    with safemp.SafeExecutor(1, engine="inline") as serial:
        expected = search(serial.submit, 20)

    assert found == expected
    assert len({state for _, _, state in found}) == 2, "some have failed, some not"


# -- those that look at what the pool is -------------------------------------------------


class Curve:
    """A cost of one number, for adaptive, which asks the class of an executor and its ``_max_workers``."""

    def __init__(self, limit: float = 9.0) -> None:
        self.cost = Cost(limit)

    def __call__(self, x: float) -> float:
        return self.cost([x])


def learn(executor: Any, curve: Curve) -> dict[float, float]:
    """Learn a curve at its most interesting points."""
    learner = adaptive.Learner1D(curve, (-3, 3))
    adaptive.BlockingRunner(learner, npoints_goal=20, executor=executor)
    return dict(learner.data)


def test_adaptive_takes_a_patched_executor_for_a_process_pool() -> None:
    """It counts its workers; the points are right, and the cause of its own error is that out of the function."""
    with safemp.patched():
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(2) as executor:
            found = learn(executor, Curve())
            with pytest.raises(RuntimeError) as raised:
                learn(executor, Curve(limit=-9.0))
    assert len(found) >= 20
    assert all(y == Curve()(x) for x, y in found.items())
    assert isinstance(raised.value.__cause__, Diverged)


def log_likelihood(cost: Cost, parameters: dict[str, float]) -> float:
    """Highest at (1, 1)."""
    return -50 * cost([parameters["a"], parameters["b"]])


def evidence(pool: Any, cost: Cost) -> float:
    """Explore a plane."""
    prior = nautilus.Prior()
    for name in "ab":
        prior.add_parameter(name, dist=(0.0, 2.0))
    sampler = nautilus.Sampler(
        prior, functools.partial(log_likelihood, cost), n_live=50, n_networks=0, pool=(pool, None), seed=1
    )
    sampler.run(n_eff=50, verbose=False)
    return float(sampler.log_z)


def test_nautilus_asks_a_pool_for_its_size(pool: safemp.Pool) -> None:
    """By ``_processes``; the evidence is the serial one, and an error out of the likelihood is itself."""
    assert evidence(pool, Cost()) == evidence(None, Cost())
    with pytest.raises(Diverged):
        evidence(pool, Cost(limit=-9.0))
