"""Inline, local and Ray are the same protocol: same digest, same errors, nothing left behind."""

import contextlib
import os
import signal
import sqlite3
import time
from dataclasses import dataclass, replace

import numpy as np
import psutil
import pytest

from parties.data.datasets import load
from parties.party import fresh_state
from parties.record.transcript import Record
from parties.runtime import dispatch
from parties.runtime.inline import InlineRuntime
from parties.runtime.local import LocalFleet, LocalRuntime
from protocols.crypto.coins import derive
from protocols.language.errors import DataError, HostLost, StepError
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import Session, opened
from protocols.network.config import Init
from scenarios.run import execute as executing
from scenarios.run.execute import execute
from scenarios.run.experiment import seed_bytes
from scenarios.run.folder import RunFolder, new_folder, write_json
from scenarios.run.hosts import host_specs
from tests import toy_protocol as toy
from tests.conftest import TINY, small

LEDGER = executing._learned
IN_PROCESSES = ["local", pytest.param("ray", marks=pytest.mark.ray)]


@pytest.fixture(autouse=True)
def no_ledger(monkeypatch):
    """Most of the time of a small run, and what an adversary computes of it is its own on every runtime."""
    monkeypatch.setattr(executing, "_learned", lambda *_: [])


@pytest.fixture
def runs(runs_without_ledger):
    return runs_without_ledger


@pytest.fixture
def runtime(request):
    """The name of a runtime, on which a run can start at once."""
    if request.param == "ray":
        request.getfixturevalue("ray_session")
    return request.param


in_processes = pytest.mark.parametrize("runtime", IN_PROCESSES, indirect=True)


def digest_of(runs, **options):
    return runs("plain_fe", **options)[1]["transcript_digest"]


def test_the_digest_depends_on_the_seed_only(runs, tmp_path):
    again = execute(replace(small(), out=tmp_path / "again"))[1]["transcript_digest"]
    assert digest_of(runs) == again == digest_of(runs, record=Record.HEADERS)
    assert digest_of(runs, seed=8) != again


def test_what_an_owner_is_told_gives_no_partys_key(tmp_path):
    experiment = small()
    specs = {spec.name: spec for spec in host_specs(experiment, new_folder(tmp_path / "run", "test"))}
    told = specs["data_owner"].data.seed
    assert told != experiment.seed and seed_bytes(told) != seed_bytes(experiment.seed)
    guess = derive(derive(seed_bytes(told), "run"), "key_authority")
    true = derive(derive(seed_bytes(experiment.seed), "run"), "key_authority")
    assert specs["key_authority"].keys == (true,) != (guess,)


def test_coins_belong_to_what_they_protect_and_first_weights_to_the_seed(tmp_path):
    same, other = small("mitig2"), small("mitig2")
    others = [
        small("mitig2", samples=47),
        small("mitig2", batch=8),
        small("plain", init=Init.OWNER),
        small("mitig2", seed=8),
    ]
    path = tmp_path / "other.npz"
    np.savez(path, images=same.data.x_train.reshape(-1, 8, 8)[::-1], labels=same.data.y_train[::-1])
    others.append(small("mitig2", dataset=str(path)))
    states = [
        fresh_state("data_owner:0", e.config, derive(e.run_key, "data_owner:0"), e.bound)
        for e in (same, other, *others)
    ]
    coins = [state.coins.key for state in states]
    assert coins[0] == coins[1] and len(set(coins)) == 1 + len(others)
    drawn = [state.rng.random() for state in states]
    assert drawn.count(drawn[0]) == len(drawn) - 1  # all but that of another seed


def test_ciphertexts_of_two_data_sets_under_one_seed_do_not_differ_by_their_samples(tmp_path):
    rng, ct = np.random.default_rng(0), []
    for name in "ab":
        np.savez(
            tmp_path / f"{name}.npz",
            images=rng.integers(0, 17, (16, 4, 4)).astype(np.uint8),
            labels=np.arange(16) % 4,
        )
        run, _ = execute(
            small("plain_fe", dataset=str(tmp_path / f"{name}.npz"), samples=None, out=tmp_path / name)
        )
        ct.append(run.view("cloud_trainer")["ct"][0])
    assert not (
        ct[0].c0 == ct[1].c0
    ).any()  # under the same coins c0 is the same, and c1 - c1' = Delta (x - x')


def test_without_a_seed_two_runs_differ(tmp_path):
    digests = {
        execute(replace(small(seed=None), out=tmp_path / str(i)))[1]["transcript_digest"] for i in range(2)
    }
    assert len(digests) == 2


@in_processes
def test_all_runtimes_write_the_same_transcript_and_their_hosts_end(runtime, whole_runs, monkeypatch):
    monkeypatch.setattr(executing, "_learned", LEDGER)
    pids = pids_of_runs(monkeypatch, "finish")
    inline = whole_runs("plain_fe")
    other = whole_runs("plain_fe", runtime=runtime, attack=("stack", "labels"))
    assert len(set(pids)) == len(pids) == 3 and os.getpid() not in pids and ended(pids)
    assert inline[1]["transcript_digest"] == other[1]["transcript_digest"]
    assert inline[0].faults() == other[0].faults() == []
    assert [a["applicable"] for a in other[1]["attacks"]] == [False, True]
    assert inline[1]["learned"] == other[1]["learned"]


@pytest.mark.parametrize("runtime", ["inline", *IN_PROCESSES], indirect=True)
def test_a_failing_step_names_party_step_phase_and_cause(runtime, tmp_path, monkeypatch):
    pids = pids_of_runs(monkeypatch)
    experiment = replace(small(runtime=runtime, weight_bound=0.01, weight_scale=4096), out=tmp_path / "run")
    with pytest.raises(
        StepError, match=r"cloud_trainer: quantised_w1 failed in phase step, round 0: W1 leaves the range"
    ):
        execute(experiment)
    rows = sqlite3.connect(tmp_path / "run" / "transcripts" / "cloud_trainer.sqlite").execute(
        "SELECT label FROM rows"
    )
    assert ("ct",) in rows.fetchall()
    assert not (tmp_path / "run" / "result.json").exists()
    assert "run_failed" in (tmp_path / "run" / "run.log").read_text()
    assert len(pids) == (0 if runtime == "inline" else 3) and ended(pids)


@pytest.mark.parametrize(
    ("runtime", "party"),
    [
        ("local", "key_authority"),
        ("local", "cloud_trainer"),
        ("local", "data_owner"),
        pytest.param("ray", "cloud_trainer", marks=pytest.mark.ray),
    ],
    indirect=["runtime"],
)
def test_a_process_lost_during_training_is_reported_with_its_parties(runtime, party, tmp_path):
    experiment = small(runtime=runtime, epochs=2000)
    hosts, session = started(experiment, tmp_path)
    epochs = experiment.scenario.protocol.run(session, experiment.config)
    next(epochs)
    os.kill(hosts.pids[party], signal.SIGKILL)
    with pytest.raises(HostLost, match=party):
        list(epochs)
    hosts.abort()
    assert ended(hosts.pids.values())
    other = "key_authority" if party == "cloud_trainer" else "cloud_trainer"
    assert len(list(RunFolder(tmp_path / "run").view(other).rows("w1"))) >= 3


@dataclass
class Traffic:
    """What a run asked of its hosts."""

    calls: int
    groups: list[tuple[str, int]]  # (host, number) of each group that travelled with its members
    largest: int  # members of the largest group inside an instruction
    rounds: int  # most rounds in flight
    pids: list[int]
    digest: str


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    """`Traffic` of runs with 3 and with 12 owners on hosts as many as processors, in a window of 4 rounds."""
    with pytest.MonkeyPatch.context() as patch:
        return {owners: watched(patch, owners, tmp_path_factory.mktemp("traffic")) for owners in (3, 12)}


def watched(patch, owners, path):
    seen, collect, end_phase = (
        Traffic(0, [], 0, 0, [], ""),
        dispatch.Dispatcher.collect,
        dispatch.Dispatcher.end_phase,
    )

    def spy_collect(self, host):
        new, batch = collect(self, host)
        seen.groups += [(host, group.id) for group in new]
        for instruction in batch:
            seen.largest = max(seen.largest, *(len(group.members) for group in groups_in(instruction)))
        return new, batch

    def spy_end_phase(self, phase, round_):
        end_phase(self, phase, round_)
        seen.rounds = max(seen.rounds, self.in_flight)

    with patch.context() as inner:
        inner.setattr(dispatch, "WINDOW", 4)
        inner.setattr(dispatch, "_SECONDS_A_CALL", 0)  # a round a call, however fast
        inner.setattr(dispatch.Dispatcher, "collect", spy_collect)
        inner.setattr(dispatch.Dispatcher, "end_phase", spy_end_phase)
        experiment = small(runtime="local", owners=owners, samples=24, batch=2)
        runtime, session = started(experiment, path)
        talk(session, experiment)
        seen.calls, seen.pids = runtime.calls, list(runtime.pids.values())
        assert os.getpid() not in seen.pids and all(alive(pid) for pid in seen.pids)
        runtime.finish()
    seen.digest = RunFolder(path / "run").digest()
    return seen


def groups_in(instruction):
    """The groups that travel inside an instruction."""
    whole = getattr(instruction, "transfer", instruction)
    return (whole.senders, whole.receivers) if hasattr(whole, "senders") else (whole.group,)


def test_calls_do_not_depend_on_the_number_of_owners(traffic):
    assert traffic[3].calls == traffic[12].calls > 0


@pytest.mark.parametrize("owners", [3, 12])
def test_local_and_inline_agree_when_several_owners_share_hosts(traffic, runs, owners):
    assert traffic[owners].digest == digest_of(runs, owners=owners, samples=24, batch=2)


def test_hosts_end_with_the_run(traffic):
    assert all(len(set(seen.pids)) == len(seen.pids) >= 3 and ended(seen.pids) for seen in traffic.values())


def test_a_large_group_travels_to_a_host_once(traffic):
    assert traffic[12].groups and len(set(traffic[12].groups)) == len(traffic[12].groups)
    assert traffic[12].largest <= 4 and traffic[3].groups == []


def test_the_window_bounds_the_rounds_in_flight(traffic):
    assert traffic[3].rounds == traffic[12].rounds == 4


@in_processes
def test_what_the_experimenter_says_reaches_everybody_and_the_digest_alike(runtime, tmp_path):
    digests = set()
    for name in (runtime, "inline"):
        experiment = small(runtime=name, owners=6)
        hosts, session = started(experiment, tmp_path / name, toy.FIGURE)
        tell(session)
        hosts.finish()
        run = RunFolder(tmp_path / name / "run")
        assert run.faults() == []
        digests.add(run.digest())
    assert len(digests) == 1


def tell(s):
    """The cloud's list, revealed, published to six owners, and back."""
    o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("talk"):
        told = s.publish(o, told=s.reveal(c.do(toy.shares, 2), why="test"))
        back = s.gather(o.send(c, value=o.do(toy.double, told)))
        assert opened(s.reveal(back, why="test")) == [[0, 10, 0, 10]] * 6


def talk(session, experiment):
    """Carry out the whole protocol."""
    for _ in experiment.scenario.protocol.run(session, experiment.config):
        pass


def pids_of_runs(monkeypatch, at="abort"):
    """A list that gets the process numbers of the hosts of every run that fails from here on, or of every
    one that ends well (`finish`).
    """
    pids, method = [], getattr(dispatch.Dispatcher, at)

    def spy(self):
        pids.extend(self.pids.values())
        method(self)

    monkeypatch.setattr(dispatch.Dispatcher, at, spy)
    return pids


def started(experiment, path, figure=None):
    """A runtime and a session on it, with no message said yet."""
    path.mkdir(exist_ok=True)
    run = new_folder(path / "run", "test")
    write_json(run.path / "config.json", {**experiment.as_plain(), "parties": experiment.parties})
    specs = [replace(spec, state=None) for spec in host_specs(experiment, run)]
    runtime = made(experiment.runtime)(specs)
    counts = {DATA_OWNER: experiment.owners, KEY_AUTHORITY: 1, CLOUD_TRAINER: 1}
    return runtime, Session(runtime, figure or experiment.scenario.protocol.FIGURE, counts, experiment.config)


def made(name):
    """The class of the runtime of that name."""
    if name == "ray":
        from parties.runtime.on_ray import RayRuntime

        return RayRuntime
    return LocalRuntime if name == "local" else InlineRuntime


def ended(pids):
    """Wait until all processes are gone, however long a busy machine takes for it."""
    while any(alive(pid) for pid in pids):
        time.sleep(0.05)
    return True


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@in_processes
def test_an_owner_that_cannot_read_its_data_says_so(runtime, tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, images=np.zeros((20, 4, 4), np.uint8), labels=np.arange(20) % 4)
    experiment = small(runtime=runtime, dataset=str(path), samples=None)
    path.unlink()  # the driver has read it, the owner's process has not
    load.cache_clear()  # nor what is forked from the driver
    with pytest.raises(DataError, match=r"own\.npz"):
        started(experiment, tmp_path)


LONG = {"epochs": 15}
KILLED = [
    (protocol, host, options)
    for protocol, hosts, options in (
        ("plain_fe", ("data_owner", "key_authority", "cloud_trainer"), LONG),
        ("plain_fe", ("data_owner", "key_authority", "cloud_trainer"), {**LONG, "owners": 3}),
        ("mitig2", ("data_owner", "cloud_trainer"), LONG),
        ("mitig2", ("data_owner", "key_authority", "cloud_trainer"), {**LONG, "owners": 4, "per_round": 2}),
        ("mitig1", ("data_owner", "key_authority", "cloud_trainer"), {**TINY, "epochs": 3}),
        ("plain", ("data_owner",), LONG),
        ("reverse_he", ("consumer", "querier", "server"), {}),
    )
    for host in hosts
]


# How a run goes on is the dispatcher's, whatever carries the hosts (`fleet.py`): what Ray does of it is to
# start a host again, that carries one party, several, or answers queries; `test_cluster.py` has an authority.
ON_RAY = [
    ("plain_fe", "data_owner", {**LONG, "owners": 3}),
    ("plain_fe", "cloud_trainer", LONG),
    ("reverse_he", "server", {}),
]


@pytest.mark.parametrize(
    ("runtime", "protocol", "host", "options"),
    [
        *(("local", *case) for case in KILLED),
        *(pytest.param("ray", *case, marks=pytest.mark.ray) for case in KILLED if case in ON_RAY),
    ],
    indirect=["runtime"],
    ids=str,
)
def test_a_run_goes_on_where_a_process_was_killed_and_nothing_is_lost(
    runtime, protocol, host, options, tmp_path, runs
):
    experiment = replace(small(protocol, **{**options, "runtime": runtime}), out=tmp_path / "run")
    rng, killed = np.random.default_rng([len(protocol), len(host), len(options)]), []
    rounds = set(rng.choice(max(2, 2 * experiment.steps // 3), 2, replace=False).tolist())

    with pytest.MonkeyPatch.context() as patch:
        end_phase = dispatch.Dispatcher.end_phase

        def spy(self, phase, round_):
            end_phase(self, phase, round_)
            if phase in ("step", "query") and round_ in rounds:
                rounds.discard(round_)
                killed.append(next(pid for name, pid in self.pids.items() if name.startswith(host)))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)

        patch.setattr(dispatch.Dispatcher, "end_phase", spy)
        run, result = execute(experiment)
    assert result["transcript_digest"] == runs(protocol, **options)[1]["transcript_digest"]
    gone = len(set(killed))  # one that has nothing left to do may be missed after the second blow only
    assert len(killed) == 2 and gone >= 1
    assert [each["host"].split(".")[0] for each in result["recovered"]] == [host] * gone
    assert run.faults() == [] and ended(killed)


@pytest.mark.parametrize(
    ("blows", "protocol", "hosts", "options"),
    [
        (2, "plain_fe", ("key_authority", "cloud_trainer"), {"epochs": 4}),
        (2, "mitig2", ("cloud_trainer", "key_authority"), {"epochs": 2, "owners": 4, "per_round": 2}),
        (dispatch._LIVES + 1, "mitig2", ("data_owner", "cloud_trainer"), {"epochs": 4}),  # nobody is left
    ],
    ids=str,
)
def test_hosts_that_die_at_once_come_back_together_and_as_often_as_rounds_end_between(
    blows, protocol, hosts, options, tmp_path, runs
):
    experiment = replace(small(protocol, **{**options, "runtime": "local"}), out=tmp_path / "run")
    rounds = set(np.random.default_rng(5).choice(experiment.steps - 1, blows, replace=False).tolist())
    killed = kill_at(rounds, hosts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch.Dispatcher, "end_phase", killed)
        patch.setattr(dispatch, "WINDOW", 0)
        patch.setattr(dispatch, "_SECONDS_A_CALL", 0)  # each blow is felt before the next one
        run, result = execute(experiment)
    assert result["transcript_digest"] == runs(protocol, **options)[1]["transcript_digest"]
    found = [each["host"] for each in result["recovered"]]
    assert rounds == set() and {name.split(".")[0] for name in found} == set(hosts)
    assert len(found) >= 2 * blows and run.faults() == []


def kill_at(rounds, hosts):
    """An `end_phase` that kills the processes of some hosts after some steps."""
    end_phase = dispatch.Dispatcher.end_phase

    def spy(self, phase, round_):
        end_phase(self, phase, round_)
        if phase == "step" and round_ in rounds:
            rounds.discard(round_)
            for name, pid in self.pids.items():
                if name.startswith(hosts):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    return spy


def test_a_host_that_dies_whenever_it_comes_back_ends_the_run(tmp_path, monkeypatch):
    experiment = replace(small(**LONG, runtime="local"), out=tmp_path / "run")
    restart, times = LocalFleet.restart, []

    def restarted(self, hosts):
        restart(self, hosts)
        times.append(hosts)
        os.kill(self.pids["cloud_trainer"], signal.SIGKILL)

    monkeypatch.setattr(LocalFleet, "restart", restarted)
    monkeypatch.setattr(dispatch.Dispatcher, "end_phase", kill_at({3}, ("cloud_trainer",)))
    with pytest.raises(HostLost, match=r"the process that carried cloud_trainer died; its transcript"):
        execute(experiment)
    assert [[spec.name for spec in hosts] for hosts in times] == [["cloud_trainer"]] * dispatch._LIVES
