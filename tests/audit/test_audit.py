"""What views determine on small instances: the table that was derived by hand, planted leaks, and what leaks
nothing.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from parties.audit.audit import Derivative
from parties.audit.determined import Spectrum, rank_of, residuals
from parties.audit.draws import Unknowns
from parties.audit.rebuild import rebuild
from parties.audit.watch import Script, Watch
from scenarios.cli import app
from scenarios.run.catalogue import asked_for, find_scenario
from scenarios.run.small import small_experiment, small_instance

CLOUD, OWNER, AUTHORITY = ("cloud_trainer",), ("data_owner:0",), ("key_authority",)


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """The answers of a coalition by name of the quantity, and its finding; each instance is differentiated
    once for all coalitions.
    """
    done = {}

    def of(protocol, parties, **given):
        key = protocol, tuple(sorted(given.items()))
        if key not in done:
            scenario = asked_for(protocol) if protocol.endswith(".py") else find_scenario(protocol)
            experiment = small_experiment(scenario, given, tmp_path_factory.mktemp("small"))
            done[key] = Derivative(small_instance(experiment))
        finding = done[key].finding(parties)
        return {answer.name: answer for answer in finding.answers}, finding

    return of


# Sizes of the derivation by hand: N = 6, n = 8, h = 6, B = 3. Rank with the labels, 18 unknowns that cross;
# how many of 48 pixels and of 15 inner products follow, and with which step.
DERIVED = [
    ("mitig2", {"epochs": 1}, 18 + 36, (0, None), (0, None)),
    ("mitig2", {"epochs": 2}, 18 + 57, (0, None), (15, 3)),
    ("mitig2", {"epochs": 4}, 18 + 57, (0, None), (15, 3)),
    ("mitig1", {"epochs": 1}, 18 + 51, (0, None), (12, 1)),  # all but those within the last batch
    ("mitig1", {"epochs": 2}, 18 + 57, (0, None), (15, 2)),
    ("plain_fe", {"epochs": 1}, 18 + 48, (48, 1), (15, 1)),
]


@pytest.mark.parametrize(("protocol", "given", "rank", "pixels", "gram"), DERIVED, ids=str)
def test_the_cloud_determines_what_was_derived_by_hand(ask, protocol, given, rank, pixels, gram):
    answers, finding = ask(protocol, CLOUD, **given)
    assert finding.rank == rank and finding.decided and finding.gap > 1e5
    for name, (count, step) in (("images", pixels), ("images: inner products", gram)):
        answer = answers[name]
        assert answer.determined == count and not answer.undecided
        assert answer.since is None if step is None else answer.since[1] == ("step", step)
    assert answers["labels"].determined == 18


def test_labels_that_never_leave_their_owner_are_determined_by_a_u_shaped_cloud(ask):
    first, _ = ask("mitig2", CLOUD, labels="owner", epochs=1)
    second, finding = ask("mitig2", CLOUD, labels="owner", epochs=2)
    assert first["labels"].determined == 0 and second["labels"].determined == 18 and finding.decided


def test_an_authority_that_only_issues_keys_determines_images_and_labels(ask):
    answers, finding = ask("plain_fe", AUTHORITY)
    assert answers["images"].determined == 48 and answers["labels"].determined == 18 and finding.decided


def test_a_leak_that_no_single_message_shows_is_found_with_its_step(ask):
    answers, finding = ask("tests/examples/checksums.py", CLOUD)
    assert answers["images"].determined == 16 and answers["images"].total == 48  # two samples of eight pixels
    assert answers["images"].since == (("step", 2), ("step", 2)) and finding.decided
    before, _ = ask("tests/examples/checksums.py", CLOUD, epochs=2)
    assert before["images"].determined == 0


@pytest.mark.parametrize("parties", [CLOUD, OWNER, ("helper",)], ids=str)
def test_one_time_pads_determine_nothing_of_a_sample(ask, parties):
    answers, finding = ask("tests/examples/one_time_pads.py", parties, owners=3)
    of_images = [answer for name, answer in answers.items() if name.startswith("images")]
    assert of_images and all(answer.verdict == "nothing found" for answer in of_images)
    assert finding.decided and finding.rank == {CLOUD: 24, OWNER: 8}.get(parties, 0)


def test_pads_and_their_helper_together_determine_what_was_padded(ask):
    answers, _ = ask("tests/examples/one_time_pads.py", ("helper", "cloud_trainer"), owners=3)
    assert answers["images"].determined == 24


def test_secure_aggregation_hides_a_copy_and_its_absence_shows_it(ask):
    given = {"owners": 3, "epochs": 1, "samples": 6, "features": 6, "layers": (3,), "batch": 2}
    clear, _ = ask("mitig2", AUTHORITY, **given)
    masked, _ = ask("mitig2", AUTHORITY, defence=("secure-aggregation",), **given)
    assert clear["images"].determined == 0 and masked["images"].determined == 0
    assert masked["pads"].total > 0 and masked["pads"].determined == 0


def test_noise_is_an_unknown_of_its_own(ask):
    clear, _ = ask("mitig2", CLOUD, epochs=2)
    noisy, _ = ask("mitig2", CLOUD, epochs=2, defence=("noise:10",))
    assert clear["images: inner products"].determined == 15
    assert noisy["images: inner products"].determined == 0 and noisy["drawn noise"].total > 0


def test_what_changes_in_steps_is_undecided_and_not_nothing(ask):
    _, consumer = ask("reverse_he", ("consumer",))
    assert consumer.steps == ("decision",) and consumer.rank == 0


def test_server_and_authority_open_the_head_and_neither_does_alone(ask):
    for parties, opened in ((("server", "key_authority"), True), (("server",), False), (AUTHORITY, False)):
        answers, _ = ask("reverse_he", parties)
        assert (answers["what head hides"].determined == answers["what head hides"].total) is opened


def test_gauss_newton_finds_images_from_enough_keys_and_a_rotation_without_the_first_layer(tmp_path):
    given = {"samples": 3, "features": 4, "layers": (4,), "batch": 3, "epochs": 3}
    open_to_it = small_instance(small_experiment(find_scenario("plain_fe"), given, tmp_path))
    (start,) = rebuild(open_to_it, CLOUD, 1)
    assert start.fits and start.errors["images"] < 1e-4
    split = small_instance(small_experiment(find_scenario("mitig2"), given | {"lr": 2.0}, tmp_path))
    starts = rebuild(split, CLOUD, 2)
    fitted = [each for each in starts if each.fits]
    assert fitted and all(each.errors["images"] > 1e-2 for each in fitted)
    assert any("up to a rotation" in each.said() for each in fitted)


def test_a_rank_without_a_gap_is_undecided():
    values = np.geomspace(1, 1e-16, 40)
    spectrum = Spectrum(("step", 0), np.eye(40)[: rank_of(values)], values)
    assert not spectrum.decided
    clear = np.concatenate([np.geomspace(1, 1e-3, 10), np.full(5, 1e-13)])
    assert rank_of(clear) == 10 and Spectrum(("step", 0), np.eye(15)[:10], clear).decided
    assert rank_of(np.zeros(3)) == 0


def test_residuals_tell_inside_from_outside():
    spectrum = Spectrum(("step", 0), np.eye(4)[:2], np.ones(2))
    found = residuals(np.array([[1.0, 2, 0, 0], [0, 0, 3, 0], [1, 0, 1, 0]]), spectrum)
    assert np.allclose(found, [0, 1, 0.5**0.5])


def small(tmp_path, protocol, **given):
    return small_instance(small_experiment(find_scenario(protocol), given, tmp_path))


@pytest.mark.parametrize(
    ("protocol", "given"),
    [("plain_fe", {"gradient": "fe"}), ("mitig2", {"owners": 3, "epochs": 2}), ("reverse_he", {})],
    ids=str,
)
def test_a_run_from_what_its_script_said_is_the_run_of_the_script(tmp_path, protocol, given):
    instance = small(tmp_path, protocol, **given)
    _, unknowns = instance.run()
    moved = {name: np.full(each.shape, 0.01 * each.unit) for name, each in unknowns.items()}
    assert instance._said is not None
    noted, _ = instance.run(moved)
    instance._said = None
    scripted, _ = instance.run(moved)
    assert len(noted.messages) == len(scripted.messages) and noted.outputs.keys() == scripted.outputs.keys()
    for one, two in zip(noted.messages, scripted.messages, strict=True):
        assert np.array_equal(one.numbers, two.numbers)
        assert replace(one, numbers=0, sealed=()) == replace(two, numbers=0, sealed=())
        assert len(one.sealed) == len(two.sealed)
    assert all(np.array_equal(noted.outputs[key], value) for key, value in scripted.outputs.items())
    still, _ = instance.run()
    pairs = zip(still.messages, noted.messages, strict=True)
    assert any(not np.array_equal(one.numbers, two.numbers) for one, two in pairs)


def test_a_script_that_branches_or_publishes_is_run_every_time(tmp_path):
    instance = small(tmp_path, "plain_fe", defence=("key-budget:7",))
    instance.run()
    assert instance._said is None
    script = Script(Watch({}, []))
    assert script.closed() == ()
    with pytest.raises(AttributeError):
        script.publish(None)
    assert script.closed() is None


def test_unknowns_are_moved_where_they_are_met():
    unknowns = Unknowns({"a": np.array([0.0, 1.0])})
    assert np.array_equal(unknowns.meet(frozenset({"x"}), "a", "input", [1, 2]), [1.0, 3.0])
    assert np.array_equal(unknowns.found["a"].values, [1.0, 2.0])
    assert not np.array_equal(unknowns.pad(0, 1, "w1 0", (3,)), unknowns.pad(0, 1, "w1 1", (3,)))


SPARSE = '''
from dataclasses import dataclass
import numpy as np
from protocols.language.figure import Arrow
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER
from protocols.network import training
from protocols.network.config import Training

NAME, SUMMARY, SECURITY = "dark", "sends where pixels are dark", "none"
ROLES = (DATA_OWNER, CLOUD_TRAINER)
FIGURE = (Arrow("step", DATA_OWNER, CLOUD_TRAINER, "dark"),)


@dataclass(frozen=True)
class Options(Training):
    """Nothing of its own."""


def run(s, config):
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("step", 0):
        c.do(keep, o.send(c, dark=o.do(dark)))
    with s.phase("accuracy", 1):
        c.do(training.start_model)
        yield s.reveal(c.do(training.weights), why="accuracy")


def steps(config):
    return 1


def dark(state):
    return np.flatnonzero(state.inputs["images"] < 128)


def keep(state, places):
    state.held["places"] = places
'''


def test_the_command_names_side_channels_and_draws(tmp_path):
    (tmp_path / "dark.py").write_text(SPARSE)
    picture = tmp_path / "audit.png"
    words = ["audit", str(tmp_path / "dark.py"), "--influence", "--out", str(picture), "--json"]
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    (line,) = [each for each in found["influence"] if each["secret"] == "one image"]
    assert line["side_channel"] and "size" in line["changes"]
    (cloud,) = [each for each in found["findings"] if each["parties"] == ["cloud_trainer"]]
    assert cloud["in_steps"] == ["dark"]
    printed = CliRunner().invoke(app, [*words[:-3], "--epochs", "1"])
    assert "SIDE CHANNEL" in printed.stdout and "undecided: dark changes in steps" in printed.stdout


def test_encryption_has_no_side_channel_of_its_samples():
    outcome = CliRunner().invoke(app, ["audit", "plain-fe", "--influence", "--json", "--epochs", "1"])
    lines = json.loads(outcome.stdout)["influence"]
    assert lines and not any(each["side_channel"] for each in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mitig2", "--samples", "0"], "samples"),
        (["mitig2", "--malicious", "unit-keys"], "--malicious"),
        (["nothing"], "nothing"),
        (["mitig1", "--labels", "owner"], "--labels"),
    ],
    ids=str,
)
def test_wrong_usage_is_said_in_a_line(words, said):
    outcome = CliRunner().invoke(app, ["audit", *words])
    assert outcome.exit_code != 0 and said in outcome.output and "Traceback" not in outcome.output


def test_what_no_ideal_form_shows_is_undecided_for_the_coalitions_that_see_it(tmp_path):
    options = {"owners": 3, "samples": 3, "batch": 1, "epochs": 1, "features": 2, "hidden": 2,
               "defence": ("secure-aggregation",), "dropout": "0.3"}  # fmt: skip
    found = Derivative(small_instance(small_experiment(find_scenario("mitig2"), options, tmp_path)))
    (left_out,) = found.finding(("data_owner:0", "data_owner:1")).left_out
    assert left_out.startswith("shares")
    assert not found.finding(("key_authority", "data_owner:0")).left_out
