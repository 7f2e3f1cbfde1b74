"""The codec: objects to bytes and back. It does no I/O.

Rule 1: nothing here starts a process or a thread, opens a file or a socket, reads a
clock or the environment. So every test of this package runs in one process, and a
failure repeats.
Rule 2: only ``pickling`` imports pickle and cloudpickle, only ``tracebacks`` tblib.
Rule 3: what user code does while it is pickled or loaded (raise, recurse, lie) is
answered with a value or one of safemp's errors.
"""
