"""Tell the book where its repository is: launch buttons, an install cell in each notebook, the citation.

    .venv/bin/python scripts/set_repository.py https://github.com/OWNER/NAME [BRANCH]

Run it once when the project has an address, look at the changes and commit them. Until then the pages have no buttons:
one that leads nowhere is worse than none. Run again, it replaces the address.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nanh2lib.files import write_atomically  # noqa: E402
from nanh2lib.report.notebooks import find_notebooks, write_notebook  # noqa: E402

ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
INSTALL_TAG = "install"
INSTALL_ID = "install"
INSTALL_CELL = """\
# In Colab, which has no nanh2lib: install it first. Nobody has tried this there yet; tell us if you do.
from importlib.util import find_spec

if find_spec("nanh2lib") is None:
    get_ipython().run_line_magic("pip", "install -q 'nanh2lib[all] @ git+{address}@{branch}'")"""
CONFIG_BLOCK = """\
repository:  # written by scripts/set_repository.py
  url: {address}
  branch: {branch}
launch_buttons:
  notebook_interface: jupyterlab
  binderhub_url: https://mybinder.org
  colab_url: https://colab.research.google.com
"""
_OLD_BLOCK = re.compile(r"^repository:  # written by.*?(?=^(?!repository:|launch_buttons:| )|\Z)", re.M | re.S)


def set_repository(root: Path, address: str, branch: str = "main") -> None:
    """Write the address into ``_config.yml``, ``CITATION.cff`` and every notebook below ``root``."""
    if not ADDRESS.fullmatch(address):
        sys.exit(f"set_repository: {address!r} is no address that Colab can open; give https://github.com/OWNER/NAME")
    names = {"address": address, "branch": branch}
    config = root / "_config.yml"
    text = _OLD_BLOCK.sub("", config.read_text(encoding="utf-8"))
    text = text.replace("html:\n", CONFIG_BLOCK.format(**names) + "html:\n", 1)
    yaml.safe_load(text)
    write_atomically(config, text.encode())
    citation = root / "CITATION.cff"
    kept = [
        line for line in citation.read_text(encoding="utf-8").splitlines() if not line.startswith("repository-code:")
    ]
    write_atomically(citation, "\n".join([*kept, f"repository-code: {address}", ""]).encode())
    for path in find_notebooks(root / "notebooks"):
        notebook = nbformat.read(str(path), as_version=4)
        others = [cell for cell in notebook.cells if INSTALL_TAG not in cell.metadata.get("tags", [])]
        cell = nbformat.v4.new_code_cell(INSTALL_CELL.format(**names), id=INSTALL_ID)
        cell.metadata["tags"] = [INSTALL_TAG, "remove-cell"]  # of no use to somebody who reads the page
        notebook.cells = [others[0], cell, *others[1:]]
        write_notebook(notebook, path)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    set_repository(ROOT, *sys.argv[1:])
