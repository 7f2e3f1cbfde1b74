"""CPython's tests that safemp is not asked to pass: one line, one reason.

There are two kinds. Some look at private parts of the standard library, which we do
not have. Some pin a behaviour that we have changed on purpose; what we do instead is
tested elsewhere.
"""

from __future__ import annotations

EXCLUDED: dict[str, dict[str, str]] = {
    "WithProcessesTestPool": {
        "test_traceback": "looks for the private class RemoteTraceback; our exceptions keep their own cause",
        "test_imap_handle_iterable_exception": "drops the items of a chunk whose iterable raises; ours all get results",
    },
    "WithProcessesTestPoolWorkerLifetime": {
        "test_pool_worker_lifetime": "calls the private _repopulate_pool()",
    },
    "TestPoolNotLeakOnFailure": {
        "test_release_unused_processes": "its processes are mocks without pid or sentinel",
    },
    "FailingInitializerTest": {
        "test_initializer": "waits for the private attribute _broken",
    },
    "ProcessPoolExecutorTest": {
        "test_broken_process_pool_traceback": "wants all tasks to fail with the worker of one; ours fails that one",
        "test_failed_worker_replacement_breaks_pool": "mocks the private _spawn_worker",
        "test_force_shutdown_during_max_tasks_worker_exit": "sets the private _force_shutting_down",
        "test_force_shutdown_workers": "wants a mock of the worker's Process.kill called; ours ends its children, too",
        "test_force_shutdown_workers_invalid_op": "calls the private _force_shutdown",
        "test_gc_during_max_tasks_worker_exit_gh152967": "wants calls of a collected executor to fail; ours are made",
        "test_kill_workers": "mocks the private _force_shutdown",
        "test_killed_child": "wants the executor broken for ever; ours heals",
        "test_max_tasks_per_child_defaults_to_spawn_context": "looks at the private _mp_context",
        "test_python_finalization_error": "counts and mocks the threads that the standard library starts",
        "test_saturation": "submits a semaphore and never sees that this fails; ours says so in submit",
        "test_shutdown_no_wait_max_tasks_gh119592": "wants calls of a collected executor to fail; ours are made",
        "test_terminate_workers": "mocks the private _force_shutdown",
        "test_traceback": "looks for the private class _RemoteTraceback; our exceptions keep their own cause",
    },
    "ProcessPoolShutdownTest": {
        "test_cancel_futures": "wants a call that a private queue has taken beforehand; ours can all be cancelled",
        "test_del_shutdown": "looks at the private _executor_manager_thread and _call_queue",
        "test_processes_terminate": "submits a semaphore and never sees that this fails; ours says so in submit",
        "test_shutdown_gh_132969_case_1": "joins the private _executor_manager_thread",
        "test_shutdown_gh_132969_case_2": "joins the private _executor_manager_thread",
        "test_shutdown_no_wait": "looks at the private _executor_manager_thread and _call_queue",
    },
    "ExecutorDeadlockTest": {
        "test_error_at_task_pickle": "wants the error in the future; ours is raised by submit",
        "test_error_at_task_unpickle": "wants the executor broken; ours names the argument that does not load",
        "test_error_during_result_unpickle_in_result_handler": "wants the executor broken; ours raises ResultError",
        "test_exit_at_task_unpickle": "wants the executor broken; ours names the argument that does not load",
        "test_exit_during_result_pickle_on_worker": "wants SystemExit itself; ours is a ResultError that names it",
        "test_exit_during_result_unpickle_in_result_handler": "wants the executor broken; ours raises ResultError",
        "test_shutdown_deadlock_pickle": "looks at the private _executor_manager_thread",
    },
}
