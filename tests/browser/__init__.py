"""What people see, in a real browser: ``python -m tests.browser FOLDER``.

Wants Chromium and its driver, and the extras ``docs`` and ``browser``; CI does not run it.

    site        the documentation and the pages that safemp writes
    viewer      a trace in speedscope, which npm brings
    notebook    a notebook of Jupyter's: a bar, an interrupted cell, a report
    chromium    the browser: sizes, light and dark, what a page must not do
"""
