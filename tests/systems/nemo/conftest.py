"""Which files are for which version of NeMo Guardrails: the old one has its indexes from annoy."""

from tests.systems.nemo.rails import OLD

collect_ignore = ["test_page.py"] if OLD else ["test_annoy.py"]
