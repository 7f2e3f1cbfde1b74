"""Which exception classes of a package survive a pool: ``python -m safemp audit-exceptions``.

* ``command``: the command line; ``packages``: each package in a process of its own.
* ``look``: one package. Its worker makes and raises exceptions; what arrives is judged.
* ``task``: what that worker does; ``stock``: what the standard library's pickle does there.
* ``find``: every exception class of a package.
* ``samples``: one exception of a class, with arguments (``values``, ``responses``) that
  its constructor takes.
* ``portrait``: all that can be seen of an exception, as plain data; ``verdict``: what is
  missing of it in another.
"""

from __future__ import annotations
