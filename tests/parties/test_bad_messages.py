"""What a party is sent is checked where it arrives: one line names sender, label and number, and the rest of
the run can be read.
"""

from dataclasses import replace

import numpy as np
import pytest

from parties.party import Party
from parties.runtime import wire
from protocols.crypto import febo, fhipe, ipfe_ddh, ipfe_lwe, ipfe_rlwe
from protocols.crypto.coins import Coins
from protocols.language.errors import MessageError, StepError
from scenarios.run import execute as executing
from scenarios.run.execute import execute
from scenarios.run.folder import RunFolder
from scenarios.run.status import State, status_of
from tests.conftest import MANY, TINY, small
from tests.scenarios.test_status import said

LWE, RLWE = ("plain_fe", {}), ("plain_fe", {"scheme": "rlwe"})
DDH = ("plain_fe", {"scheme": "ddh", "labels": "febo", "gradient": "fe", "samples": 16, "hidden": 2,
                    "batch": 8, "weight_scale": 16, "lr": 0.001})  # fmt: skip
PLAIN, SPLIT, COPIES = ("plain", {}), ("mitig2", {}), ("mitig2", MANY)
SECURE = ("mitig2", {**MANY, "defence": ("secure-aggregation",)})
HIDING, HEAD = ("mitig1", TINY), ("reverse_he", {})
OTHER = Coins(bytes(31) + b"x")  # of another instance


def flipped(name, *place):
    """A record with one bit of an array changed."""

    def change(value):
        array = np.array(getattr(value, name))
        array.view(np.uint8).reshape(*array.shape, -1)[(*place, -1)] ^= 64
        return replace(value, **{name: array})

    return change


def of_another_instance(scheme):
    return lambda mpk: scheme.setup(mpk.params, OTHER)[0]


def first(change):
    """The first of a list changed."""
    return lambda items: [change(items[0]), *items[1:]]


SENT = [  # (run, label, which of its messages, what becomes of it at its sender, what the receiver says)
    # types, shapes, sizes and ranges: refused where they arrive
    (SPLIT, "z1", 1, lambda v: v.astype(np.float64), r"float64 \(16, 8\); FIGURE says float32 \(m, 8\)"),
    (SPLIT, "z1", 0, lambda v: None, "NoneType"),
    (SPLIT, "dz1", 2, lambda v: v[:, :1], r"float32 \(16, 1\); FIGURE says float32 \(m, 8\)"),  # broadcasts
    (SPLIT, "labels", 0, lambda v: v - 1, "FIGURE says integer .* from 0 to 9"),
    (SPLIT, "labels", 0, lambda v: np.concatenate([v, v[:1]]), "49 rows of owner 0, of 48"),
    (COPIES, "labels", 2, lambda v: v[1:], "11 rows of owner 1, of 12, .* is unlike the others"),
    (COPIES, "z1", 6, lambda v: v[1:], "unlike the others"),
    (COPIES, "w1_mean", 1, lambda v: v.T, r"float32 \(64, 8\); FIGURE says float32 \(8, 64\)"),
    (COPIES, "w1_copy", 3, lambda v: v[:1], r"float32 \(1, 64\); FIGURE says"),  # broadcasts
    (SECURE, "pks", 0, lambda v: v[:, :-1], r"uint8 \(4, 31\); FIGURE says"),
    (SECURE, "w1_masked", 2, lambda v: v.view(np.int64), "int64"),
    (PLAIN, "x", 0, lambda v: v + 1, "FIGURE says integer .* from 0 to 16"),
    (LWE, "dw1", 1, lambda v: v[:, :1], r"float32 \(8, 1\); FIGURE says float32 \(8, 64\)"),  # broadcasts
    (LWE, "w1", 0, lambda v: v[1:], r"int16 \(7, 64\); FIGURE says integer \(8, 64\)"),
    (LWE, "w1", 1, lambda v: v * 0 + 2000, "an entry exceeds the bound 1024"),
    (DDH, "dz1", 0, lambda v: v[:1], r"\(1, 8\); FIGURE says integer \(2, 8\)"),
    (HEAD, "x", 0, lambda v: v[:, 1:], r"\(32, 63\); FIGURE says integer \(m, 64\)"),
    (HEAD, "decision", 0, lambda v: v + 100, "a decision is no class"),
    # ciphertexts and keys that are altered: refused where they arrive, or where they open to nonsense
    (LWE, "ct", 0, flipped("c1", 0, 40), "an inner product exceeds|the noise of an inner product"),
    (LWE, "sk_w1", 1, flipped("sk", 3, 5), "an inner product exceeds|the noise of an inner product"),
    (RLWE, "sk_w1", 1, flipped("sk", 3, 5), "an inner product exceeds|the noise of an inner product"),
    (DDH, "ct", 0, flipped("elements", 0, 3), "not a point on secp256k1"),
    (DDH, "ct_labels", 0, flipped("commitments", 0, 3), "not a point on secp256k1", "p"),  # C relays it to A
    (DDH, "sk_w1", 0, flipped("sk", 1), "a discrete logarithm lies outside"),
    (HIDING, "ct", 0, flipped("elements", 0, 3), "element 3 of 1040: "),
    (HIDING, "sk_w1", 0, first(flipped("elements", 0, 3)), "element 3 of 260: "),
    (HEAD, "r", 0, lambda v: replace(v, tag=bytes(len(v.tag))), "belongs to another instance"),
    # of another instance
    (LWE, "mpk", 0, of_another_instance(ipfe_lwe), "an inner product exceeds|the noise of an", "ct"),
    (LWE, "ct", 0, lambda ct: replace(ct, c0=ct.c0[::-1].copy()), "an inner product exceeds|the noise of an"),
    (RLWE, "mpk", 0, of_another_instance(ipfe_rlwe), "another instance", "ct"),
    (DDH, "mpk", 0, of_another_instance(ipfe_ddh), "a discrete logarithm lies outside", "ct"),
    (DDH, "mpk_labels", 0, of_another_instance(febo), "a discrete logarithm lies outside", "ct_labels"),
    (HIDING, "msk", 0, lambda msk: fhipe.setup(msk.params, OTHER)[1], "its tag differs", "ct"),
]  # fmt: skip


def altered_at_its_sender(monkeypatch, label, which, change):
    """Have the message of this label and place changed before it is sent; a list that gets the headers."""
    seen, emit = [], Party.emit

    def altering(self, header, handle, item=None):
        if header.label == label and len(seen) <= which:
            seen.append(header)
            if len(seen) == which + 1:
                held = self._heap[handle]
                one = change(held if item is None else held[item])
                self._heap[handle] = one if item is None else [*held[:item], one, *held[item + 1 :]]
        return emit(self, header, handle, item)

    monkeypatch.setattr(Party, "emit", altering)
    return seen


@pytest.mark.parametrize("row", SENT, ids=lambda row: f"{row[0][0]}-{row[1]}")
def test_what_is_not_as_it_should_be_stops_the_run_in_a_line(row, tmp_path, monkeypatch):
    (name, options), label, which, change, why, *blamed = row
    seen = altered_at_its_sender(monkeypatch, label, which, change)
    with pytest.raises((MessageError, StepError), match=why) as raised:
        execute(replace(small(name, **options), out=tmp_path / "run"))
    line, sent = str(raised.value), seen[which]
    assert "\n" not in line and (f"{blamed[0]} (message" if blamed else sent.said) in line
    stored = RunFolder(tmp_path / "run")
    assert status_of(stored).state is State.FAILED and status_of(stored).reason == line
    assert said(stored.path, "show", "--party", sent.sender)[0] == 0
    status, told = said(stored.path, "show", "--verify")
    assert status == 1 or (status == 3 and told.startswith("incomplete: failed")), told


UNNOTICED = [  # (run, label, which, change, whether the weights are the same all the same)
    (LWE, "ct", 0, lambda ct: replace(ct, c1=ct.c1 + np.uint64(1)), True),  # less than the noise
    (LWE, "mpk", 0, lambda mpk: replace(mpk, b=mpk.b + np.uint64(1)), True),
    (SPLIT, "z1", 1, lambda z1: -z1, False),  # nothing binds a party to its input
    (COPIES, "w1_copy", 3, lambda w1: 2 * w1, False),
    (SECURE, "w1_masked", 3, lambda w1: w1 + np.uint64(1 << 32), False),  # uniform to who adds up
    (LWE, "labels", 0, lambda y: 9 - y, False),
]


@pytest.mark.parametrize("row", UNNOTICED, ids=lambda row: f"{row[0][0]}-{row[1]}")
def test_what_no_receiver_can_notice_goes_on(row, tmp_path, monkeypatch, runs_without_ledger):
    (name, options), label, which, change, same = row
    clean = weights(runs_without_ledger(name, **options)[0])
    monkeypatch.setattr(executing, "_learned", lambda *_: [])
    altered_at_its_sender(monkeypatch, label, which, change)
    run, _ = execute(replace(small(name, **options), out=tmp_path / "run"))
    assert np.array_equal(weights(run), clean) == same


def weights(run):
    """The last W1 that was revealed."""
    holder = next(name for name in run.sources if "accuracy" in run.view(name).labels())
    found = [value for name in run.sources for _, value in run.view(name).values("accuracy")]
    assert holder
    return next(value["w1"] for value in reversed(found) if "w1" in value)


ON_THE_WAY = {  # what becomes of a transfer: (connection, its pieces and tags) -> what is sent
    "altered": lambda pieces: [*pieces[:-2], bytes(pieces[-2])[:-1] + b"?", pieces[-1]],
    "repeated": lambda pieces: pieces * 2,
}


@pytest.mark.parametrize("what", ON_THE_WAY)
def test_what_is_changed_on_its_way_is_noticed_whatever_it_holds(what, tmp_path, monkeypatch):
    send, sent = wire._send_all, []

    def changing(connection, pieces):
        if len(pieces) == 6:  # a transfer of one frame
            sent.append(None)
            pieces = ON_THE_WAY[what](pieces) if len(sent) == 1 else pieces
        send(connection, pieces)

    monkeypatch.setattr(wire, "_send_all", changing)  # in every process that is forked
    with pytest.raises(MessageError) as raised:
        execute(replace(small("mitig2", runtime="local"), out=tmp_path / "run"))
    message = "z1 (message 3" if what == "repeated" else "labels (message 1"
    line = f"cloud_trainer: {message} of data_owner:0) in phase"
    assert str(raised.value).startswith(line) and "repeated on its way" in str(raised.value)
    assert status_of(RunFolder(tmp_path / "run")).state is State.FAILED
