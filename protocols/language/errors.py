"""Every error that a protocol, a scheme or a party raises on purpose.

Messages state what was expected and what came, in one line, and never contain a secret value.
"""

from __future__ import annotations

from typing import Any

OUT_OF_MEMORY = "memory ran out"


def ran_out_of_memory(cause: BaseException) -> bool:
    """Whether an error of Python, numpy or torch says that."""
    return isinstance(cause, MemoryError) or (
        isinstance(cause, RuntimeError) and "can't allocate memory" in str(cause)
    )


class KeyholeError(Exception):
    """Base of all errors that are reported to a user in one line."""


class ProtocolError(KeyholeError):
    """A protocol script or one of its local steps broke a rule of the language."""


class VisibilityError(ProtocolError):
    """A step was about to use a value that the party which runs it was never sent."""


class FigureError(ProtocolError):
    """A run sent a message that the protocol's FIGURE does not show."""


class MessageError(ProtocolError):
    """A message is not what its receiver may take; names the receiver, the label, the number, the sender."""

    of: Any = None  # its header, where one party alone is to blame


class KeysRefused(ProtocolError):
    """The authority refused function keys, and the run stops there; names step, batch and budget."""


class StepError(ProtocolError):
    """A local step failed; names the party, the step, the phase and the cause."""

    of: Any = None  # the header of the message that it worked on, where all were one party's


class Left(ProtocolError):
    """In a script: an owner is left out from here on, whose message its receiver could not take."""


class HostLost(ProtocolError):
    """A process that carried parties died; names its parties."""

    lost: tuple[tuple[str, str, int], ...] = ()  # hosts, each with the last phase and round that had ended


class Stalled(ProtocolError):
    """A run does not get on: a process hangs, or a step takes too long; names its parties, phase, round."""


class EncodingError(ProtocolError):
    """A value cannot be written to the wire, or bytes from the wire are not a value."""


class TranscriptError(ProtocolError):
    """A view could not be written, as on a full disk: the run stops, because nothing may cross unrecorded."""


class SchemeError(KeyholeError):
    """A cryptographic scheme refused its input."""


class BoundError(SchemeError):
    """A value lies outside the range for which the scheme's parameters were derived."""


class MalformedError(SchemeError):
    """A key, ciphertext or group element is not one: wrong shape, off the curve, wrong subgroup."""


class DataError(KeyholeError):
    """A data set, transcript or run folder cannot be used as it is."""


class NotRecorded(DataError):
    """The payload of a message that the run did not keep; names its label, and where it crossed."""

    def __init__(self, label: str, phase: str, round: int, seq: int) -> None:
        super().__init__(label, phase, round, seq)
        self.label, self.phase, self.round, self.seq = label, phase, round, seq

    def __str__(self) -> str:
        where = f"{self.phase} {self.round}" if self.round >= 0 else self.phase or "the beginning"
        return f"payloads of {self.label} not recorded (message {self.seq}, {where})"


class ConfigError(KeyholeError):
    """Options that do not fit together; names the option and the remedy."""
