"""What a reconstruction is worth to train on: the truth's worth if perfect, nothing if it is noise."""

import json
from dataclasses import replace

import jsonschema
import keyhole
import numpy as np
import pytest
from typer.testing import CliRunner

from parties.adversary.adversary import Adversary
from parties.adversary.attack import Prior, Quantity, Reconstruction
from parties.data.datasets import DataSpec, load
from protocols.language.errors import ConfigError
from scenarios.cli import app
from scenarios.run.attacks import attack_run, held_out_of
from scenarios.run.execute import check_measure
from scenarios.run.options import Measure
from scenarios.score.metrics import Truth
from scenarios.score.retrain import NETWORKS, retrained
from tests.conftest import RESULT_SCHEMA, small

DATA = load(DataSpec("digits", samples=200))
TRUTH = Truth(DATA.x_train, DATA.y_train, DATA.x_max, DATA.shape)
PUBLIC = Prior(16, (8, 8), DATA.x_test / 16, public_labels=DATA.y_test)
TEST = held_out_of(DATA)
RNG = np.random.default_rng(5)
EVERY = np.arange(len(TRUTH.images))
SCALED = TRUTH.images / 16


def worth(values, quantity=Quantity.IMAGES, labelled=True, index=EVERY, prior=PUBLIC, **more):
    found = Reconstruction(quantity, index, np.asarray(values, np.float64), **more)
    return retrained(found, TRUTH, prior, labelled, TEST)


@pytest.fixture(scope="module")
def perfect():
    return worth(SCALED + RNG.uniform(-0.4, 0.4, SCALED.shape) / 16)


def test_what_is_perfect_once_rounded_is_worth_exactly_what_the_truth_is(perfect):
    assert perfect["rebuilt"] == perfect["truth"] > 0.85
    assert perfect["trained_on"] == len(EVERY) and perfect["tested_on"] == len(DATA.x_test)
    assert (perfect["labels"], perfect["networks"], perfect["why"]) == ("view", NETWORKS, "")


def test_noise_is_worth_chance(perfect):
    noise = worth(RNG.random(SCALED.shape))
    assert noise["rebuilt"] < 0.2 and noise["truth"] == perfect["truth"]


def test_images_in_no_order_are_worth_as_much_and_their_labels_are_not_the_views(perfect):
    order = RNG.permutation(len(EVERY))
    some = worth(SCALED[order], Quantity.UNORDERED_IMAGES)
    assert some["rebuilt"] == perfect["truth"] and some["labels"] == "truth"
    assert some["rebuilt"] > some["control"] > 0.5 and some["control_on"] == len(EVERY)
    assert "control" not in perfect  # labels of the view: nothing of the truth goes into the figure


def test_labels_are_the_attacks_own_where_it_finds_some_and_go_where_their_images_go(perfect):
    order = RNG.permutation(len(EVERY))
    own = {"per_sample": {"label": TRUTH.labels[order]}}
    right = worth(SCALED[order], Quantity.UNORDERED_IMAGES, **own)
    assert right["labels"] == "attack" and right["rebuilt"] == perfect["truth"]
    wrong = worth(SCALED, per_sample={"label": (TRUTH.labels + 1) % 10})
    assert wrong["labels"] == "attack" and wrong["rebuilt"] < 0.1


def test_public_images_in_no_order_are_worth_exactly_their_control_and_no_more_than_the_guess():
    public = replace(PUBLIC, public=PUBLIC.public[:150], public_labels=PUBLIC.public_labels[:150])
    order = RNG.permutation(150)
    for labelled in (True, False):
        known = worth(public.public[order], Quantity.UNORDERED_IMAGES, labelled, prior=public)
        assert known["labels"] == "truth" and known["control_on"] == known["trained_on"] == 150
        assert known["rebuilt"] == known["control"] > 0.5  # by labels that matching gave it
        assert known["guess"] > known["rebuilt"] - 0.05


def test_where_labels_are_the_truths_the_guess_has_them_too(perfect):
    blind = worth(SCALED, labelled=False)
    assert blind["labels"] == "truth" and blind["guess"] == perfect["guess"] > 0.5
    assert (
        blind["rebuilt"] == perfect["truth"] and blind["control"] < 0.3
    )  # in places: not matched by distance
    own = worth(SCALED, labelled=False, per_sample={"label": TRUTH.labels})
    assert own["labels"] == "attack" and own["guess"] < 0.2 and "control" not in own


def test_the_control_is_of_public_images_as_many_as_were_rebuilt_or_there_are():
    values = SCALED.copy()
    values[20:] = np.nan
    assert worth(values, Quantity.UNORDERED_IMAGES)["control_on"] == 20
    few = replace(PUBLIC, public=PUBLIC.public[:30], public_labels=None)
    found = worth(SCALED, Quantity.UNORDERED_IMAGES, prior=few)
    assert found["control_on"] == 30 and found["guess"] < 0.2  # public images of no class
    none = worth(SCALED, Quantity.UNORDERED_IMAGES, prior=replace(PUBLIC, public=None, public_labels=None))
    assert "control" not in none and none["rebuilt"] == found["rebuilt"]


def test_failures_are_left_out():
    values = SCALED.copy()
    values[20:] = np.nan
    found = worth(values)
    assert found["trained_on"] == 20 and found["rebuilt"] < found["truth"] - 0.1
    values[:] = np.nan
    assert worth(values)["why"] == "nothing was rebuilt to train on"


def test_what_is_no_sample_is_refused_in_a_line():
    assert worth(np.eye(200), Quantity.GRAM) == {"why": "no samples to train on: it rebuilds gram"}
    empty = worth(np.zeros((0, 64)), index=EVERY[:0])
    assert empty == {"why": "nothing was rebuilt to train on"}


def test_a_row_has_it_when_asked_twice_the_same_and_fits_the_schema(runs):
    run, result = runs("plain_fe", samples=48, hidden=32, epochs=2)
    names = ["stack", "labels"]

    def rows(measure=Measure.RETRAIN):
        return attack_run(run, names, ("cloud_trainer",), run.prior(), Adversary, 0, measure)

    found = rows()
    stack, labels = (row.get("retrained") for row in found)
    assert stack["rebuilt"] == stack["truth"] and stack["labels"] == "view" and stack["trained_on"] == 48
    assert labels == {"why": "no samples to train on: it rebuilds labels"}
    assert [row.get("retrained") for row in rows()] == [row.get("retrained") for row in found]
    jsonschema.validate({**result, "attacks": found}, RESULT_SCHEMA)
    assert not any("retrained" in row for row in rows(None))
    again = keyhole.load(run.path).attack("stack", measure="retrain")
    assert again[0]["retrained"] == stack and f"{stack['rebuilt']:.3f}" in again._repr_html_()
    with pytest.raises(ConfigError, match="--measure: expected one of retrain"):
        keyhole.load(run.path).attack("stack", measure="accuracy")


def test_the_command_line_prints_it(runs):
    run, _ = runs("plain_fe", samples=48, hidden=32, epochs=2)
    asked = ["attack", str(run.path), "--attack", "stack", "--attack", "labels", "--measure", "retrain"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0 and "what it is worth to train on" in told.output
    assert "labels: --measure retrain: no samples to train on" in " ".join(told.output.split())
    rows = json.loads(CliRunner().invoke(app, [*asked, "--json"]).output)
    assert rows[0]["retrained"]["labels"] == "view" and rows[1]["retrained"]["why"]


def test_where_nothing_can_be_tested_it_is_refused_before_anything_runs(tmp_path):
    x = RNG.integers(0, 17, (40, 8, 8), dtype=np.uint8)
    with open(tmp_path / "own.npz", "wb") as file:
        np.savez(file, images=x, labels=np.arange(40) % 10)
    own = small(samples=None, dataset=str(tmp_path / "own.npz"), attack=["stack"], measure="retrain")
    held = held_out_of(own.data)  # a file without a test set has some held out of it
    assert len(held.labels) == len(own.data.x_test)
    whole = replace(own, spec=replace(own.spec, whole=True))
    with pytest.raises(ConfigError, match="this data set has none"):
        check_measure(whole)
    with pytest.raises(ConfigError, match="name one with --attack"):
        check_measure(small(measure="retrain"))
    with keyhole.record(
        tmp_path / "recorded", roles=("data_owner:0", "cloud_trainer"), shape=(8, 8), x_max=16, classes=10,
        counts=(4,),
    ) as r:  # fmt: skip
        r.send("data_owner:0", "cloud_trainer", z1=np.zeros((4, 3)))
    with pytest.raises(ConfigError, match="a recording has none"):
        keyhole.load(tmp_path / "recorded").attack("stack", measure="retrain")
