"""Runs on clusters of several nodes: as docs/running.md has them, and one node a role."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml

from parties.data.datasets import DataSpec
from parties.runtime import away, placement
from parties.runtime.placement import Node, places
from protocols.language.errors import ConfigError, ProtocolError
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from scenarios.run.catalogue import find_scenario
from scenarios.run.experiment import prepare
from scenarios.run.folder import RunFolder, free_path, new_folder
from scenarios.run.hosts import host_specs
from scenarios.run.predict import predict, query
from tests.conftest import SMALL, small

ROOT = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
ROLES = (DATA_OWNER, KEY_AUTHORITY, CLOUD_TRAINER)


def recipe():
    """The commands of the block for clusters in docs/running.md."""
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    block = next(part for part in text.split("```")[1::2] if "ray start --head" in part)
    return [line.partition("  #")[0].strip() for line in block.strip().splitlines()]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Nodes:
    """Nodes that are started as docs/running.md says, each a process here that ends with its node."""

    def __init__(self, folder, ports):
        self.gcs, self.dashboard = ports
        outside = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.env = {**outside, "HOME": str(folder), "RAY_AUTH_MODE": "token", "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": str(ROOT)}  # fmt: skip
        self._started = []

    def line(self, command):
        """A line of the recipe, with this cluster's ports, and this Python."""
        words = shlex.split(command.replace("HEAD:6379", f"127.0.0.1:{self.gcs}"))
        return [word for each in words for word in {"ray": RAY, "python": [sys.executable]}.get(each, [each])]

    def start(self, command, cwd, *more, within=()):
        process = subprocess.Popen(
            [*within, *self.line(command), *more, "--block", "--num-cpus", "2", "--disable-usage-stats"],
            cwd=cwd, env=self.env, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._started.append(process)

    def said(self, command, **more):
        """(status, what is said) of a command."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=180, **more)
        return done.returncode, done.stdout + done.stderr

    def asked(self, path):
        """What the dashboard answers."""
        token = (Path(self.env["HOME"]) / ".ray" / "auth_token").read_text()
        request = urllib.request.Request(f"http://127.0.0.1:{self.dashboard}{path}")
        request.add_header("Authorization", f"Bearer {token}")
        return json.load(urllib.request.urlopen(request, timeout=10))

    def wait(self, count):
        """Until so many nodes are up."""
        for _ in range(600):
            try:
                nodes = self.asked("/nodes?view=summary")["data"]["summary"]
                if sum(node["raylet"].get("state") == "ALIVE" for node in nodes) == count:
                    return
            except (OSError, ValueError, KeyError):
                pass
            time.sleep(0.1)
        raise AssertionError("the nodes did not come up")

    def end(self):
        for process in reversed(self._started):
            process.terminate()
        for process in self._started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def hiding(folder):
    """A command before another one, which then sees an empty folder instead; nothing where that cannot be."""
    unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    try:
        subprocess.run(
            [*unshare, "mount", "-t", "tmpfs", "none", str(folder)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return [*unshare, "sh", "-c", f'mount -t tmpfs none {shlex.quote(str(folder))}; exec "$@"', "sh"]


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    """The cluster of docs/running.md: a head, on which jobs are carried out, and a node that sees none of the
    head's files; what came of a job and of a run that asks for a file of the head's.
    """
    pytest.importorskip("aiohttp_cors", reason="ray job submit wants ray[default]")
    home, here, there = (tmp_path_factory.mktemp(name) for name in ("home", "head", "other"))
    np.savez(here / "own.npz", images=np.zeros((48, 4, 4), np.uint8), labels=np.arange(48) % 4)
    nodes = Nodes(home, free_ports(2))
    token, head, other, submit = recipe()
    try:
        assert nodes.said(nodes.line(token.partition("&& ")[2]))[0] == 0
        nodes.start(
            head, here, "--port", str(nodes.gcs), "--dashboard-port", str(nodes.dashboard),
            "--node-ip-address", "127.0.0.1",
        )  # fmt: skip
        nodes.wait(1)
        nodes.start(other, there, "--node-ip-address", "127.0.0.1", within=hiding(here))
        nodes.wait(2)
        command = nodes.line(submit.replace("/results/first", str(here / "run")))
        given = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items() if key not in _FLAGS]
        where = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{nodes.dashboard}"}
        nodes.env.update(where)
        for _ in range(40):  # a head takes jobs some seconds after its node is up
            job = nodes.said([*command, *given, "--no-audit"], cwd=ROOT)
            if "No available agent" not in job[1]:
                break
            time.sleep(1)
        actors = nodes.asked("/logical/actors")["data"]["actors"].values()
        run = [sys.executable, "-m", "scenarios", "run", "plain-fe", "--address", f"127.0.0.1:{nodes.gcs}"]
        missing = nodes.said([*run, "--dataset", "own.npz", "--out", "missing"], cwd=here)
        return {"job": job, "run": here / "run", "actors": list(actors), "missing": missing,
               "hidden": bool(hiding(here)), "data": here / "own.npz"}  # fmt: skip
    finally:
        nodes.end()


_FLAGS = {"runtime", "no_audit"}


@pytest.mark.recipe
def test_the_recipe_of_the_readme_from_ray_start_to_the_result(two_nodes, runs):
    status, said = two_nodes["job"]
    assert status == 0, said[-2000:]
    run = RunFolder(two_nodes["run"])
    assert run.result["transcript_digest"] == runs("plain_fe")[1]["transcript_digest"]
    assert run.faults() == [] and "succeeded" in said


@pytest.mark.recipe
def test_what_a_host_writes_on_another_node_arrives_at_the_driver(two_nodes):
    run, nodes = two_nodes["run"], {each["address"]["nodeId"] for each in two_nodes["actors"] if _of(each)}
    assert len(nodes) == 2
    names = {"data_owner:0", "key_authority", "cloud_trainer"}
    assert set(RunFolder(run).sources) == names == {path.name for path in (run / "state").iterdir()}
    lines = [json.loads(line) for line in (run / "run.log").read_text().splitlines()]
    assert {"data_owner", "key_authority", "cloud_trainer", "driver"} == {line["host"] for line in lines}
    assert not list(run.rglob("*.part"))


@pytest.mark.recipe
def test_the_dashboard_shows_parties_by_name(two_nodes):
    named = {each["name"].partition(" of ")[0] for each in two_nodes["actors"] if _of(each)}
    assert named == {"data_owner:0", "key_authority", "cloud_trainer"}


def _of(actor):
    """Whether an actor is a host."""
    return actor["actorClass"] == "HostActor"


@pytest.mark.recipe
def test_a_data_set_that_the_owners_node_lacks_is_named_with_the_node(two_nodes):
    if not two_nodes["hidden"]:
        pytest.skip("folders cannot be hidden from a process here")
    status, said = two_nodes["missing"]
    assert status == 1 and len(said.splitlines()) == 1
    assert re.search(rf"{two_nodes['data']}.*\(on the node \S+, where data_owner runs", said)


@pytest.fixture(scope="module")
def node_a_role(tmp_path_factory):
    """What came of runs on a `Cluster` with a node for each role (`on_cluster.py`)."""
    folder = tmp_path_factory.mktemp("cluster")
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "TMPDIR": str(tmp_path_factory.mktemp("tmp"))}
    command = [sys.executable, "-m", "tests.parties.on_cluster", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.ray
def test_each_role_has_its_own_node_and_nothing_is_left_there(node_a_role, runs):
    said = node_a_role["plain"]
    hosts = {name.partition(" of ")[0]: node for name, node in said["places"].items() if " of " in name}
    assert hosts == {
        "data_owner:0" if role == "data_owner" else role: node for role, node in node_a_role["nodes"].items()
    }
    assert node_a_role["head"] not in hosts.values() and said["left"] == said["faults"] == []
    assert said["digest"] == runs("plain_fe")[1]["transcript_digest"]


@pytest.mark.ray
def test_predictions_find_what_parties_kept_on_other_nodes(node_a_role, runs, tmp_path):
    inline = predict(query(runs("plain_fe")[0], None, None, 8, "inline", tmp_path / "asked"))[0]
    asked = (inline.path / "predictions.csv").read_text()
    assert node_a_role["asked"] == asked and len(asked.splitlines()) == 9


@pytest.mark.ray
def test_a_node_that_is_gone_costs_nothing_but_time(node_a_role, runs):
    said = node_a_role["removed"]
    assert said["recovered"] == ["key_authority"] and said["faults"] == []
    assert said["digest"] == runs("plain_fe", epochs=15)[1]["transcript_digest"]


@pytest.mark.ray
def test_of_versions_that_differ_the_whole_message_is_one_line(node_a_role):
    said = node_a_role["mismatch"]
    assert "\n" not in said and "Ray: 1.13.0 Python: 3.7.7" in said
    assert re.search(r"This process .* Ray: 2\.\S+ Python: 3\.", said)


@pytest.mark.parametrize(
    ("address", "environment", "found", "said"),
    [
        ("ray://127.0.0.1:1", "", "", "ray job submit"),
        (None, "http://127.0.0.1:8265", "", "unset RAY_ADDRESS"),
        ("auto", "127.0.0.1:1", "", "'127.0.0.1:1': .* refused"),  # as a job is told its own cluster
        (None, "127.0.0.1:1", "", "'127.0.0.1:1': .* refused"),
        ("auto", "", "127.0.0.1:1", "'auto': .* refused"),  # one that was there: Ray tries for minutes
        ("auto", "", None, "start one with ray start"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_at_once(address, environment, found, said, monkeypatch):
    import ray

    from parties.runtime import ray_session

    def named(address, folder):
        if found is None:
            raise ConnectionError
        return found

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray._private.services, "get_ray_address_from_environment", named)
    monkeypatch.setenv("RAY_ADDRESS", environment)
    began = time.monotonic()
    with pytest.raises(ProtocolError, match=said), ray_session.cluster(address):
        pass
    assert time.monotonic() - began < ray_session._ANSWER_SECONDS


def test_a_node_without_keyhole_is_told_from_a_process_that_died():
    from ray.exceptions import RayError

    from parties.runtime import on_ray

    said = on_ray._missing(RayError("...\nModuleNotFoundError: No module named 'parties'\n..."))
    assert said.startswith(": No module named 'parties' on its node") and "ray job submit" in said
    assert on_ray._missing(RayError("the worker was killed")) == ""


def test_hosts_of_a_role_take_turns_on_its_nodes(tmp_path):
    specs = host_specs(small(owners=2), new_folder(tmp_path / "run", "test"))
    plain = [Node(str(i), {"CPU": 1.0}) for i in range(6)]
    found = {name: place.node for name, place in places(specs, plain).items()}
    by_role = {role.value: {n for name, n in found.items() if name.startswith(role.value)} for role in ROLES}
    assert sum(map(len, by_role.values())) == len(set.union(*by_role.values()))  # nobody shares one
    named = [*plain, Node("a", {"cloud_trainer": 1.0, "CPU": 1.0})]
    assert placement.places(specs, named)["cloud_trainer"].resources == {"cloud_trainer": 0.001}
    assert [name for name, place in places(specs, named).items() if place.node == "a"] == ["cloud_trainer"]
    idle = [Node("head", {}), *plain[:1]]
    assert {place.node for place in places(specs, idle).values()} == {"0"}
    assert {place.node for place in places(specs, [Node("x", {})]).values()} == {"x"}


def test_a_file_comes_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(away, "_PIECE", 3)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (spec,) = [s for s in host_specs(small(), new_folder(tmp_path / "run", "t")) if s.name == "cloud_trainer"]
    host = away.Away(spec, "run", {})
    for name, content in (("transcript", b"0123456"), ("transcript-wal", b"7"), ("log", b"new\n")):
        (host.folder / name).write_bytes(content)
    (host.folder / "state").mkdir()
    (host.folder / "state" / "cloud_trainer").write_bytes(b"kept")
    Path(spec.log).write_bytes(b"old\n")
    away.fetch(spec, host.files(), host.read)
    assert Path(spec.transcript).read_bytes() == b"0123456" and Path(spec.log).read_bytes() == b"old\nnew\n"
    assert Path(spec.transcript + "-wal").read_bytes() == b"7"
    assert Path(spec.state, "cloud_trainer").read_bytes() == b"kept"
    assert {path.stat().st_mode & 0o077 for path in Path(spec.transcript).parent.iterdir()} == {0}

    def dies(name, offset):
        if offset:
            raise ConnectionError
        return b"9"

    with pytest.raises(ConnectionError):
        away.fetch(spec, ["transcript"], dies)
    assert Path(spec.transcript).read_bytes() == b"0123456"


def test_paths_are_resolved_where_they_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", images=np.zeros((20, 4, 4), np.uint8), labels=np.arange(20) % 4)
    experiment = prepare(find_scenario("plain_fe"), {**SMALL, "samples": None, "dataset": "own.npz"})
    assert experiment.spec.name == str(tmp_path / "own.npz")
    assert DataSpec("mnist", "files").resolved().data_dir == str(tmp_path / "files")
    assert DataSpec("x.npz", "files").resolved().name == str(tmp_path / "files" / "x.npz")
    assert DataSpec("digits").resolved() == DataSpec("digits")


def test_a_job_writes_no_result_into_its_copy_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {"working_dir": "gcs://x"}}))
    with pytest.raises(ConfigError, match="--out, absolute"):
        free_path(None, "plain_fe")
    assert free_path(tmp_path.parent / "kept", "plain_fe").is_absolute()
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {}}))
    assert free_path(Path("kept"), "plain_fe") == Path("kept")


def test_the_example_for_kubernetes_has_a_node_a_role_and_a_command_that_is_understood():
    spec = yaml.safe_load((ROOT / "tests" / "examples" / "kuberay.yaml").read_text())["spec"]
    groups = spec["rayClusterSpec"]["workerGroupSpecs"]
    offered = [json.loads(json.loads(group["rayStartParams"]["resources"])) for group in groups]
    assert [*map(set, offered)] == [{role.value} for role in ROLES]
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert spec["rayClusterSpec"]["rayVersion"] == pinned
    words = shlex.split(spec["entrypoint"])
    assert words[:3] == ["python", "-m", "scenarios.plain_fe"]
    options = dict(word.removeprefix("--").split("=") for word in words[3:])
    assert Path(options["out"]).is_absolute()
    declared = find_scenario("plain_fe").options()
    assert set(options) <= {name.replace("_", "-") for name in declared}
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert any(options["out"].startswith(each["mountPath"]) for each in head["volumeMounts"])
