"""The notebook of the documentation runs as it stands, in a folder of its own."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def test_the_notebook_runs_and_draws_what_it_drew(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    written = nbformat.read(NOTEBOOK, as_version=4)
    executed = nbformat.from_dict(written)
    run_in = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(executed, timeout=240, kernel_name="python3", resources=run_in).execute()
    assert kinds(executed) == kinds(written)
    shown = [text for cell in executed.cells for text in pages(cell)]
    assert any("lattice_gram" in text and "data:image/png" in text for text in shown)


def kinds(notebook):
    """What each cell printed and drew, by type."""
    return [
        [sorted(output.get("data", {output.output_type: ""})) for output in cell.get("outputs", ())]
        for cell in notebook.cells
    ]


def pages(cell):
    return [output["data"].get("text/html", "") for output in cell.get("outputs", ()) if "data" in output]
