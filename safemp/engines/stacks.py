"""What faulthandler writes, made readable: the thread that matters first, without our own frames.

    Current thread 0x00007f01 (most recent call first):
      File "/x/parse.py", line 12 in parse          the user's
      File "/x/safemp/worker.py", line 41 in run    ours, and all below

Rule 1: what is not understood is kept.
"""

from __future__ import annotations

import re

__all__ = ["clean", "told"]

_HEADER = re.compile(r"(Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):")
_IMPORTING = '  File "<frozen importlib'


def clean(text: str) -> str:
    """Put the current thread first, and cut off what is below the task.

    Args:
        text: What faulthandler has written at once.

    Returns:
        The same form, from the first thread on.
    """
    threads: list[list[str]] = []
    rest: list[str] = []
    for line in text.splitlines():
        if _HEADER.match(line):
            threads.append([line])
        elif threads and line.startswith("  "):
            threads[-1].append(line)
        elif line.startswith("Extension modules:"):
            rest.append(line)
    threads.sort(key=lambda lines: not lines[0].startswith("Current"))
    parts = ["\n".join([lines[0], *_without_ours(lines[1:])]) for lines in threads]
    return "\n\n".join(parts + rest)


def _without_ours(frames: list[str]) -> list[str]:
    """Cut off the worker's loop and what has started it, unless there is nothing else.

    Of a task that is a function of C, which has no frame, what has called it is left.
    """
    loop = next((i for i, line in enumerate(frames) if _is_in(line, "engines", "child.py")), None)
    if loop is None:
        return frames
    top = loop
    while top and _is_in(frames[top - 1], "worker.py"):
        top -= 1
    return frames[:top] or frames[:loop] or frames


def _is_in(frame: str, *path: str) -> bool:
    return any(f'{sep}{sep.join(("safemp", *path))}", line ' in frame for sep in ("/", "\\"))


def told(stack: str) -> tuple[str, list[str]]:
    """Return what to say of one thread's frames, and the frames, for people.

    Args:
        stack: What ``clean`` gave.

    Returns:
        Those of the thread that crashed, or was interrupted. Where it was none of Python's,
        the main thread's, which faulthandler writes last. No thread: no frames.
    """
    threads = [part.splitlines() for part in stack.split("\n\n") if _HEADER.match(part)]
    if not threads:
        return "", []
    known = threads[0][0].startswith("Current")
    frames = threads[0 if known else -1][1:]
    title = "most recent call first" if known else "of the main thread; it was in one that Python does not know"
    return title, [line.strip() for line in frames if not line.startswith(_IMPORTING)]
