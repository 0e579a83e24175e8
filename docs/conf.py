"""Sphinx configuration: `make docs` builds the site into docs/_build/html, without any network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

from tamiz_reference.api import type_aliases

import tamiz

project = "Tamiz"
author = "the Tamiz authors"
copyright = f"{author}; Apache-2.0"
release = version = tamiz.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "tamiz_reference"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = type_aliases("tamiz")
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# The types are in the signatures.
napoleon_attr_annotations = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# A name in single backticks becomes a link where the reference has that name, and stays code where it has not.
smartquotes = False
default_role = "py:obj"
nitpicky = True
# Types of other libraries and of Python itself: their documentation is on other sites.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(?!tamiz).*",
    ),
    # The connection behind a `Control`, which applications do not use.
    (r"py:class", r"tamiz\.transports\.base\.Transport"),
]

html_theme = "furo"
html_title = f"Tamiz {release}"
html_static_path = ["_static"]
html_favicon = "_static/tamiz.svg"
html_copy_source = False
html_show_sourcelink = False
# The fonts of the reader's system: nothing is loaded from another site.
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b6e5f",
        "color-brand-content": "#0b6e5f",
        "font-stack": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
        "font-stack--monospace": "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace",
    },
    "dark_css_variables": {"color-brand-primary": "#4fc3ae", "color-brand-content": "#4fc3ae"},
}

linkcheck_timeout = 20
