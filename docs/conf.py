"""The manual as a site (``make docs``): Sphinx reads the pages and the docstrings of the package.

The project's folder is the source, so a link between pages works in the site as it does in a
repository's view, and a link to any other file offers that file.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

from sgflux import __version__

project = "sgflux"
author = copyright = "sgflux developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
include_patterns = ["*.md", "docs/**.md", "benchmarks/**.md", "findings/*.md", "integrations/**.md"]
exclude_patterns = [".*", "build", "runs", "data", "shared", "src", "tests"]  # not worth a walk
root_doc = "docs/README"
suppress_warnings = ["toc.not_included"]  # tests/test_docs.py holds that links lead to every page

html_theme = "furo"
html_title = f"sgflux {__version__}"
html_extra_path = ["site"]

myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autoclass_content = "class"
napoleon_custom_sections = ["Source", "Shapes", ("Batch", "params_style")]
napoleon_use_rtype = False


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Give the manual's first page a table of contents: the pages that it links, in its order."""
    if name != app.config.root_doc:
        return
    linked = re.findall(r"\]\(([^)\s#]+)\.md\)", source[0])
    top = [f"/{path.stem}" for path in sorted(Path(app.srcdir).glob("*.md"))]
    source[0] += "\n".join(["", "```{toctree}", ":hidden:", "", *linked, *top, "```", ""])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
