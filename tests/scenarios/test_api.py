"""`import keyhole`: the same runs, rows and errors as on the command line."""

import html

import keyhole
import numpy as np
import pytest


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "run"
    return keyhole.run("mitig2", samples=48, hidden=8, batch=16, epochs=1, seed=7, labels="owner",
                       runtime="inline", attack="label_clusters", no_audit=True, out=str(out))  # fmt: skip


def test_a_run_is_the_one_of_the_command_line(run, runs):
    from protocols.network.config import Labels

    same, _ = runs("mitig2", labels=Labels.OWNER)
    assert run.digest() == same.digest() and run.path.name == "run"
    assert (run.path / "report.html").exists() and keyhole.load(str(run.path)).result == run.result


def test_what_a_run_says(run):
    assert run.answer.startswith("The cloud trainer")
    rows = run.learned()
    assert {row["party"] for row in rows} == {"cloud_trainer", "data_owner:0"}
    together = run.learned("cloud_trainer", "data_owner")
    assert {row["party"] for row in together} == {"cloud_trainer, data_owner:0"}
    assert np.asarray(run.view("cloud_trainer")["z1"][0]).shape == (16, 8)


def test_a_notebook_shows_tables_pages_and_pictures(run):
    table = run.learned()._repr_html_()
    assert table.startswith("<table>") and table.count("<tr>") == len(run.learned()) + 1
    page = html.unescape(run._repr_html_())
    assert run.answer[:30] in page and page.startswith("<iframe")
    rows = run.attack("label-clusters", "gram")
    shown = rows._repr_html_()
    assert "label_clusters" in shown and [row["attack"] for row in rows] == ["label_clusters", "gram"]


def test_pictures_of_attacks_are_shown(tmp_path):
    run = keyhole.run("plain-fe", samples=16, hidden=64, batch=8, epochs=1, runtime="inline", no_audit=True,
                      out=tmp_path / "run")  # fmt: skip
    (row,) = rows = run.attack("stack")
    assert row["metrics"]["exact_pixels"] == 1.0 and "data:image/png;base64," in rows._repr_html_()


def test_an_audit_is_what_the_command_prints():
    found = keyhole.audit("mitig2", samples=4, epochs=1)
    assert found["protocol"] == "mitig2" and "<td>cloud_trainer</td>" in found._repr_html_()


@pytest.mark.parametrize(("call", "said"), [
    (lambda: keyhole.run("mitig2", labels="nobody"), "--labels: expected one of clear, febo, owner"),
    (lambda: keyhole.run("mitig2", label="owner"), "--label is no option of mitig2"),
    (lambda: keyhole.run("mitig2", **{"per-round": 2}), "write per_round for per-round"),
    (lambda: keyhole.run("mitig3"), "unknown scenario"),
    (lambda: keyhole.load("/nowhere"), "no such run folder"),
])  # fmt: skip
def test_errors_are_one_line(call, said):
    with pytest.raises(keyhole.KeyholeError, match=said) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


def test_strangers_text_is_escaped_in_tables():
    rows = keyhole.Rows([{"party": "<script>", "how": None}], ("party", "how"))
    assert "<script>" not in rows._repr_html_() and "&lt;script&gt;" in rows._repr_html_()
