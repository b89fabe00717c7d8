"""Every result, of each protocol, switch and defence, fits the schema that its classes declare, and the one
in the repository: no key more, none less.
"""

import json
import shlex
from pathlib import Path

import jsonschema
import pytest

from scenarios.run.catalogue import SCENARIOS, find_scenario
from scenarios.run.result import result_schema
from tests.rules.test_digests import LINES

STORED = json.loads((Path(__file__).parents[2] / "result.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", [line for _, line in LINES])
def test_a_result_fits_the_schema_of_its_protocol(line, finished):
    result = json.loads((finished(line) / "result.json").read_text(encoding="utf-8"))
    for schema in (result_schema([find_scenario(shlex.split(line)[0]).config]), STORED):
        jsonschema.validate(result, schema)


def test_every_protocol_is_among_the_lines():
    assert {shlex.split(line)[0].replace("-", "_") for _, line in LINES} == {*SCENARIOS}
