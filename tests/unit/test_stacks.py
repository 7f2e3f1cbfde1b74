"""Stacks are cut to what the user wrote, the thread that crashed first."""

from __future__ import annotations

from safemp.engines.stacks import clean, told

LOOP = """\
  File "/site/safemp/worker.py", line 41 in run
  File "/site/safemp/engines/child.py", line 129 in _do
  File "/site/safemp/engines/child.py", line 98 in loop
  File "/site/safemp/engines/child.py", line 76 in main
  File "/lib/multiprocessing/process.py", line 314 in _bootstrap
  File "<frozen runpy>", line 88 in _run_code"""

THREADS = f"""\
Thread 0x00007f02 (most recent call first):
  File "/lib/threading.py", line 982 in run
  File "/lib/threading.py", line 1002 in _bootstrap

Current thread 0x00007f01 [MainThread] (most recent call first):
  File "/home/me/parse.py", line 12 in page
  File "<frozen importlib._bootstrap>", line 1204 in _gcd_import
  File "/home/me/safemp/engines/child.pyx", line 7 in parse
{LOOP}

Extension modules: numpy.core._multiarray_umath (total: 1)
"""


def test_the_thread_that_crashed_comes_first_and_our_frames_go() -> None:
    """Of the worker's loop and what has started it nothing is left; other threads and the modules follow."""
    found = clean(THREADS)

    assert found.splitlines() == [
        "Current thread 0x00007f01 [MainThread] (most recent call first):",
        '  File "/home/me/parse.py", line 12 in page',
        '  File "<frozen importlib._bootstrap>", line 1204 in _gcd_import',
        '  File "/home/me/safemp/engines/child.pyx", line 7 in parse',
        "",
        "Thread 0x00007f02 (most recent call first):",
        '  File "/lib/threading.py", line 982 in run',
        '  File "/lib/threading.py", line 1002 in _bootstrap',
        "",
        "Extension modules: numpy.core._multiarray_umath (total: 1)",
    ]
    assert told(found)[1] == [
        'File "/home/me/parse.py", line 12 in page',
        'File "/home/me/safemp/engines/child.pyx", line 7 in parse',
    ]


def test_a_pool_in_a_forked_worker_is_cut_at_its_own_loop() -> None:
    """A fork takes the frames of the forking thread along; they are not the task's."""
    inner = f'Current thread 0x01 (most recent call first):\n  File "in.py", line 1 in inner\n{LOOP}\n{LOOP}'

    assert clean(inner).splitlines()[1:] == ['  File "in.py", line 1 in inner']


def test_of_a_task_in_c_its_caller_is_left() -> None:
    """``submit(time.sleep, ...)`` has no frame of its own; the one that has called it stands for it, alone."""
    found = clean(f"Current thread 0x01 (most recent call first):\n{LOOP}")

    assert told(found)[1] == ['File "/site/safemp/worker.py", line 41 in run']


def test_what_is_ours_alone_is_kept() -> None:
    """A worker that dies in its own loop shows it: there is nothing else to show."""
    own = LOOP.partition("\n")[2]

    assert len(clean(f"Current thread 0x01 (most recent call first):\n{own}").splitlines()) == 6


def test_windows_paths_are_known() -> None:
    """Frames of ours are told by either kind of path."""
    text = 'Current thread 0x01 (most recent call first):\n  File "a.py", line 1 in f\n' + LOOP.replace("/", "\\")

    assert told(clean(text))[1] == ['File "a.py", line 1 in f']


def test_a_crash_in_a_thread_of_c_shows_the_main_thread() -> None:
    """In that case faulthandler calls none the current one, and writes the main thread's frames last."""
    title, frames = told(clean(THREADS.replace("Current thread", "Thread")))

    assert "does not know" in title
    assert frames[0] == 'File "/home/me/parse.py", line 12 in page'


def test_no_stack_is_no_stack() -> None:
    """Nothing, or something else, gives nothing; a thread without Python frames says so."""
    bare = "Current thread 0x01 (most recent call first):\n  <no Python frame>"

    assert clean("") == ""
    assert clean("garbage\n\0\n") == ""
    assert told("") == ("", [])
    assert told("Extension modules: x (total: 1)") == ("", [])
    assert clean(bare) == bare
    assert told(bare)[1] == ["<no Python frame>"]
