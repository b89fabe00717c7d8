"""The messages of every run are the arrows of its protocol's FIGURE, no more and no fewer; each arrow is in
some run.
"""

import shlex
from xml.etree import ElementTree

import pytest

from parties.record.view import Kind
from protocols.language.figure import as_mermaid, as_text
from scenarios.docs.figure import as_svg
from scenarios.run.catalogue import PROTOCOLS, find_protocol
from scenarios.run.folder import load_run
from tests.rules.test_digests import LINES


def observed(run):
    roles = ("sender", "receiver")
    return {
        (r.phase, *(getattr(r, role).partition(":")[0] for role in roles), r.label)
        for r in run.view(*run.sources).rows(None, Kind.SENT)
    }


@pytest.mark.parametrize("line", [line for _, line in LINES])
def test_a_run_sends_exactly_the_arrows_of_its_figure(line, finished):
    run = load_run(finished(line))
    figure = find_protocol(shlex.split(line)[0]).FIGURE
    assert observed(run) == {a.key for a in figure if a.applies(run.config())}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_arrow_is_sent_in_some_run(name, finished):
    runs = [load_run(finished(line)) for _, line in LINES if shlex.split(line)[0].replace("-", "_") == name]
    arrows = [a for a in find_protocol(name).FIGURE if a.phase != "predict"]
    assert {a.key for a in arrows} == set().union(*map(observed, runs))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_arrow_states_what_it_carries(name):
    protocol = find_protocol(name)
    arrows = (*protocol.FIGURE, *getattr(protocol, "PREDICT", ()))
    assert [arrow.key for arrow in arrows if arrow.type is None] == []


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_drawings_show_every_arrow(name):
    figure = find_protocol(name).FIGURE
    text, mermaid = as_text(figure).splitlines(), as_mermaid(figure).splitlines()
    listed = [[a.sender.value, "->", a.receiver.value, a.label] for a in figure]
    assert [line.split()[:4] for line in text if " -> " in line] == listed
    drawn = [line.strip().split(":")[0] for line in mermaid if "->>" in line]
    assert drawn == [f"{a.sender.value}->>{a.receiver.value}" for a in figure]
    assert all(any(a.label in line and a.note in line and a.when in line for line in mermaid) for a in figure)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_page_of_a_protocol_draws_every_arrow(name):
    figure = find_protocol(name).FIGURE
    drawn = ElementTree.fromstring(as_svg(figure, name))
    said = [element.text for element in drawn.iter("text")]
    assert sum(element.get("marker-end") == "url(#head)" for element in drawn.iter("line")) == len(figure)
    for arrow in figure:
        assert f"{arrow.label}: {arrow.note}" in said or arrow.label in said
        assert not arrow.when or f"[{arrow.when}]" in said
