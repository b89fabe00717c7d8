"""The roles that a party can play, and the names of parties."""

from __future__ import annotations

from dataclasses import dataclass

_KNOWN: dict[tuple[str, bool], Role] = {}


@dataclass(frozen=True, eq=False)
class Role:
    """A part in a protocol; a protocol may bring roles of its own: `HELPER = Role("helper")`.

    `value` is the name in transcripts and on the command line. Of `many` parties that play a role each name
    carries an index. One name is one object, in every process, so that `role is CLOUD_TRAINER` compares.
    """

    value: str
    many: bool = False

    def __new__(cls, value: str, many: bool = False) -> Role:
        if not value.isidentifier():
            raise ValueError(f"the name of a role is made of letters, digits and _, got {value!r}")
        return _KNOWN.setdefault((value, many), super().__new__(cls))

    def __reduce__(self) -> tuple[type[Role], tuple[str, bool]]:
        return Role, (self.value, self.many)


DATA_OWNER = Role("data_owner", many=True)
KEY_AUTHORITY = Role("key_authority")
CLOUD_TRAINER = Role("cloud_trainer")
SERVER = Role("server")
QUERIER = Role("querier")
CONSUMER = Role("consumer")

# Who a revealed value goes to: the person that runs the experiment, who is no party of the protocol.
EXPERIMENTER = Role("experimenter")


def party_name(role: Role, index: int = 0) -> str:
    """Name of a party: `data_owner:0`, `data_owner:1`, ..., `key_authority`, `cloud_trainer`."""
    return f"{role.value}:{index}" if role.many else role.value


def role_of(party: str) -> Role:
    """The role in a party's name."""
    name, many, _ = party.partition(":")
    return Role(name, bool(many))


def index_of(party: str) -> int:
    """The index in a party's name; 0 for a role that one party plays."""
    return int(party.partition(":")[2] or 0)
