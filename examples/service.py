"""A service on asyncio that computes in processes, with a time limit for each request.

A request whose time is up ends its call; the worker is free for the next.

Prints:

    /square?5     200 25
    /square?600   504 ended
    /square?7     200 49
"""

import asyncio
import time

import safemp.aio


def square(n):
    """Stand in for work that takes long for large numbers."""
    time.sleep(3600 if n > 100 else 0.01)
    return n * n


async def answer(executor, path):
    n = int(path.partition("?")[2])
    try:
        return 200, await asyncio.wait_for(executor.run(square, n), 8)
    except asyncio.TimeoutError:
        return 504, "ended"


async def main():
    async with safemp.aio.Executor(2) as executor:
        paths = ["/square?5", "/square?600", "/square?7"]
        for path, (status, text) in zip(
            paths, await asyncio.gather(*(answer(executor, path) for path in paths)), strict=True
        ):
            print(f"{path:13} {status} {text}")


if __name__ == "__main__":
    asyncio.run(main())
