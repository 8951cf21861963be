"""Two small notebooks in the manner of the book's own, for tests of the runner and of the build."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PARAMETERS = 'PROFILE = "smoke"\nSEED = 0\nRESULTS_DIR = "../results/smoke"'

NUMBERS = """import json
from pathlib import Path
import numpy as np
rng = np.random.default_rng(SEED)
results = {"profile": PROFILE, "count": 3, "mean": float(rng.random(1000).mean())}
path = Path(RESULTS_DIR) / "01_numbers.json"
path.write_text(json.dumps(results))
results["mean"]"""

PICTURE = """import base64, io
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
from IPython.display import HTML
figure, axes = plt.subplots(figsize=(3, 2))
axes.plot([0, 1, 2], [0, 1, 4])
buffer = io.BytesIO()
figure.savefig(buffer, format="png")
plt.close(figure)
data = base64.b64encode(buffer.getvalue()).decode()
HTML(f'<img alt="Parabola through the origin" src="data:image/png;base64,{data}">')"""

VIEW = """import json
from pathlib import Path
import nglview
from ase import Atoms
cell = Atoms("Na2N2H4", cell=[5, 5, 5], pbc=True, positions=[
    [0, 0, 0], [2.5, 2.5, 0], [2.5, 0, 2.5], [0, 2.5, 2.5],
    [2.5, 0.8, 3.1], [2.5, -0.8, 3.1], [0, 3.3, 3.1], [0, 1.7, 3.1]])
view = nglview.show_ase(cell)
view.clear_representations()
view.add_representation("spacefill", radius=0.7)
view.add_unitcell()
(Path(RESULTS_DIR) / "02_view.json").write_text(json.dumps({"atoms": len(cell)}))
view"""


def write_sample_notebooks(folder: Path) -> Path:
    """``01_numbers`` (text, formula, picture) and ``02_view`` (a live view)."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "01_numbers.ipynb", [text("Numbers"), parameters(), code(NUMBERS), code(PICTURE)])
    write(folder / "02_view.ipynb", [text("A live view"), parameters(), code(VIEW)])
    return folder


def text(title: str) -> nbformat.NotebookNode:
    body = f"# {title}\n\nA formula in the text, $r = xL$, and on a line of its own:\n\n$$\nE = \\sum_i e_i\n$$"
    return new_markdown_cell(body, id=_id(title))


def parameters(source: str = PARAMETERS) -> nbformat.NotebookNode:
    return new_code_cell(source, id="parameters", metadata={"tags": ["parameters"]})


def code(source: str) -> nbformat.NotebookNode:
    return new_code_cell(source, id=_id(source))


def write(path: Path, cells: list[nbformat.NotebookNode]) -> Path:
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    return path


def _id(source: str) -> str:
    import hashlib

    return hashlib.sha256(source.encode()).hexdigest()[:8]
