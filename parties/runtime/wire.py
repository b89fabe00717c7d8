"""The wire between hosts: frames go from one to another over a socket, and never through the driver.

Whoever sends first dials; a connection carries one direction, in the order of the script. A sender waits
while the receiver is behind by what the system buffers: no party runs ahead of another without bound. This
cannot lock up: of all instructions that are not carried out yet, the first of the script waits for none that
comes after it.

Both ends prove by HMAC-SHA256 that they know the token of the run before anything else is said. What follows
is neither encrypted nor authenticated frame by frame: between nodes the network is trusted, as it is with
Ray's own traffic.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from parties.record.transcript import Frame
from protocols.language.errors import KeyholeError, ProtocolError

Frames = Sequence[tuple[int, Frame]]
Address = tuple[str, int]

_NONCE = 32
_PROOF = 32
_HEAD = struct.Struct("<qq")  # number of the first message, how many frames follow
_ENTRY = struct.Struct("<qq")  # index of a frame, its bytes
_ABSENT = -1  # frames, from a host that failed and has said so to the driver
_MOST_BYTES = 1 << 40
_MOST_BUFFERS = 256  # in one call of the system, which takes 1024
_GREETING_SECONDS = 10.0


class PeerLost(KeyholeError):
    """The connection to another host ended: its process died, or the run is halted."""

    def __init__(self, peer: str) -> None:
        super().__init__(f"the connection to {peer} ended")
        self.peer = peer


class Wire:
    """One host's end of the connections to all others."""

    def __init__(self, name: str, token: bytes, listener: socket.socket) -> None:
        """`listener` is bound and listens; `token` (32 bytes) is known to the hosts of this run alone."""
        self._name, self._token, self._listener = name, token, listener
        self._book: dict[str, Address] = {}
        self._out: dict[str, socket.socket] = {}
        self._in: dict[str, socket.socket] = {}
        self._kept: dict[int, Frames | None] = {}  # from this host to itself
        self._changed = threading.Condition()
        self._halted = False
        threading.Thread(target=self._answer, name="wire", daemon=True).start()

    def meet(self, book: Mapping[str, Address]) -> None:
        """Learn at which addresses the hosts listen."""
        self._book.update(book)

    def send(self, to: str, seq: int, frames: Frames | None) -> None:
        """Send the frames of the transfer that begins with message `seq`; None from a host that failed."""
        if to == self._name:
            self._kept[seq] = frames
            return
        table = b"" if frames is None else b"".join(_ENTRY.pack(i, frame.nbytes) for i, frame in frames)
        head = _HEAD.pack(seq, _ABSENT if frames is None else len(frames)) + table
        try:
            _send_all(self._dialled(to), [head, *(frame.data for _, frame in frames or ())])
        except OSError:
            raise PeerLost(to) from None

    def take(self, sender: str, seq: int, most: int) -> Frames | None:
        """Wait for the frames of a transfer, `most` of them or fewer; None from a host that failed.

        Raises `PeerLost` when the connection ends, and `ProtocolError` for anything but that transfer.
        """
        if sender == self._name:
            return self._kept.pop(seq)
        connection = self._accepted(sender)
        try:
            number, count = _HEAD.unpack(_read(connection, _HEAD.size))
            if number != seq or not _ABSENT <= count <= most:
                raise ProtocolError(f"{self._name}: {sender} is at message {number} where {seq} was expected")
            if count == _ABSENT:
                return None
            table = _read(connection, _ENTRY.size * count)
            return [(i, _frame(connection, nbytes)) for i, nbytes in _ENTRY.iter_unpack(table)]
        except OSError:
            raise PeerLost(sender) from None

    def halt(self) -> None:
        """End every connection: whoever waits for one here gets `PeerLost`."""
        with self._changed:
            self._halted = True
            for connection in (*self._out.values(), *self._in.values(), self._listener):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.notify_all()

    def _dialled(self, to: str) -> socket.socket:
        if self._halted:
            raise PeerLost(to)
        if to not in self._out:
            connection = dial(self._book[to], self._name, self._token)
            with self._changed:
                self._out[to] = connection
        return self._out[to]

    def _accepted(self, sender: str) -> socket.socket:
        with self._changed:
            while sender not in self._in:
                if self._halted:
                    raise PeerLost(sender)
                self._changed.wait()
            return self._in[sender]

    def _answer(self) -> None:
        """Accept hosts, and the driver, whose only wish is that this one halts."""
        while not self._halted:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            try:
                name = _greet(connection, self._token)
            except (OSError, ProtocolError):
                connection.close()
                continue
            if name == DRIVER:
                connection.close()
                self.halt()
                return
            with self._changed:
                self._in[name] = connection
                self._changed.notify_all()


DRIVER = "driver"


def new_token() -> bytes:
    """What the hosts of one run know each other by."""
    return os.urandom(32)


def listening(host: str) -> socket.socket:
    """A socket that listens at a free port of an address of this machine."""
    return socket.create_server((host, 0))


def halt(address: Address, token: bytes) -> None:
    """Have the host at an address give up waiting for others, if it still runs."""
    with contextlib.suppress(OSError, ProtocolError):
        dial(address, DRIVER, token).close()


def dial(address: Address, name: str, token: bytes) -> socket.socket:
    """A connection to the host at an address, for messages to it."""
    connection = socket.create_connection(address, timeout=_GREETING_SECONDS)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        theirs, mine = bytes(_read(connection, _NONCE)), os.urandom(_NONCE)
        called = name.encode()
        connection.sendall(
            mine + _proof(token, b"dials", theirs, mine, called) + bytes([len(called)]) + called
        )
        if not hmac.compare_digest(
            _read(connection, _PROOF), _proof(token, b"answers", theirs, mine, called)
        ):
            raise ProtocolError(f"{address[0]}:{address[1]} is no host of this run")
        connection.settimeout(None)
    except BaseException:
        connection.close()
        raise
    return connection


def _greet(connection: socket.socket, token: bytes) -> str:
    """The name of who dialled; raises `ProtocolError` for one that does not know the token."""
    connection.settimeout(_GREETING_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    mine = os.urandom(_NONCE)
    connection.sendall(mine)
    theirs, proof = bytes(_read(connection, _NONCE)), _read(connection, _PROOF)
    name = bytes(_read(connection, _read(connection, 1)[0]))
    if not hmac.compare_digest(proof, _proof(token, b"dials", mine, theirs, name)):
        raise ProtocolError("a stranger dialled")
    connection.sendall(_proof(token, b"answers", mine, theirs, name))
    connection.settimeout(None)
    return name.decode()


def _proof(token: bytes, *said: bytes) -> bytes:
    return hmac.digest(token, b"".join(len(part).to_bytes(4, "little") + part for part in said), "sha256")


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


def _frame(connection: socket.socket, nbytes: int) -> Frame:
    if not 0 <= nbytes <= _MOST_BYTES:
        raise ProtocolError(f"a frame of {nbytes} bytes was announced")
    frame = np.empty(nbytes, np.uint8)
    _fill(connection, frame.data)
    frame.flags.writeable = False
    return frame


def _fill(connection: socket.socket, into: memoryview) -> None:
    while len(into):
        got = connection.recv_into(into)
        if not got:
            raise ConnectionError("the connection ended")
        into = into[got:]
