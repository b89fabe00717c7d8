"""The messages of every run are the arrows of its protocol's FIGURE, no more and no fewer."""

import itertools

import pytest

from parties.record.view import Kind, View
from protocols.language.figure import as_mermaid, as_text
from protocols.network.config import Authority, Gradient, Init, Labels, Scheme
from protocols.network.head_config import Release
from scenarios.run.catalogue import PROTOCOLS, find_protocol
from tests.conftest import TINY

CASES = [
    ("plain", {}),
    ("plain", {"init": Init.OWNER, "labels": Labels.OWNER}),
    *(("plain_fe", {"labels": lab, "gradient": grad})
      for lab, grad in itertools.product((Labels.CLEAR, Labels.FEBO), Gradient)),
    ("plain_fe", {"scheme": Scheme.DDH}),
    *(("mitig1", {**TINY, "authority": a, "owners": n}) for a, n in itertools.product(Authority, (1, 2))),
    *(("mitig2", {"labels": lab, "owners": n}) for lab, n in itertools.product((Labels.CLEAR, Labels.OWNER), (1, 3))),
    *(("reverse_he", {"release": release}) for release in Release),
    ("reverse_he", {"head": "24-6-5"}),
]  # fmt: skip


def observed(run):
    view = View(tuple((path, name) for name, path in run.sources.items()))
    return {
        (r.phase, r.sender.partition(":")[0], r.receiver.partition(":")[0], r.label)
        for r in view.rows(None, Kind.SENT)
    }


@pytest.mark.parametrize(("protocol", "options"), CASES, ids=str)
def test_a_run_sends_exactly_the_arrows_of_its_figure(runs, protocol, options):
    run, _ = runs(protocol, **options)
    assert observed(run) == {a.key for a in find_protocol(protocol).FIGURE if a.applies(run.config())}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_drawings_show_every_arrow(name):
    figure = find_protocol(name).FIGURE
    text, mermaid = as_text(figure).splitlines(), as_mermaid(figure).splitlines()
    assert [line.split()[:4] for line in text if " -> " in line] == [
        [a.sender.value, "->", a.receiver.value, a.label] for a in figure]  # fmt: skip
    drawn = [line.strip().split(":")[0] for line in mermaid if "->>" in line]
    assert drawn == [f"{a.sender.value}->>{a.receiver.value}" for a in figure]
    assert all(any(a.label in line and a.note in line and a.when in line for line in mermaid) for a in figure)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_readme_shows_the_figure(name):
    with open("README.md", encoding="utf-8") as readme:
        assert as_mermaid(find_protocol(name).FIGURE) in readme.read()
