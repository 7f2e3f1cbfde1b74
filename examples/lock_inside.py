"""What in an object cannot be pickled, what of that travels all the same, and what does not.

Prints:

    pickle: cannot pickle '_thread.lock' object
    a worker counted 3 words
    safemp: cannot send args[0].progress: generator does not pickle
    now: 3
"""

import logging
import pickle
import threading

import safemp


class Pipeline:
    """Holds a lock, a logger and a lambda, as most things do by the time they are useful."""

    def __init__(self):
        self.lock = threading.Lock()
        self.log = logging.getLogger("pipeline")
        self.clean = lambda text: text.strip().lower()

    def count(self, text):
        with self.lock:
            return len(self.clean(text).split())


def main():
    pipeline = Pipeline()
    try:
        pickle.dumps(pipeline)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        print("pickle:", error)

    with safemp.SafeExecutor(1) as executor:
        print("a worker counted", executor.submit(pipeline.count, " To be fair ").result(), "words")

        pipeline.progress = (n for n in range(3))  # has come to some place, and no copy could go on from there
        try:
            executor.submit(Pipeline.count, pipeline, "to be fair")
        except safemp.PreflightError as error:
            print("safemp:", str(error).partition("\n")[0])
            del pipeline.progress
        print("now:", executor.submit(Pipeline.count, pipeline, "to be fair").result())


if __name__ == "__main__":
    main()
