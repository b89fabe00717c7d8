"""result.json against its schema: every scenario's fits, what is no result does not, and every key is
explained.
"""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from scenarios.run.catalogue import SCENARIOS
from tests.conftest import RESULT_SCHEMA, TINY

FILE = Path(__file__).parents[2] / "result.schema.json"
# The keys that DESIGN promises to keep.
STABLE = {
    "schema",
    "scenario",
    "protocol",
    "seed",
    "config",
    "versions",
    "transcript_digest",
    "accuracy",
    "seconds",
    "traffic",
    "parties",
    "learned",
    "attacks",
}


@pytest.fixture
def result(runs):
    """The result of a run with attacks, as it is on disk."""
    return json.loads(json.dumps(runs(attack=("stack", "labels", "lp"), batch=4)[0].result))


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(RESULT_SCHEMA)
    assert set(RESULT_SCHEMA["required"]) >= STABLE


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_writes_a_result_that_fits(runs, scenario):
    run, _ = runs(scenario, **(TINY if scenario == "mitig1" else {}))
    jsonschema.validate(run.result, RESULT_SCHEMA)


def test_a_result_with_attacks_fits(result):
    jsonschema.validate(result, RESULT_SCHEMA)
    assert [row["attack"] for row in result["attacks"]] == ["stack", "labels", "lp"]


MUTATIONS = {
    "another schema": lambda r: r.update(schema=2),
    "an unknown key": lambda r: r.update(extra=1),
    "no digest": lambda r: r.pop("transcript_digest"),
    "a short digest": lambda r: r.update(transcript_digest="00"),
    "a share above one": lambda r: r["accuracy"].update(test=1.5),
    "no set-up time": lambda r: r["seconds"].pop("setup"),
    "a negative count": lambda r: r["traffic"][0].update(messages=-1),
    "an unknown knowledge": lambda r: r["learned"][0].update(how="guessed"),
    "an unknown metric": lambda r: r["attacks"][1]["metrics"].update(labels_wrong=0.1),
    "no baseline": lambda r: r["attacks"][0].pop("baseline"),
    "an unknown scheme": lambda r: r["config"].update(scheme="rot13"),
    "no security": lambda r: r.pop("security"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_result_does_not_fit(result, name):
    changed = copy.deepcopy(result)
    MUTATIONS[name](changed)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, RESULT_SCHEMA)


def undescribed(schema, path=""):
    """Paths of the keys in a schema that nothing is said of."""
    for key, value in schema.get("properties", {}).items():
        if not value.get("description"):
            yield f"{path}/{key}"
        yield from undescribed(value, f"{path}/{key}")
    for inner in (schema.get("items"), schema.get("additionalProperties"), *schema.get("anyOf", ())):
        if isinstance(inner, dict):
            yield from undescribed(inner, path + "/*")


def test_every_key_is_explained():
    assert list(undescribed(RESULT_SCHEMA)) == []
    assert list(undescribed({"anyOf": [{"properties": {"key": {}}}]})) == ["/*/key"]


def test_the_schema_in_the_repository_is_the_one_that_results_are_held_against():
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    assert stored == RESULT_SCHEMA, "python -m scenarios.run.catalogue > result.schema.json"
