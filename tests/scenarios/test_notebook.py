"""The notebook of the documentation runs as it stands, in a folder of its own, and says what it said."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"
TIMES = re.compile(r"\d+(\.\d+)? (ms|s|min)\b")
PICTURES = re.compile(r"data:image/png;base64,[\w+/=]+")
ALIKE = 0.02  # mean difference of two drawings, of the range: another font, and not another curve


def test_the_notebook_runs_and_says_and_draws_what_it_did(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    root = NOTEBOOK.parents[1]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # where others run too, threads wait for each other
    monkeypatch.setenv("PYTHONPATH", f"{root}:{root / 'scenarios' / 'package'}")
    written = nbformat.read(NOTEBOOK, as_version=4)
    executed = nbformat.from_dict(written)
    run_in = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(executed, timeout=240, kernel_name="python3", resources=run_in).execute()
    cells = [(old, new) for old, new in zip(written.cells, executed.cells, strict=True) if "outputs" in old]
    for old, new in cells:
        assert said(new) == said(old), old.source
        before, after = drawn(old), drawn(new)
        assert [image.shape for image in after] == [image.shape for image in before], old.source
        for one, other in zip(before, after, strict=True):
            assert np.abs(one - other).mean() <= ALIKE, old.source
    everything = "\n".join(text for _, new in cells for text in said(new))
    assert "lattice_gram" in everything and "(picture)" in everything
    assert sum(len(drawn(new)) for _, new in cells) > 2


def said(cell):
    """What a cell printed and the text of its tables, without times and pictures."""
    texts = []
    for output in cell.outputs:
        data = output.get("data", {})
        text = data.get("text/html") or output.get("text") or ("" if "image/png" in data else answers(data))
        texts.append(TIMES.sub("(time)", PICTURES.sub("(picture)", text)))
    return texts


def answers(data):
    """A text that is no print of nested data, whose floats are those of a machine."""
    text = data.get("text/plain", "")
    return "" if text.startswith(("[{", "{", "<")) else text


def drawn(cell):
    """Every picture of a cell, (rows, columns) in [0, 1], those in its tables too."""
    found = [output.get("data", {}) for output in cell.outputs]
    coded = [data["image/png"] for data in found if "image/png" in data]
    coded += [url.partition(",")[2] for data in found for url in PICTURES.findall(data.get("text/html", ""))]
    pictures = (Image.open(io.BytesIO(base64.b64decode(each))).convert("L") for each in coded)
    return [np.asarray(picture, dtype=float) / 255 for picture in pictures]
