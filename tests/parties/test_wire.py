"""Frames between hosts: who may connect, what arrives, and what ends a wait."""

import socket
import threading

import numpy as np
import pytest

from parties.runtime import wire
from parties.runtime.wire import PeerLost, Wire
from protocols.language.errors import ProtocolError


def nothing_spoken():
    yield from ()


@pytest.fixture
def pair():
    """Two hosts that know each other, and their token."""
    token = wire.new_token()
    listeners = {name: wire.listening("127.0.0.1") for name in "ab"}
    ends = {name: Wire(name, token, listener, nothing_spoken) for name, listener in listeners.items()}
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
    assert same(first, b.take("a", 0, [0, 3, 6]))
    came = b.take("a", 7, range(0, 3000, 3))
    sending.join()
    assert same(second, came) and not any(frame.flags.writeable for _, frame in came)


def test_a_host_keeps_what_it_sends_to_itself_and_tells_of_its_failure(pair):
    a, b, _, _ = pair
    mine = frames(4)
    a.send("a", 5, mine)
    assert a.take("a", 5, [0]) is mine
    a.send("b", 6, None)
    assert b.take("a", 6, [0]) is None


@pytest.mark.parametrize(("number", "indices"), [(4, [0, 3]), (5, [0]), (5, [0, 1]), (5, [0, 3, 6])])
def test_anything_but_the_transfer_that_is_expected_is_refused(pair, number, indices):
    a, b, _, _ = pair
    a.send("b", 5, frames(1, 1))
    with pytest.raises(ProtocolError, match="a is at message 5"):
        b.take("a", number, indices)


def test_who_does_not_know_the_token_is_no_host(pair):
    a, b, _, book = pair
    for purpose in wire.Purpose:
        with pytest.raises((OSError, ProtocolError)):
            wire.dial(book["b"], wire.new_token(), "a", purpose)
    sent = frames(2)
    a.send("b", 0, sent)  # the true one is still served, and nothing was halted
    assert same(sent, b.take("a", 0, [0]))


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
    end = Wire("a", wire.new_token(), wire.listening("127.0.0.1"), nothing_spoken)
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
            b.take("a", 0, [0])
        ended.append(True)

    thread = threading.Thread(target=waits)
    thread.start()
    wire.halt(book["b"], token)
    thread.join(timeout=20)
    assert ended == [True]
    wire.halt(book["b"], token)  # nobody listens any more: no error


def test_one_that_comes_back_asks_for_what_it_was_sent_and_says_nothing_twice(pair):
    """b had two messages of a, and a one of b, when b died: b carries out everything again."""
    a, b, token, book = pair
    to_b = {0: frames(3)[0][1], 2: frames(5)[0][1]}
    a._spoken = lambda: ((number, frame.tobytes()) for number, frame in to_b.items())
    for number, frame in to_b.items():
        a.send("b", number, [(0, frame)])
    b.take("a", 0, [0])
    b.send("a", 1, frames(4))
    assert len(a.take("b", 1, [0])) == 1
    b.halt()  # as if its process had died
    a.send("b", 4, frames(6))  # nobody listens: this is in the transcript as well
    to_b[4] = frames(6)[0][1]
    listener = wire.listening("127.0.0.1")
    again = Wire("b", token, listener, nothing_spoken)
    again.rejoin({"a": book["a"], "b": listener.getsockname()}, ["b"])
    assert not wire.lives(book["b"], token) and wire.lives(listener.getsockname(), token)
    assert same([(0, to_b[0])], again.take("a", 0, [0]))
    again.send("a", 1, frames(4))  # a has it
    assert same([(0, to_b[2])], again.take("a", 2, [0]))
    again.send("a", 3, frames(9))
    assert same(frames(9), a.take("b", 3, [0]))
    assert same(frames(6), again.take("a", 4, [0]))
    a.send("b", 5, frames(7))  # from here on as before
    assert same(frames(7), again.take("a", 5, [0]))
    again.halt()


def test_an_endless_frame_is_not_waited_for(pair):
    _, b, token, book = pair
    link = wire.dial(book["b"], token, "a", wire.Purpose.FRAMES)
    link.say([wire._PAIR.pack(0, 1), wire._PAIR.pack(0, 1 << 62)])
    with pytest.raises(ProtocolError, match="was announced"):
        b.take("a", 0, [0])


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
        b.take("a", seq, [0])
    thread.join(timeout=20)
    assert len(sent) == 64


def test_a_silent_caller_does_not_keep_others_out(pair, monkeypatch):
    a, b, _, book = pair
    monkeypatch.setattr(wire, "_GREETING_SECONDS", 0.2)
    silent = socket.create_connection(book["b"])
    a.send("b", 0, frames(1))
    assert len(b.take("a", 0, [0])) == 1
    silent.close()
