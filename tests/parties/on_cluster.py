"""Runs on a cluster of one node a role, in a process of its own: `python -m tests.parties.on_cluster FOLDER`
prints what came of them as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from parties.runtime import dispatch, ray_session
from protocols.language.errors import KeyholeError
from scenarios.run.execute import execute
from scenarios.run.folder import load_run
from scenarios.run.predict import predict, query
from tests.conftest import small

ROLES = ("data_owner", "key_authority", "cloud_trainer")


def nodes(cluster):
    """The node of each role, started beside the head."""
    return {role: cluster.add_node(num_cpus=1, resources={role: 1}, wait=False) for role in ROLES}


def watched(experiment, at=None):
    """What came of a run, and the node of each actor by its name; `at(runtime, phase, round)` is called."""
    seen, end_phase = {}, dispatch.Dispatcher.end_phase

    def spy(self, phase, round_):
        end_phase(self, phase, round_)
        if not seen:
            seen.update(places())
        if at:
            at(self, phase, round_)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch.Dispatcher, "end_phase", spy)
        run, result = execute(experiment)
    recovered = [each["host"] for each in result.get("recovered") or ()]
    left = [path.name for path in Path(tempfile.gettempdir()).glob("keyhole-*-cloud_trainer")]
    digest, faults = result["transcript_digest"], run.faults()
    return {"digest": digest, "faults": faults, "recovered": recovered, "places": seen, "left": left}


def places():
    """The node of each actor that lives, by its name."""
    actors = ray._private.state.actors().values()
    return {each["Name"]: each["Address"]["NodeID"] for each in actors if each["State"] == "ALIVE"}


def mismatch(address):
    """What is said of a cluster of other versions."""
    client = ray._raylet.GcsClient(address=address)
    key, namespace = b"CLUSTER_METADATA", b"cluster"
    said = json.loads(client.internal_kv_get(key, namespace))
    other = {**said, "ray_version": "1.13.0", "python_version": "3.7.7"}
    client.internal_kv_put(key, json.dumps(other).encode(), True, namespace)
    try:
        with ray_session.cluster(address):
            return ""
    except KeyholeError as error:
        return str(error)


def main(folder):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    by_role = nodes(cluster)
    cluster.wait_for_nodes()
    said = {
        "nodes": {role: node.node_id for role, node in by_role.items()},
        "head": cluster.head_node.node_id,
    }
    with ray_session.cluster(cluster.address):
        one = small(runtime="ray")
        said["plain"] = watched(replace(one, out=folder / "plain"))
        asked = query(load_run(folder / "plain"), None, None, 8, "ray", folder / "asked")
        said["asked"] = (predict(asked)[0].path / "predictions.csv").read_text()

        def remove(runtime, phase, round_):
            if phase == "step" and round_ == 4:
                cluster.remove_node(by_role["key_authority"], allow_graceful=False)
                os.kill(runtime.pids["key_authority"], signal.SIGKILL)  # a machine takes its processes along

        said["removed"] = watched(replace(small(runtime="ray", epochs=15), out=folder / "removed"), remove)
    said["mismatch"] = mismatch(cluster.address)
    cluster.shutdown()
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
