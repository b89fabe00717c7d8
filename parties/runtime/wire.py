"""The wire between hosts: frames go from one to another over a socket, and never through the driver.

Whoever sends first dials; a connection carries one direction, in the order of the script. A sender waits
while the receiver is behind by what the system buffers: no party runs ahead of another without bound. This
cannot lock up: of all instructions that are not carried out yet, the first of the script waits for none that
comes after it.

A host whose process died is started again and carries out the script from its beginning, alone: what others
sent it before it came back, they read from their transcripts when it asks; what it sent before, they have,
and it says nothing twice. Nobody else goes back. The first word of a connection says what it is for.

Both ends prove by HMAC-SHA256 that they know the token of the run before anything else is said. Each piece
that follows carries a tag (GMAC, under a key of the connection and its own number in it), so that nothing is
altered, left out or said twice on its way without notice. Nothing is encrypted: between nodes the network is
trusted not to listen, as it is with Ray's own traffic.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import struct
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from parties.record.transcript import Frame
from protocols.language.errors import KeyholeError, ProtocolError

Frames = Sequence[tuple[int, Frame]]
Address = tuple[str, int]

DRIVER = "driver"
_NONCE = 32
_PROOF = 32
_PAIR = struct.Struct("<qq")  # number of the first message, how many frames; index of a frame, its bytes
_ONE = struct.Struct("<q")
_PULSE = struct.Struct("<q?q")  # instructions carried out; whether it waits; bytes of what it does
_ABSENT = -1  # frames, from a host that failed and has said so to the driver
_NONE = -1  # the number of the last message, before the first
_MOST_BYTES = 1 << 40
_TAGGED = 1 << 30  # bytes that one tag is for, of a large frame; the library takes less than 2^31
_MOST_BUFFERS = 256  # in one call of the system, which takes 1024
_GREETING_SECONDS = 10.0
_HALTING_SECONDS = 2.0


class Purpose(Enum):
    """What a connection is for."""

    FRAMES = "frames"  # of the one who dials
    BACK = "back"  # it was started again, and listens at another address
    ASK = "ask"  # for messages that were sent, or revealed, before
    HALT = "halt"  # the run failed: wait for nobody
    PING = "ping"  # how does it get on?


@dataclass(frozen=True)
class Pulse:
    """How a host gets on: instructions that it has carried out, what it does now, and whether that is to wait
    for another host.
    """

    done: int
    waits: bool = False
    doing: str = ""


class Altered(ProtocolError):
    """What came over a connection is not what was sent there next."""

    def __init__(self) -> None:
        super().__init__("altered, left out or repeated on its way")


class PeerLost(KeyholeError):
    """The connection to another host ended, and the run is halted."""

    def __init__(self, peer: str) -> None:
        super().__init__(f"the connection to {peer} ended")
        self.peer = peer


class Link:
    """A connection between two who know the token: pieces of bytes, each with its tag."""

    def __init__(self, connection: socket.socket, key: bytes, dialled: bool) -> None:
        """`key` (32 bytes) is of this connection alone; `dialled`: whether this end did."""
        self.socket, self._aead = connection, AESGCM(key)
        self._mine, self._theirs = (b"dial", b"answ") if dialled else (b"answ", b"dial")
        self._said = self._heard = 0

    def say(self, pieces: Iterable[Any]) -> None:
        """Send pieces one after the other without joining them."""
        buffers: list[Any] = []
        for piece in pieces:
            buffers += [piece, self._tag(self._mine, self._said, memoryview(piece))]
            self._said += 1
        _send_all(self.socket, buffers)

    def hear(self, nbytes: int) -> bytearray:
        """The next piece, of so many bytes; `Altered` if it is not what was said next."""
        into = bytearray(nbytes)
        self.fill(memoryview(into))
        return into

    def fill(self, into: memoryview) -> None:
        """The same into a buffer."""
        _fill(self.socket, into)
        expected = self._tag(self._theirs, self._heard, into)
        if not hmac.compare_digest(_read(self.socket, len(expected)), expected):
            raise Altered
        self._heard += 1

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tag(self, end: bytes, number: int, piece: memoryview) -> bytes:
        starts = range(0, max(len(piece), 1), _TAGGED)
        nonces = (end + (number << 16 | i).to_bytes(8, "little") for i in range(len(starts)))
        parts = (piece[start : start + _TAGGED] for start in starts)
        return b"".join(
            self._aead.encrypt(nonce, b"", part) for nonce, part in zip(nonces, parts, strict=True)
        )


class Wire:
    """One host's end of the connections to all others."""

    def __init__(
        self,
        name: str,
        token: bytes,
        listener: socket.socket,
        spoken: Callable[[], Generator[tuple[int, bytes], None, None]],
    ) -> None:
        """`listener` is bound and listens; `token` (32 bytes) is known to the hosts of this run alone;
        `spoken()` reads (number, frame) of the messages that were sent here from the transcript, in order.
        """
        self._name, self._token, self._listener, self._spoken = name, token, listener, spoken
        self._book: dict[str, Address] = {}
        self._out: dict[str, Link] = {}
        self._in: dict[str, Link] = {}
        self._own: dict[int, Frames | None] = {}  # from this host to itself
        self._sent: dict[str, int] = {}  # the first message of the last transfer to each host
        self._taken: dict[str, int] = {}
        self._before: dict[str, _Before] = {}
        self._reading: dict[threading.Thread, Link] = {}  # who reads the transcript, and to whom
        self._changed = threading.Condition()
        self._halted = False
        self.pulse: Callable[[], Pulse] = lambda: Pulse(0)
        threading.Thread(target=self._listen, name="wire", daemon=True).start()

    def meet(self, book: Mapping[str, Address]) -> None:
        """Learn at which addresses the hosts listen."""
        self._book.update(book)

    def rejoin(self, book: Mapping[str, Address], back: Sequence[str]) -> None:
        """Come back in the place of a host that died: `PeerLost` where another one is gone as well. With
        those that come `back` together, itself among them, nothing was said yet.
        """
        self.meet(book)
        host, port = self._listener.getsockname()[:2]
        for peer, address in book.items():
            if peer in back:
                continue
            try:
                with dial(address, self._token, self._name, Purpose.BACK) as link:
                    link.say([_PAIR.pack(len(host), port), host.encode()])
                    sent, taken = _PAIR.unpack(link.hear(_PAIR.size))
                asking = dial(address, self._token, self._name, Purpose.ASK)
            except (OSError, ProtocolError):
                raise PeerLost(peer) from None
            self._before[peer] = _Before(sent, taken, asking)

    def send(self, to: str, seq: int, frames: Frames | None) -> None:
        """Send the frames of the transfer that begins with message `seq`; None from a host that failed.

        They are in the transcript already: if the other end is gone, it will ask for them when it is back.
        """
        if to == self._name:
            self._own[seq] = frames
            return
        with self._changed:
            if self._halted:
                raise PeerLost(to)
            self._sent[to] = seq
        if to in self._before and seq <= self._before[to].taken:
            return
        pieces: list[Any] = [_PAIR.pack(seq, _ABSENT if frames is None else len(frames))]
        if frames is not None:
            pieces.append(b"".join(_PAIR.pack(i, frame.nbytes) for i, frame in frames))
            pieces += (frame.data for _, frame in frames)
        with contextlib.suppress(OSError):
            self._dialled(to).say(pieces)

    def take(self, sender: str, seq: int, indices: Sequence[int]) -> Frames | None:
        """Wait for the frames of a transfer, with these indices; None from a host that failed.

        Raises `PeerLost` once the run is halted, and `ProtocolError` for anything but that transfer as it was
        sent.
        """
        if sender == self._name:
            return self._own.pop(seq)
        before = self._before.get(sender)
        if before is not None and seq <= before.sent:
            self._taken[sender] = seq
            return before.ask(sender, seq, indices)
        if before is not None:
            before.link.close()  # nothing is left to ask for
        while True:
            link = self._accepted(sender)
            try:
                number, count = _PAIR.unpack(link.hear(_PAIR.size))
                said_before = number <= self._taken.get(sender, _NONE)
                table: list[tuple[int, int]] = []
                if count != _ABSENT and (said_before or count == len(indices)):
                    table = list(_PAIR.iter_unpack(link.hear(count * _PAIR.size)))
                expected = number == seq and (count == _ABSENT or [i for i, _ in table] == list(indices))
                if not (said_before or expected):
                    raise ProtocolError(f"{sender} is at message {number} where {seq} was expected")
                frames = [(i, _frame(link, nbytes)) for i, nbytes in table]
            except OSError:
                self._forget(sender, link)
                continue
            if said_before:  # by one that died, and came back while this was under way
                continue
            with self._changed:
                self._taken[sender] = seq
            return None if count == _ABSENT else frames

    def crossed(self) -> tuple[dict[str, int], dict[str, int]]:
        """The last transfers to other hosts, and those taken from them."""
        with self._changed:
            return dict(self._sent), dict(self._taken)

    def sent_before(self, to: str, seq: int) -> None:
        """Note a transfer that had arrived before the run was resumed."""
        with self._changed:
            self._sent[to] = seq

    def taken_before(self, sender: str, seq: int) -> None:
        """Note a transfer that had been received before the run was resumed."""
        with self._changed:
            self._taken[sender] = seq

    def halt(self) -> None:
        """End every connection: whoever waits for one here gets `PeerLost`."""
        with self._changed:
            self._halted = True
            asking = [before.link for before in self._before.values()]
            reading = dict(self._reading)
            for link in (*self._out.values(), *self._in.values(), *asking, *reading.values()):
                _shut(link.socket)
            _shut(self._listener)
            self._changed.notify_all()
        for thread in reading:  # a transcript cannot be closed while somebody reads it
            if thread is not threading.current_thread():
                thread.join()

    def _dialled(self, to: str) -> Link:
        with self._changed:
            known, address = self._out.get(to), self._book[to]
        if known is not None:
            return known
        link = dial(address, self._token, self._name, Purpose.FRAMES)
        with self._changed:
            if self._book[to] != address:  # it died and came back meanwhile: it asks for these
                link.close()
                raise ConnectionError(to)
            self._out[to] = link
        return link

    def _accepted(self, sender: str) -> Link:
        with self._changed:
            while sender not in self._in and not self._halted:
                self._changed.wait()
            if self._halted:
                raise PeerLost(sender)
            return self._in[sender]

    def _forget(self, sender: str, link: Link) -> None:
        """No more of a connection that ended; its host may come back."""
        with self._changed:
            if self._in.get(sender) is link:
                del self._in[sender]
        link.close()

    def _listen(self) -> None:
        while not self._halted:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), name="wire", daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        """See to one that dialled."""
        try:
            name, purpose, link = _greet(connection, self._token)
            match purpose:
                case Purpose.FRAMES:
                    with self._changed:
                        self._in[name] = link
                        self._changed.notify_all()
                    return
                case Purpose.BACK:
                    self._welcome(name, link)
                case Purpose.ASK:
                    self._read_aloud(link)
                case Purpose.HALT:
                    self.halt()
                case Purpose.PING:
                    now = self.pulse()
                    doing = now.doing.encode()
                    link.say([_PULSE.pack(now.done, now.waits, len(doing)), doing])
        except (OSError, KeyholeError, ValueError):
            pass
        connection.close()

    def _welcome(self, name: str, link: Link) -> None:
        """Tell one that came back how far each of the two had heard of the other."""
        length, port = _PAIR.unpack(link.hear(_PAIR.size))
        host = bytes(link.hear(min(length, 255))).decode()
        with self._changed:
            for old in (self._out.pop(name, None), self._in.pop(name, None)):
                if old is not None:
                    _shut(old.socket)
            self._book[name] = host, port
            heard = self._sent.get(name, _NONE), self._taken.get(name, _NONE)
            self._changed.notify_all()
        link.say([_PAIR.pack(*heard)])

    def _read_aloud(self, link: Link) -> None:
        """Answer requests for messages that were sent from here, which come in their order."""
        thread = threading.current_thread()
        with self._changed:
            if self._halted:
                return
            self._reading[thread] = link
        try:
            self._read_on_demand(link)
        finally:
            with self._changed:
                del self._reading[thread]

    def _read_on_demand(self, link: Link) -> None:
        with contextlib.closing(self._spoken()) as spoken:
            while True:
                (number,) = _ONE.unpack(link.hear(_ONE.size))
                frame = next((frame for seq, frame in spoken if seq == number), None)
                if frame is None:
                    return
                link.say([_ONE.pack(len(frame)), frame])


class _Before:
    """What two hosts had heard of each other when one of them died."""

    def __init__(self, sent: int, taken: int, link: Link) -> None:
        """`sent`: the last transfer to the one that is back; `taken`: the last one from it."""
        self.sent, self.taken, self.link = sent, taken, link

    def ask(self, peer: str, seq: int, indices: Sequence[int]) -> Frames:
        """The frames of a transfer that was sent before."""
        return [(i, asked(self.link, peer, seq + i)) for i in indices]


def asked(link: Link, peer: str, number: int) -> Frame:
    """A message that was sent before, read from the sender's transcript."""
    try:
        link.say([_ONE.pack(number)])
        (nbytes,) = _ONE.unpack(link.hear(_ONE.size))
        return _frame(link, nbytes)
    except OSError:
        raise PeerLost(peer) from None


def new_token() -> bytes:
    """What the hosts of one run know each other by."""
    return os.urandom(32)


def listening(host: str) -> socket.socket:
    """A socket that listens at a free port of an address of this machine."""
    return socket.create_server((host, 0))


def halt(address: Address, token: bytes) -> None:
    """Have the host at an address give up waiting for others, if it still runs."""
    with contextlib.suppress(OSError, ProtocolError):
        dial(address, token, DRIVER, Purpose.HALT, _HALTING_SECONDS).close()


def lives(address: Address, token: bytes) -> bool:
    """Whether the host at an address still runs; one that is too busy to answer does."""
    try:
        dial(address, token, DRIVER, Purpose.PING).close()
    except TimeoutError:
        return True
    except (OSError, ProtocolError):
        return False
    return True


def pulse(address: Address, token: bytes, seconds: float) -> Pulse | None:
    """How the host at an address gets on; None if it does not answer, `ConnectionError` if it is gone."""
    try:
        with dial(address, token, DRIVER, Purpose.PING, seconds) as link:
            link.socket.settimeout(seconds)
            done, waits, nbytes = _PULSE.unpack(link.hear(_PULSE.size))
            return Pulse(done, waits, bytes(link.hear(nbytes)).decode())
    except TimeoutError:
        return None
    except (OSError, ProtocolError) as error:
        raise ConnectionError(str(error)) from None


def dial(address: Address, token: bytes, name: str, purpose: Purpose, seconds: float | None = None) -> Link:
    """A connection to the host at an address, which knows who dialled and what for.

    `TimeoutError` where it does not answer within `seconds`.
    """
    connection = socket.create_connection(address, timeout=seconds or _GREETING_SECONDS)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        theirs, mine = bytes(_read(connection, _NONCE)), os.urandom(_NONCE)
        called = f"{purpose.value} {name}".encode()
        proof = _proof(token, b"dials", theirs, mine, called)
        connection.sendall(mine + proof + bytes([len(called)]) + called)
        if not hmac.compare_digest(
            _read(connection, _PROOF), _proof(token, b"answers", theirs, mine, called)
        ):
            raise ProtocolError(f"{address[0]}:{address[1]} is no host of this run")
        connection.settimeout(None)
    except BaseException:
        connection.close()
        raise
    return Link(connection, _proof(token, b"frames", theirs, mine, called), dialled=True)


def _greet(connection: socket.socket, token: bytes) -> tuple[str, Purpose, Link]:
    """Who dialled, and what for; raises `ProtocolError` for one that does not know the token."""
    connection.settimeout(_GREETING_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    mine = os.urandom(_NONCE)
    connection.sendall(mine)
    theirs, proof = bytes(_read(connection, _NONCE)), _read(connection, _PROOF)
    called = bytes(_read(connection, _read(connection, 1)[0]))
    if not hmac.compare_digest(proof, _proof(token, b"dials", mine, theirs, called)):
        raise ProtocolError("a stranger dialled")
    connection.sendall(_proof(token, b"answers", mine, theirs, called))
    connection.settimeout(None)
    purpose, name = called.decode().split(" ", 1)
    link = Link(connection, _proof(token, b"frames", mine, theirs, called), dialled=False)
    return name, Purpose(purpose), link


def _proof(token: bytes, *said: bytes) -> bytes:
    return hmac.digest(token, b"".join(len(part).to_bytes(4, "little") + part for part in said), "sha256")


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _send_all(connection: socket.socket, buffers: Iterable[Any]) -> None:
    """Send buffers one after the other without joining them."""
    views: list[memoryview] = [memoryview(buffer) for buffer in buffers]
    waiting = [view for view in views if view.nbytes]
    while waiting:
        sent = connection.sendmsg(waiting[:_MOST_BUFFERS])
        done = 0
        while done < len(waiting) and sent >= waiting[done].nbytes:
            sent -= waiting[done].nbytes
            done += 1
        del waiting[:done]
        if sent:
            waiting[0] = waiting[0][sent:]


def _read(connection: socket.socket, nbytes: int) -> bytearray:
    """Exactly so many bytes."""
    into = bytearray(nbytes)
    _fill(connection, memoryview(into))
    return into


def _frame(link: Link, nbytes: int) -> Frame:
    if not 0 <= nbytes <= _MOST_BYTES:
        raise ProtocolError(f"a frame of {nbytes} bytes was announced")
    frame = np.empty(nbytes, np.uint8)
    link.fill(frame.data)
    frame.flags.writeable = False
    return frame


def _fill(connection: socket.socket, into: memoryview) -> None:
    while len(into):
        got = connection.recv_into(into)
        if not got:
            raise ConnectionError("the connection ended")
        into = into[got:]
