"""`keyhole reproduce`: published figures are marked, ours are those of the runs beside them."""

import json

import pytest
from typer.testing import CliRunner

from protocols.language.errors import ConfigError
from scenarios.cli import app
from scenarios.run.catalogue import find_scenario
from scenarios.run.experiment import prepare
from scenarios.run.folder import load_run
from scenarios.study import reproduce as module
from scenarios.study.reproduce import PAPERS, reproduce, reproduced_table


def said(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "160"})


def test_the_table_puts_published_figures_beside_those_of_its_runs(tmp_path):
    done = said("reproduce", "ionita2025", "--quick", "--out", tmp_path / "r", "--json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    rows = {(row["run"], row["what"]): row for row in content["rows"]}
    first = rows["mitig2", "accuracy on held-out samples"]
    assert (first["published"], first["measured_on"]) == ("0.968", "digits, 160 samples")
    assert first["ours"] == load_run(tmp_path / "r" / "mitig2").result["accuracy"]["test"]
    attacked = load_run(tmp_path / "r" / "plain-fe").result["attacks"]
    lp = next(row for row in attacked if row["attack"] == "lp")
    assert rows["plain-fe", "its attack on one observation (lp), mse"]["ours"] == lp["metrics"]["mse"]
    assert rows["plain-fe", "mean of public samples, mse"]["ours"] == lp["baseline"]["guess"]["mse"]
    assert "not to be compared" in content["notes"][0]
    before = (tmp_path / "r" / "mitig2" / "result.json").stat().st_mtime_ns
    shown = said("reproduce", "ionita2025", "--quick", "--out", tmp_path / "r")
    assert "0.968 (published)" in shown.output and "7 (published)" in shown.output
    assert (tmp_path / "r" / "mitig2" / "result.json").stat().st_mtime_ns == before  # not run again
    with pytest.raises(ConfigError, match="another paper or size"):
        reproduce("panzade2023", tmp_path / "r", quick=True)


def test_a_table_without_its_data_says_what_to_give_and_nothing_is_made_up(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", offline)
    done = said("reproduce", "panzade2023", "--out", tmp_path / "r")
    assert done.exit_code == 1 and "--data-dir" in done.output and "--quick" in done.output
    assert all(
        row.get("ours") is None for row in json.loads((tmp_path / "r" / "reproduce.json").read_text())["rows"]
    )


def test_every_published_figure_is_one_that_has_a_source_and_every_job_can_be_prepared(monkeypatch):
    published = {name: [line.published for job in paper.jobs for line in job.lines if line.published]
                 for name, paper in PAPERS.items()}  # fmt: skip
    assert published == {
        "ionita2025": ["0.968", "7"], "allison2025": ["tens to hundreds"], "panzade2023": ["0.95"],
    }  # fmt: skip
    for paper in PAPERS.values():
        assert paper.source
        for job in paper.jobs:
            prepare(find_scenario(job.scenario), job.quick)
            options = find_scenario(job.scenario).options()
            assert {name for name in job.full if name not in options} <= {"hidden"}


def test_a_figure_of_the_paper_is_called_published_and_ours_never(tmp_path):
    row = {"run": "a", "what": "b", "unit": "", "published": "0.5", "ours": 0.25, "measured_on": "digits"}
    content = {"paper": "p", "source": "S", "notes": [], "rows": [row, {**row, "published": ""}]}
    cells = [list(column.cells) for column in reproduced_table(content).renderables[0].columns]
    assert cells[3] == ["0.5 (published)", ""] and cells[4] == ["0.25", "0.25"]


def test_an_unknown_paper_is_one_line():
    done = said("reproduce", "nobody2020")
    assert done.exit_code == 2 and "known: ionita2025, allison2025, panzade2023" in done.output + done.stderr
    assert module.failed({"rows": [{"why": "x"}]}) and not module.failed({"rows": [{}]})
