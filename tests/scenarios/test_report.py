"""The page of a run: what it says, that it holds nothing else, and how it behaves in a browser."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.page.answer import answer
from scenarios.page.page import page, write_report
from scenarios.page.timeline import MOMENTS, crossings, moments
from scenarios.run.folder import RunFolder, load_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def run(whole_runs):
    return whole_runs(hidden=64, attack=("stack", "lp"))[0]


@pytest.fixture
def copy(run, tmp_path):
    return RunFolder(shutil.copytree(run.path, tmp_path / "run"))


def row(**given):
    base = {"party": "cloud_trainer", "quantity": "samples", "of": "all 4 samples", "how": "exact",
            "since_round": 2, "detail": "", "data": {}}  # fmt: skip
    return {**base, **given}


def result(*rows, attacks=()):
    return {
        "learned": list(rows), "attacks": list(attacks), "seconds": {"setup": 1.0, "train": 2.0},
        "accuracy": {"test": 0.9, "baseline_test": None},
    }  # fmt: skip


def said_of(*rows):
    return answer(result(*rows)).partition(" It cost:")[0]


@pytest.mark.parametrize(("rows", "said"), [
    ([row()], "The cloud trainer can compute all 4 samples exactly, since step 2."),
    ([row(how="clear", since_round=0, quantity="x")],
     "The cloud trainer is sent all 4 samples in the clear, since step 0."),
    ([row(quantity="x", how="clear", of="data_owner:0"), row(party="data_owner:0", how="own")],
     "The cloud trainer is sent training samples of data_owner:0 in the clear, since step 2."),
    ([row(), row(party="key_authority", since_round=5)],
     "The cloud trainer can compute all 4 samples exactly, since step 2. "
     "The key authority can compute all 4 samples exactly, since step 5."),
    ([row(party="cloud_trainer, data_owner:0"), row(how="nothing found")],
     "The cloud trainer and data owner 0 together can compute all 4 samples exactly, since step 2."),
    ([row(party="key_authority", how="determined", of="others", since_round=None)],
     "The key authority determines training samples of others, as an audit of a small instance says."),
    ([row(party="key_authority, data_owner:0", how="bounded")],
     "The key authority and data owner 0 together narrow down all 4 samples, since step 2; "
     "no more was computed."),
    ([row(how="nothing found"), row(party="data_owner:0", how="own")],
     "Of training samples nothing was found in the view of the cloud trainer, "
     "by what the table says was tried."),
    ([row(how="not analysed"), row(how="nothing found", party="key_authority")],
     "Nobody said what the view of the cloud trainer tells of training samples."),
    ([row(how="own")], "Nobody said what becomes of training samples: see the table."),
    ([], "No ledger was made."),
    ([row(quantity="head", of="data_owner:0")],
     "The cloud trainer can compute the encrypted head of data_owner:0 exactly, since step 2."),
    ([row(how="bounded", detail="payloads of w1 not recorded")],
     "The cloud trainer narrows down all 4 samples, since step 2; no more was computed. "
     "Payloads were not all recorded, so more may follow."),
    ([row(), row(quantity="labels", how="clear"), row(quantity="master key")],
     "The cloud trainer can compute all 4 samples exactly, since step 2. "
     "Also read: labels by the cloud trainer; the master key by the cloud trainer."),
])  # fmt: skip
def test_the_answer_says_who_reads_what(rows, said):
    assert said_of(*rows) == said


SOME = "11 of 40 samples (positions not known)"


def part(start, stop, **given):
    return row(of=f"{stop - start} of 40 samples", data={"samples": [[start, stop]]}, **given)


@pytest.mark.parametrize(("rows", "said"), [
    ([part(0, 2), part(2, 40, since_round=9)], ["can compute all 40 samples exactly, since step 2"]),
    ([part(0, 1, how="clear"), row(of="all 40 samples")], ["can compute all 40 samples exactly"]),
    ([part(0, 2), row(of="all 40 samples", party="cloud_trainer, data_owner:0")],
     ["The cloud trainer can compute 2 of 40", "data owner 0 together can compute all 40 samples exactly"]),
    ([part(0, 2), row(of="all 40 samples", how="up to", party="key_authority")],
     ["The cloud trainer can compute 2 of 40", "The key authority determines all 40 samples, since"]),
    ([part(0, 2), row(of="all 40 samples", how="up to")],
     ["can compute 2 of 40", "The cloud trainer determines all 40 samples, since step 2, up to"]),
    ([row(of="8 samples of data_owner:0"), row(of="8 samples of data_owner:1")],
     ["8 samples of data_owner:0 and 8 samples of data_owner:1 exactly"]),
    ([part(0, 30, party="key_authority"), row(party="key_authority", of=SOME, data={"samples": []})],
     ["30 of 40 samples and 11 of 40 samples (positions not known, perhaps the same) exactly"]),
    ([row(of=SOME, data={"samples": []})],
     ["The cloud trainer can compute 11 of 40 samples (positions not known) exactly, since step 2."]),
    ([part(0, 30), row(quantity="messages", how="not analysed", of="all parties", since_round=None)],
     ["Messages after an owner was left out were not analysed, so more may follow."]),
])  # fmt: skip
def test_the_answer_never_says_less_than_the_lines(rows, said):
    content = result(*rows) | {"config": {"counts": [40]}}
    assert all(each in answer(content) for each in said), answer(content)


def test_an_owner_that_reads_everybody_else_reads_all_of_others():
    content = result(part(10, 40, party="data_owner:0")) | {"config": {"counts": [10, 30]}}
    assert "Data owner 0 can compute all 30 samples of others exactly, since step 2." in answer(content)


def test_the_answer_of_a_run_in_the_clear(runs):
    _, content = runs("plain")
    assert answer(content).startswith(
        "The cloud trainer is sent training samples of data_owner:0 in the clear"
    )


def test_the_answer_counts_what_attacks_rebuilt():
    attack = {"attack": "lp", "applicable": True, "samples": 4, "of": 4, "metrics": {"exact_images": 3}}
    assert "The attack lp rebuilt 3 of 4 exactly." in answer(result(row(), attacks=[attack]))
    none = {**attack, "metrics": {"mse": 0.1}}
    assert "No sample came out exactly by lp." in answer(result(row(), attacks=[none]))


def test_what_crossed_until_the_end_is_the_traffic_of_the_result(run):
    at = moments(run, ())
    crossed = crossings(run, at)
    found = {}
    for each in crossed:
        key = each.sender, each.receiver, each.label
        before = found.get(key, (0, 0))
        found[key] = before[0] + each.messages[-1], before[1] + each.nbytes[-1]
        assert each.messages == sorted(each.messages)
    assert found == {
        (e["sender"], e["receiver"], e["label"]): (e["messages"], e["bytes"]) for e in run.result["traffic"]
    }
    upload = next(each for each in crossed if each.phase == "upload")
    step = next(each for each in crossed if each.phase == "step")
    assert upload.messages[0] == upload.messages[-1] and step.messages[:3] == [0, 1, 2]


def test_moments_are_few_and_hold_the_steps_that_lines_name():
    class Long:
        transcripts = ()

        def moments(self):
            return [(k, 10 * k + 9) for k in range(5000)]

    at = moments(Long(), [7, 4321])
    steps = [moment.step for moment in at]
    assert {7, 4321, 0, 4999, -1} <= set(steps) and len(steps) <= MOMENTS + 3 and steps == sorted(steps)


def test_a_page_holds_everything_and_asks_for_nothing(run):
    text = page([run])
    assert not re.findall(r"(?:src|href)=", text) and "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text and len(text) < 1_000_000
    assert text.count("data:image/png;base64,") == 3 * sum(
        1 for each in run.result["attacks"] if "sprite" in each
    )
    assert run.result["transcript_digest"] in text and answer(run.result)[:40] in text
    for line in run.result["learned"]:
        assert f'data-party="{line["party"]}"' in text


def test_a_sprite_has_originals_above_and_what_was_rebuilt_below(run):
    (told,) = [each for each in run.result["attacks"] if each["attack"] == "stack"]
    sheet = np.asarray(Image.open(run.path / told["sprite"]["file"]))
    height, width, columns = (told["sprite"][name] for name in ("height", "width", "columns"))
    assert sheet.shape == (3 * height, columns * width, 4)
    images = sheet[:, :, 0].reshape(3, height, columns, width)[:, :-1, :, :-1].swapaxes(1, 2)
    truth = run.truth()
    assert np.abs(images[0].reshape(columns, -1) / 255 - truth.pixels(np.arange(columns))).max() < 0.003
    assert np.array_equal(images[0], images[2]) and not np.array_equal(images[0], images[1])


def test_strangers_text_is_text(copy):
    content = json.loads((copy.path / "result.json").read_text())
    content["learned"][0]["detail"] = "</script><script>alert(1)</script><img onerror=x>"
    content["learned"][0]["party"] = '"><b>'
    content["security"]["protocol"] = "<i>bold</i>"
    (copy.path / "result.json").write_text(json.dumps(content))
    text = page([load_run(copy.path)])
    assert "<script>alert" not in text and "<img" not in text and "<b>" not in text and "<i>bold" not in text


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "figures/../../secret.png", "config.json"])
def test_a_page_takes_in_pictures_of_its_own_figures_alone(copy, name):
    (copy.path.parent / "secret.png").write_bytes(b"secret")
    content = json.loads((copy.path / "result.json").read_text())
    content["attacks"][0]["sprite"]["file"] = name
    (copy.path / "result.json").write_text(json.dumps(content))
    before = page([RunFolder(copy.path)]).count("data:image")
    assert before == 3 * (sum(1 for each in content["attacks"] if "sprite" in each) - 1)


def test_a_link_among_figures_is_not_followed(copy):
    content = json.loads((copy.path / "result.json").read_text())
    path = copy.path / content["attacks"][0]["sprite"]["file"]
    path.unlink()
    path.symlink_to("/etc/hostname")
    assert page([RunFolder(copy.path)]).count("data:image") == 3


def test_a_linked_folder_of_figures_is_not_followed(copy):
    content = json.loads((copy.path / "result.json").read_text())
    elsewhere = copy.path.parent / "elsewhere"
    shutil.move(copy.path / "figures", elsewhere)
    (copy.path / "figures").symlink_to(elsewhere)
    assert any("sprite" in each for each in content["attacks"]) and "data:image" not in page(
        [RunFolder(copy.path)]
    )


def test_the_command_writes_one_page_of_several_runs(copy, tmp_path):
    out = tmp_path / "both.html"
    outcome = CliRunner().invoke(app, ["report", str(copy.path), str(copy.path), "--out", str(out)])
    assert outcome.exit_code == 0, outcome.output
    assert out.read_text().count('<section class="run"') == 2 and out.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_no_run_is_one_line(tmp_path):
    outcome = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert outcome.exit_code != 0 and len(outcome.output.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser, run, tmp_path):
    def at(**how):
        tab, told = browser.new_page(**how), []
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.on(
            "request", lambda request: told.append(request.url) if request.url.startswith("http") else None
        )
        tab.goto(f"file://{write_report(run, path=tmp_path / 'page.html')}")
        return tab, told

    return at


def test_slider_and_switch_move_everything(opened):
    tab, told = opened()
    step = tab.locator("g[data-number]", has_text="w1 ").first
    assert "not yet" not in step.text_content() and tab.locator("tr.later").count() == 0
    tab.locator("input[type=range]").fill("0")
    assert "not yet" in step.text_content() and "before step 0" in tab.locator("output").inner_text()
    shown = tab.locator("tr[data-party]:visible").count()
    tab.locator("select").select_option("key_authority")
    few = tab.locator("tr[data-party]:visible")
    assert 0 < few.count() < shown and all("key_authority" in text for text in few.all_inner_texts())
    assert tab.locator(".attack:visible").count() == 0 and tab.locator(".no-attack").is_visible()
    tab.locator("select").select_option("")
    assert tab.locator(".attack:visible").count() == 2
    assert told == []


@pytest.mark.parametrize("how", [
    {"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}},
], ids=str)  # fmt: skip
def test_the_page_is_accessible_and_fits(opened, how):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    tab, told = opened(**how)
    found = axe.Axe().run(tab).response["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
    width = how.get("viewport", {"width": 1280})["width"]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width and told == []
