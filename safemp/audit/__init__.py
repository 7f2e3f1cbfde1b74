"""Which exception classes of a package survive a pool: ``python -m safemp audit-exceptions``.

command   the command line; each package in a process of its own
look      one package: calls of its worker, and what comes back
task      what that worker does: make, pickle and raise
find      every exception class of a package
samples   one exception of a class, with arguments that its constructor takes
values    these arguments
portrait  all that can be seen of an exception, as plain data
stock     what the standard library's pickle does
"""

from __future__ import annotations
