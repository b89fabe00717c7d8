"""How tests of attacks run one: as a user does, or on the view of some parties, as it was after a message."""

import shutil
import sqlite3
from contextlib import closing

import numpy as np

from parties.adversary.adversary import Adversary, rebuild
from parties.adversary.attack import Relations, relations_of
from parties.adversary.catalogue import find_attack
from parties.record.transcript import Transcript
from parties.record.view import View
from protocols.language.relations import Equations
from scenarios.run.attacks import attack_run

CLOUD = ("cloud_trainer",)


def attacked(run, name, *parties):
    """The row of result.json for one attack."""
    (row,) = attack_run(run, [name], parties or CLOUD, run.prior(), Adversary)
    return row


def rebuilt(run, name, *parties, prior=None, until=None, known=None):
    """What an attack returns, or its `NotApplicable`."""
    view = View(run.view_sources(parties or CLOUD), until=until)
    return rebuild(name, view, prior or run.prior(known=known), np.random.default_rng(0))


def stated(run, *parties):
    """The relations of a view."""
    return relations_of(run.view(*parties or CLOUD))


def carved(run, parties, folder):
    """Copies of all transcripts with what these parties saw alone; the sources of their view in them."""
    marks, seen = ",".join("?" * len(parties)), set()
    for path in run.transcripts:
        shutil.copyfile(path, folder / path.name)
        with sqlite3.connect(folder / path.name) as db:
            db.execute(f"DELETE FROM rows WHERE party NOT IN ({marks})", parties)
            seen |= {sha for (sha,) in db.execute("SELECT sha256 FROM rows")}
        db.close()
    for path in run.transcripts:
        with sqlite3.connect(folder / path.name) as db:
            kept = [sha for (sha,) in db.execute("SELECT sha256 FROM payloads")]
            db.executemany(
                "DELETE FROM payloads WHERE sha256 = ?", [(sha,) for sha in kept if sha not in seen]
            )
        db.close()
    return [(str(folder / path.rpartition("/")[2]), party) for path, party in run.view_sources(parties)]


def payloads(run, *parties):
    """The bytes of everything in some parties' views, or in all, one after the other."""
    found = []
    for party in parties or run.sources:
        with closing(Transcript(run.sources[party])) as view:
            found += [view.frame(row) for row in list(view.rows("party = ? ORDER BY id", party))]
    return b"".join(found)


def solved(name, relations, prior):
    """What an attack makes of some relations."""
    return find_attack(name).solve(relations, prior, np.random.default_rng(0))


def observed(*seen):
    """Relations that are these exact equations: (step, positions, w, x)."""
    found = [Equations(np.asarray(i), w, x @ w.T, since=s) for s, i, w, x in seen]
    return Relations(lambda: found)
