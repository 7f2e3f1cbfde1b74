"""Which files are for which version of garak."""

from tests.systems.garak.scan import OLD

collect_ignore = ["test_page.py"] if OLD else ["test_failures.py"]
