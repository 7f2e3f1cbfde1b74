"""The documentation's site: ``python -m sphinx -W --keep-going -b html docs site``.

Nothing of the site comes from elsewhere: fonts are the reader's own, and scripts and styles lie
beside the pages. So it can be read without a network, and tells nobody who reads it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import safemp  # after that, so it is this clone and not what may be installed

project = "safemp"
author = "safemp contributors"
copyright = "safemp contributors, MIT licence"
version = release = safemp.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["conf.py"]
suppress_warnings = ["config.cache"]

# Markdown, whose headings get the anchors that links of the other pages name.
myst_enable_extensions = ["colon_fence", "attrs_block"]
myst_heading_anchors = 4

# Docstrings: sections as Google writes them; types are in the signatures, where checkers read them.
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "undoc-members": False}
autodoc_mock_imports = ["dask", "distributed", "hamilton", "joblib", "ray"]
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# The theme: without a framework, light and dark as the reader's system is, and good on a phone.
html_theme = "furo"
html_title = "safemp"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_use_index = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#00695c", "color-brand-content": "#00695c"},
    "dark_css_variables": {"color-brand-primary": "#4db6ac", "color-brand-content": "#4db6ac"},
}
pygments_style = "friendly"
pygments_dark_style = "native"
copybutton_exclude = ".linenos, .gp, .go"

# The link check asks for nothing that is not in this clone: pages and anchors.
linkcheck_ignore = [r"https?://"]
