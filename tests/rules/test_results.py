"""Every result, of each protocol, switch and defence, fits the schema that its classes declare: no key more,
none less.
"""

import json
import shlex

import jsonschema
import pytest

from scenarios.run.catalogue import find_scenario
from scenarios.run.result import result_schema
from tests.rules.test_digests import LINES


@pytest.mark.parametrize("line", [line for _, line in LINES])
def test_a_result_fits_the_schema_of_its_protocol(line, finished):
    result = json.loads((finished(line) / "result.json").read_text(encoding="utf-8"))
    jsonschema.validate(result, result_schema([find_scenario(shlex.split(line)[0]).config]))
