"""The rules of the language in which protocols are written."""

import pickle
import sqlite3
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pytest

from parties.party import Party, drawn_from
from parties.record.kept import Kept
from parties.record.verify import transcript_digest, verify
from parties.record.view import Kind, View
from parties.record.writer import TranscriptWriter
from parties.runtime.host import Host
from parties.runtime.inline import InlineRuntime
from protocols.language.errors import FigureError, MessageError, StepError, VisibilityError
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, Role, party_name, role_of
from protocols.language.session import Revealed, Session, opened
from tests import toy_protocol as toy


@dataclass(frozen=True)
class WithArray:
    values: object


class Smuggler(int):
    values = np.zeros(2)


class Choice(Enum):
    ARRAY = np.zeros(2)


class Colour(Enum):
    RED = "red"


class ToyHost(Host):
    """A host of parties without data, in memory."""

    def __init__(self, names, path):
        self.name, self._said, self._groups, self._took = names[0], set(), {}, {}
        self._transcript = TranscriptWriter(path, Kept())
        self._parties = {
            name: Party(name, None, drawn_from(name.encode().ljust(32, b".")), self._transcript)
            for name in names
        }
        self._note, self.keep_state = lambda *args: None, lambda: None
        self._log = type("Log", (), {"info": lambda self, *args, **kwargs: None})()


@pytest.fixture
def toys(tmp_path):
    """(session, hosts, transcript paths): three owners, an authority and a cloud."""
    names = [["data_owner:0", "data_owner:1", "data_owner:2"], ["key_authority"], ["cloud_trainer"]]
    paths = [tmp_path / f"{group[0].partition(':')[0]}.sqlite" for group in names]
    hosts = [ToyHost(group, path) for group, path in zip(names, paths, strict=True)]
    runtime = InlineRuntime([])
    runtime._hosts = hosts
    runtime._home = {name: host for host, group in zip(hosts, names, strict=True) for name in group}
    session = Session(runtime, toy.FIGURE, {DATA_OWNER: 3, KEY_AUTHORITY: 1, CLOUD_TRAINER: 1}, None)
    return session, hosts, paths


def heap(hosts, party):
    (host,) = [h for h in hosts if party in h._parties]
    return host._parties[party]._heap


def test_a_value_crosses_by_send_and_the_receiver_has_its_own_copy(toys):
    s, _, _ = toys
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        there = o.send(c, value=o.do(toy.make, 4))
        o.do(toy.spoil)
        assert opened(s.reveal(c.do(toy.double, there), why="test")).tolist() == [0, 2, 4, 6]
        assert opened(s.reveal(c.do(toy.writable, there), why="test")) is False


def test_another_partys_handle_is_refused(toys):
    s, _, _ = toys
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        mine = o.do(toy.make, 4)
        with pytest.raises(VisibilityError, match="send it first"):
            c.do(toy.double, mine)
        with pytest.raises(VisibilityError, match="of its own"):
            c.send(o, value=mine)
        with pytest.raises(VisibilityError, match="send it first"):
            s.at(DATA_OWNER, 1).do(toy.double, mine)


@pytest.mark.parametrize(
    "bare",
    [
        np.zeros(2),
        [1],
        {"x": 1},
        WithArray(np.zeros(2)),
        b"bytes",
        object(),
        (1, [2]),
        Smuggler(3),
        Choice.ARRAY,
        np.float64(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bare_values_are_refused(toys, bare):
    s, _, _ = toys
    with s.phase("talk"), pytest.raises(VisibilityError, match="bare"):
        s.at(DATA_OWNER).do(toy.double, bare)


@pytest.mark.parametrize("public", [1, 1.5, "x", True, None, DATA_OWNER, WithArray(3), (1, "x")], ids=str)
def test_public_arguments_are_accepted(toys, public):
    s, _, _ = toys
    with s.phase("talk"):
        s.at(DATA_OWNER).do(toy.shares, 2)
        s.at(DATA_OWNER)._argument(public, toy.double)


def test_a_message_that_the_figure_does_not_show_is_refused(toys):
    s, _, _ = toys
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        mine = o.do(toy.make, 4)
        with pytest.raises(FigureError, match="other"):
            o.send(c, other=mine)
        with pytest.raises(FigureError):
            o.send(s.at(KEY_AUTHORITY), value=mine)
    with s.phase("later"), pytest.raises(FigureError, match="phase later"):
        o.send(c, value=o.do(toy.make, 1))


def test_steps_and_messages_belong_to_a_phase_and_phases_do_not_nest(toys):
    s, _, _ = toys
    with pytest.raises(VisibilityError, match="outside any phase"):
        s.at(DATA_OWNER).do(toy.make, 4)
    with s.phase("talk"), pytest.raises(VisibilityError, match="inside phase talk"), s.phase("talk"):
        pass


def test_a_handle_carries_no_value(toys):
    s, _, _ = toys
    with s.phase("talk"):
        handle = s.at(DATA_OWNER).do(toy.make, 4)
    with pytest.raises(VisibilityError):
        bool(handle)
    with pytest.raises(VisibilityError):
        a, b = handle
    with pytest.raises(VisibilityError):
        assert handle == 3
    assert set(vars(handle)) == {"_handle", "_senders", "_parts"}


def test_a_step_annotated_with_a_tuple_returns_several_handles(toys):
    s, _, _ = toys
    o = s.at(DATA_OWNER)
    with s.phase("talk"):
        low, high = o.do(toy.halves, o.do(toy.make, 5))
        assert opened(s.reveal(high, why="test")).tolist() == [2, 3, 4]
        assert opened(s.reveal(low, why="test")).tolist() == [0, 1]


def test_many_parties_send_and_their_values_are_gathered_in_order(toys):
    s, _, _ = toys
    o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        sent = o.send(c, value=o.do(toy.make, 2))
        with pytest.raises(VisibilityError, match="gather"):
            c.do(toy.total, sent)
        with pytest.raises(VisibilityError, match="gather"):
            s.reveal(sent, why="test")
        with pytest.raises(VisibilityError, match="gather"):
            c.send(s.at(DATA_OWNER), value=sent)
        assert opened(s.reveal(c.do(toy.total, s.gather(sent)), why="test")) == 3 + 200 + 400
        assert [v.tolist() for v in opened(s.reveal(s.gather(sent), why="test"))] == [
            [0, 1],
            [100, 101],
            [200, 201],
        ]


def test_a_group_of_one_is_gathered_too(toys):
    s, _, _ = toys
    o, c = s.each(DATA_OWNER, [1]), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        assert (
            opened(s.reveal(c.do(toy.total, s.gather(o.send(c, value=o.do(toy.make, 2)))), why="test")) == 201
        )


def test_one_party_broadcasts_or_scatters(toys):
    s, hosts, _ = toys
    o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        same = c.send(o, value=c.do(toy.shares, 2))
        own = c.send(o, share=s.scatter(c.do(toy.shares, 3), o))
        assert [heap(hosts, f"data_owner:{i}")[same._handle.id] for i in range(3)] == [[0, 10]] * 3
        assert [heap(hosts, f"data_owner:{i}")[own._handle.id] for i in range(3)] == [0, 10, 20]


def test_messages_are_numbered_in_script_order_in_both_views(toys):
    s, hosts, paths = toys
    o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        c.do(toy.total, s.gather(o.send(c, value=o.do(toy.make, 2))))
        s.reveal(c.send(s.at(DATA_OWNER, 2), value=c.do(toy.shares, 1)), why="test")
    s.runtime.finish()
    cloud = View([(str(paths[2]), "cloud_trainer")])
    assert [(r.seq, r.sender, r.kind) for r in cloud.rows("value")] == [
        *((3 + i, f"data_owner:{i}", Kind.RECEIVED) for i in range(3)),
        (7, "cloud_trainer", Kind.SENT)]  # fmt: skip
    owner = View([(str(paths[0]), "data_owner:2")])
    assert [(r.seq, r.kind) for r in owner.rows() if r.seq >= 0] == [
        (2, Kind.PUBLIC),
        (5, Kind.SENT),
        (7, Kind.RECEIVED),
        (8, Kind.OUTPUT),
    ]


def test_a_value_is_forgotten_with_its_handle(toys):
    s, hosts, _ = toys
    with s.phase("talk"):
        handle = s.at(DATA_OWNER).do(toy.make, 4)
        assert len(heap(hosts, "data_owner:0")) == 1
        del handle
        assert heap(hosts, "data_owner:0") == {}


def test_unknown_parties_and_unlabelled_messages_are_refused(toys):
    s, _, _ = toys
    with pytest.raises(VisibilityError, match="data_owner:3"):
        s.at(DATA_OWNER, 3)
    with s.phase("talk"), pytest.raises(VisibilityError, match="label"):
        s.at(DATA_OWNER).send(s.at(CLOUD_TRAINER))


def test_a_failing_step_names_party_step_phase_and_cause_and_no_value(toys):
    s, _, _ = toys
    with s.phase("talk", 5), pytest.raises(StepError) as failure:
        s.at(DATA_OWNER, 1).do(toy.fail)
    assert "data_owner:1: fail failed in phase talk, round 5: ValueError" in str(failure.value)
    assert "1234" not in str(failure.value)


def test_a_step_that_returns_fewer_values_than_annotated_is_refused(toys):
    s, _, _ = toys
    with s.phase("talk"), pytest.raises(StepError, match="returned 1 values"):
        s.at(DATA_OWNER).do(toy.lie)


def test_scripts_cannot_gather_scatter_or_reveal_what_is_not_there(toys):
    s, _, _ = toys
    o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        mine = o.do(toy.make, 2)
        for refused in (
            lambda: s.gather(mine),
            lambda: s.scatter(mine, o),
            lambda: s.reveal(mine, why="test"),
            lambda: s.reveal(np.zeros(1), why="test"),
            lambda: s.gather([1]),
            lambda: s.scatter([1], o),
            lambda: c.send(o, value=np.zeros(1)),
        ):
            with pytest.raises(VisibilityError):
                refused()


def test_parts_go_to_the_group_for_which_they_were_made_only(toys):
    s, _, _ = toys
    c = s.at(CLOUD_TRAINER)
    with s.phase("talk"), pytest.raises(VisibilityError, match="its parts are for"):
        c.send(s.each(DATA_OWNER, [0, 1]), share=s.scatter(c.do(toy.shares, 3), s.each(DATA_OWNER)))


@pytest.mark.parametrize("indices", [[], [0, 0], [0, 3], [-1]], ids=str)
def test_a_group_has_different_parties_that_take_part(toys, indices):
    with pytest.raises(VisibilityError, match="out of 3"):
        toys[0].each(DATA_OWNER, indices)


@pytest.mark.parametrize(
    "step",
    [lambda state: None, toy.make_closure(), np.zeros, "make"],
    ids=["lambda", "closure", "numpy", "name"],
)
def test_only_module_level_functions_run(toys, step):
    s, _, _ = toys
    with s.phase("talk"), pytest.raises(VisibilityError):
        s.at(DATA_OWNER).do(step)


def test_a_handle_of_another_session_is_refused(toys):
    s, _, _ = toys
    other = Session(s.runtime, toy.FIGURE, s.counts, None)
    with s.phase("talk"), other.phase("talk"):
        mine = s.at(DATA_OWNER).do(toy.make, 2)
        with pytest.raises(VisibilityError):
            other.at(DATA_OWNER).do(toy.double, mine)
        with pytest.raises(VisibilityError):
            other.reveal(mine, why="test")


def test_what_arrived_cannot_be_made_writable(toys):
    s, hosts, _ = toys
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        there = o.send(c, value=o.do(toy.make, 4))
        with pytest.raises(ValueError, match="WRITEABLE"):
            heap(hosts, "cloud_trainer")[there._handle.id].flags.writeable = True


def test_a_step_is_replaced_at_its_role_alone_and_the_transcript_names_the_other(toys):
    s, _, paths = toys
    s = Session(s.runtime, toy.FIGURE, s.counts, None, instead={(DATA_OWNER, toy.double): toy.treble})
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        assert opened(s.reveal(o.do(toy.double, 1), why="test")) == 3
        assert opened(s.reveal(c.do(toy.double, 1), why="test")) == 2
    s.runtime.finish()
    ran = [step for _, _, _, step in View([(str(paths[0]), "data_owner:0")]).steps()]
    assert ran == ["tests.toy_protocol.treble"]


@pytest.mark.parametrize("other", [toy.halves, toy.uses_default], ids=lambda step: step.__name__)
def test_what_stands_instead_of_a_step_returns_as_much_and_is_checked(toys, other):
    with pytest.raises(VisibilityError, match=other.__name__):
        Session(toys[0].runtime, toy.FIGURE, {}, None, instead={(DATA_OWNER, toy.double): other})


def test_a_step_runs_at_those_alone_for_whom_it_is_written(toys):
    s, _, _ = toys
    with s.phase("talk"):
        s.at(CLOUD_TRAINER).do(toy.of_the_cloud)
        s.at(CLOUD_TRAINER).do(toy.of_two)
        with pytest.raises(
            VisibilityError, match="of_the_cloud is a step of cloud_trainer, not of data_owner"
        ):
            s.each(DATA_OWNER).do(toy.of_the_cloud)
        with pytest.raises(
            VisibilityError, match="of_two is a step of cloud_trainer or helper, not of key_auth"
        ):
            s.at(KEY_AUTHORITY).do(toy.of_two)


@pytest.mark.parametrize("role", [Role("helper"), Role("bank", many=True), DATA_OWNER], ids=lambda r: r.value)
def test_a_role_is_one_object_under_its_name_wherever_it_comes_from(role):
    assert role_of(party_name(role, 3)) is role
    assert pickle.loads(pickle.dumps(role)) is role


@pytest.mark.parametrize("name", ["", "a b", "data_owner:1", "1st"])
def test_a_role_has_a_name_from_which_parties_can_be_named(name):
    with pytest.raises(ValueError, match="name of a role"):
        Role(name)


def test_what_is_revealed_comes_back_as_a_published_message_and_not_otherwise(toys):
    s, hosts, paths = toys
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        revealed = s.reveal(o.do(toy.make, 4), why="test")
        for shortcut in (
            lambda: tuple(revealed),
            lambda: revealed.tolist(),
            lambda: bool(revealed),
            lambda: revealed[0],
        ):
            with pytest.raises((TypeError, AttributeError, VisibilityError)):
                shortcut()
        with pytest.raises(VisibilityError, match="publish"):
            c.do(toy.double, revealed)
        with pytest.raises(VisibilityError, match="bare"):
            c.do(toy.double, (revealed,))
        with pytest.raises(FigureError, match="experimenter -> cloud_trainer: other"):
            s.publish(c, other=revealed)
        with pytest.raises(VisibilityError, match="what was revealed"):
            s.publish(c, told=(1, 2))
        told = s.publish(c, told=revealed)
        everyone = s.publish(s.each(DATA_OWNER), told=revealed)
        assert opened(s.reveal(c.do(toy.double, told), why="test")).tolist() == [0, 2, 4, 6]
        assert heap(hosts, "data_owner:2")[everyone._handle.id].tolist() == [0, 1, 2, 3]
    s.runtime.finish()
    cloud = View([(str(paths[2]), "cloud_trainer")])
    (row,) = cloud.rows("told")
    assert (row.kind, row.sender, cloud.value(row).tolist()) == (Kind.RECEIVED, "experimenter", [0, 1, 2, 3])
    assert list(verify(paths)) == []


@pytest.mark.parametrize("label", ["told", "arguments"])
def test_what_is_published_and_what_a_step_is_told_is_in_the_digest(toys, label):
    s, _, paths = toys
    with s.phase("talk"):
        s.publish(s.at(CLOUD_TRAINER), told=s.reveal(s.at(CLOUD_TRAINER).do(toy.shares, 2), why="test"))
    s.runtime.finish()
    with sqlite3.connect(paths[2]) as db:
        before = transcript_digest(paths)
        assert db.execute("UPDATE rows SET sha256 = zeroblob(32) WHERE label = ?", (label,)).rowcount == 1
        db.commit()
    assert transcript_digest(paths) != before


def test_every_public_argument_is_a_row_of_the_view_of_whom_it_tells(toys):
    s, _, paths = toys
    o = s.each(DATA_OWNER, [0, 2])
    with s.phase("talk", 4):
        held = o.do(toy.make, 4)
        o.do(toy.treble, held)
        o.do(toy.both, held, (WithArray(3), Colour.RED, (1, None)))
        s.at(DATA_OWNER, 1).do(toy.make, 5)
    s.runtime.finish()
    said = {i: View([(str(paths[0]), f"data_owner:{i}")]) for i in range(3)}
    told = {
        i: [(row.seq, row.round, row.sender, said[i].value(row)) for row in said[i].rows(None, Kind.PUBLIC)]
        for i in said
    }
    both = [[{"values": 3}, "red", [1, None]]]
    assert told[2] == [(1, 4, "experimenter", [4]), (3, 4, "experimenter", both)]
    assert told[0] == [(0, 4, "experimenter", [4]), (2, 4, "experimenter", both)]
    assert told[1] == [(4, 4, "experimenter", [5])]


def test_a_script_branches_on_a_revealed_bool(toys):
    s, _, _ = toys
    with s.phase("talk"):
        assert s.reveal(s.at(DATA_OWNER).do(toy.writable, s.at(DATA_OWNER).do(toy.make, 1)), why="test")


def test_what_arrives_is_of_the_type_that_the_figure_states(toys):
    s, _, _ = toys
    o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        c.send(o, typed=c.do(toy.integers))
        for other in (c.do(toy.shares, 2), s.reveal(c.do(toy.shares, 2), why="test")):
            said = r"data_owner:0: typed \(message \d+ of .*\) in phase talk is list \(2,\); FIGURE says"
            with pytest.raises(MessageError, match=said):
                s.publish(o, typed=other) if isinstance(other, Revealed) else c.send(o, typed=other)
