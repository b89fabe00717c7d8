"""The roles that a party can play, and the names of parties."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """A part in a protocol; the value is its name in transcripts and on the command line."""

    DATA_OWNER = "data_owner"
    KEY_AUTHORITY = "key_authority"
    CLOUD_TRAINER = "cloud_trainer"
    SERVER = "server"
    QUERIER = "querier"
    CONSUMER = "consumer"

    @property
    def many(self) -> bool:
        """Whether several parties play this role; their names carry an index."""
        return self is Role.DATA_OWNER


DATA_OWNER = Role.DATA_OWNER
KEY_AUTHORITY = Role.KEY_AUTHORITY
CLOUD_TRAINER = Role.CLOUD_TRAINER
SERVER = Role.SERVER
QUERIER = Role.QUERIER
CONSUMER = Role.CONSUMER

# Who a revealed value goes to: the person that runs the experiment, who is no party of the protocol.
EXPERIMENTER = "experimenter"


def party_name(role: Role, index: int = 0) -> str:
    """Name of a party: `data_owner:0`, `data_owner:1`, ..., `key_authority`, `cloud_trainer`."""
    return f"{role.value}:{index}" if role.many else role.value


def role_of(party: str) -> Role:
    """The role in a party's name; ValueError if there is none."""
    return Role(party.partition(":")[0])


def index_of(party: str) -> int:
    """The index in a party's name; 0 for a role that one party plays."""
    return int(party.partition(":")[2] or 0)
