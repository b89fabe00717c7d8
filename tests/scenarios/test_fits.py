"""The words of JSON schemas that stored files are held against."""

import jsonschema
import pytest

from scenarios.run.fits import fault

SCHEMA = {
    "type": "object",
    "required": ["a"],
    "properties": {
        "a": {"type": ["integer", "null"], "minimum": 0, "maximum": 9},
        "b": {
            "type": "array",
            "items": {"anyOf": [{"type": "string", "pattern": "^x"}, {"type": "boolean"}]},
        },
        "c": {"enum": ["u", "v"]},
        "d": {"type": "object", "additionalProperties": {"type": "number"}},
    },
}
FIT = ({"a": 1}, {"a": None, "b": ["x1", True], "c": "v", "d": {"q": 1.5, "r": 2}}, {"a": 9, "new": object()})
UNFIT = {
    "it: expected object": [],
    "it lacks a": {"b": []},
    "a: expected integer or null": {"a": True},
    "a: expected at least 0": {"a": -1},
    "a: expected at most 9": {"a": 10},
    "b: expected array": {"a": 1, "b": "x"},
    "b[1]: expected text like": {"a": 1, "b": ["x", "y"]},
    "c: expected one of u, v": {"a": 1, "c": "w"},
    "d.q: expected number": {"a": 1, "d": {"q": "1"}},
}


@pytest.mark.parametrize("value", FIT)
def test_what_fits_has_no_fault(value):
    assert fault(value, SCHEMA) == ""
    jsonschema.validate(value, SCHEMA)


@pytest.mark.parametrize(("told", "value"), UNFIT.items(), ids=UNFIT)
def test_what_does_not_fit_is_told_with_its_place(told, value):
    assert fault(value, SCHEMA).startswith(told)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, SCHEMA)
