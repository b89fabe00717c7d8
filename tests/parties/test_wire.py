"""Frames between hosts: who may connect, what arrives, and what ends a wait."""

import socket
import threading

import numpy as np
import pytest

from parties.runtime import wire
from parties.runtime.wire import PeerLost, Wire
from protocols.language.errors import ProtocolError


@pytest.fixture
def pair():
    """Two hosts that know each other, and their token."""
    token = wire.new_token()
    listeners = {name: wire.listening("127.0.0.1") for name in "ab"}
    ends = {name: Wire(name, token, listener) for name, listener in listeners.items()}
    book = {name: listener.getsockname() for name, listener in listeners.items()}
    for end in ends.values():
        end.meet(book)
    yield ends["a"], ends["b"], token, book
    for end in ends.values():
        end.halt()


def frames(*sizes):
    rng = np.random.default_rng(0)
    return [(3 * i, rng.integers(0, 256, size).astype(np.uint8)) for i, size in enumerate(sizes)]


def same(sent, came):
    return [i for i, _ in sent] == [i for i, _ in came] and all(
        np.array_equal(a, b) for (_, a), (_, b) in zip(sent, came, strict=True)
    )


def test_frames_arrive_in_order_whole_and_read_only(pair):
    a, b, _, _ = pair
    first, second = frames(5, 0, 1 << 20), frames(*[64] * 1000)
    sending = threading.Thread(target=lambda: (a.send("b", 0, first), a.send("b", 7, second)))
    sending.start()
    assert same(first, b.take("a", 0, 3))
    came = b.take("a", 7, 1000)
    sending.join()
    assert same(second, came) and not any(frame.flags.writeable for _, frame in came)


def test_a_host_keeps_what_it_sends_to_itself_and_tells_of_its_failure(pair):
    a, b, _, _ = pair
    mine = frames(4)
    a.send("a", 5, mine)
    assert a.take("a", 5, 1) is mine
    a.send("b", 6, None)
    assert b.take("a", 6, 1) is None


@pytest.mark.parametrize(("number", "most"), [(4, 2), (5, 1)])
def test_anything_but_the_transfer_that_is_expected_is_refused(pair, number, most):
    a, b, _, _ = pair
    a.send("b", 5, frames(1, 1))
    with pytest.raises(ProtocolError, match="b: a is at message 5"):
        b.take("a", number, most)


def test_who_does_not_know_the_token_is_no_host(pair):
    a, b, _, book = pair
    for name in ("a", wire.DRIVER):
        with pytest.raises((OSError, ProtocolError)):
            wire.dial(book["b"], name, wire.new_token())
    sent = frames(2)
    a.send("b", 0, sent)  # the true one is still served, and nothing was halted
    assert same(sent, b.take("a", 0, 1))


def test_one_that_answers_without_the_token_is_sent_nothing():
    listener, seen = wire.listening("127.0.0.1"), []

    def impostor():
        connection, _ = listener.accept()
        connection.sendall(bytes(32))
        connection.recv(1 << 16)
        connection.sendall(bytes(32))
        seen.append(connection.recv(1 << 16))

    thread = threading.Thread(target=impostor)
    thread.start()
    end = Wire("a", wire.new_token(), wire.listening("127.0.0.1"))
    end.meet({"b": listener.getsockname()})
    with pytest.raises(ProtocolError, match="no host of this run"):
        end.send("b", 0, frames(9))
    thread.join()
    assert seen == [b""]
    end.halt()


def test_the_driver_ends_a_wait_for_a_host_that_never_dials(pair):
    a, b, token, book = pair
    ended = []

    def waits():
        with pytest.raises(PeerLost, match="the connection to a ended"):
            b.take("a", 0, 1)
        ended.append(True)

    thread = threading.Thread(target=waits)
    thread.start()
    wire.halt(book["b"], token)
    thread.join(timeout=20)
    assert ended == [True]
    wire.halt(book["b"], token)  # nobody listens any more: no error


def test_a_host_that_is_gone_ends_the_wait_of_the_other(pair):
    a, b, _, _ = pair
    a.send("b", 0, frames(1))
    b.take("a", 0, 1)
    a.halt()
    with pytest.raises(PeerLost, match="the connection to a ended"):
        b.take("a", 1, 1)


def test_an_endless_frame_is_not_waited_for(pair):
    _, b, token, book = pair
    connection = wire.dial(book["b"], "a", token)
    connection.sendall(wire._HEAD.pack(0, 1) + wire._ENTRY.pack(0, 1 << 62))
    with pytest.raises(ProtocolError, match="was announced"):
        b.take("a", 0, 1)


def test_a_sender_waits_for_a_receiver_that_is_far_behind(pair):
    a, b, _, _ = pair
    sent, size = [], 1 << 20

    def sends():
        for seq in range(64):
            a.send("b", seq, frames(size))
            sent.append(seq)

    thread = threading.Thread(target=sends, daemon=True)
    thread.start()
    thread.join(timeout=1.0)
    assert thread.is_alive() and len(sent) < 32  # what the system buffers, and no more
    for seq in range(64):
        b.take("a", seq, 1)
    thread.join(timeout=20)
    assert len(sent) == 64


def test_a_silent_caller_does_not_keep_others_out(pair, monkeypatch):
    a, b, _, book = pair
    monkeypatch.setattr(wire, "_GREETING_SECONDS", 0.2)
    silent = socket.create_connection(book["b"])
    a.send("b", 0, frames(1))
    assert len(b.take("a", 0, 1)) == 1
    silent.close()
