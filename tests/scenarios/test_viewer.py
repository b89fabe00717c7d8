"""The pages of `keyhole view`: what they show, who may open them, what they cost, and how they behave in a
browser.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from protocols.language.errors import DataError
from protocols.language.message import encode
from scenarios.cli import app
from scenarios.run.catalogue import SCENARIOS
from scenarios.run.folder import RunFolder, load_run
from scenarios.viewer.entries import Entries, Place, Wanted
from scenarios.viewer.follow import Follower, Secret, follow
from scenarios.viewer.pages import Pages
from scenarios.viewer.server import HEADERS, Viewer
from scenarios.viewer.values import shown
from tests.conftest import TINY

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
KEYHOLE = [sys.executable, "-m", "scenarios"]
SCRIPT = '<script>document.title = "owned"</script>'


@pytest.fixture(scope="module")
def run(whole_runs):
    return whole_runs(hidden=16)[0]


@pytest.fixture
def copy(run, tmp_path):
    return RunFolder(shutil.copytree(run.path, tmp_path / "run"))


@contextmanager
def served(run):
    viewer = Viewer(partial(Pages, run))
    thread = threading.Thread(target=viewer.serve)
    thread.start()
    try:
        yield viewer
    finally:
        viewer.stop()
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def viewer(run):
    with served(run) as found:
        yield found


def asked(viewer, path, host=None, method="GET"):
    """(status, headers, text) of a request of a path as it is, with a `Host` as given."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    for name in [f"127.0.0.1:{viewer.port}"] if host is None else host:
        connection.putheader("Host", name)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), text


def got(viewer, path=""):
    """The text of a page."""
    status, _, text = asked(viewer, urlsplit(viewer.url).path + path)
    assert status == 200, text
    return text


def entries_of(run, **wanted):
    return Entries(run).page(Wanted(**wanted), most=1000).entries


def changed(run, name, statement, *args):
    with sqlite3.connect(run.path / "transcripts" / f"{name}.sqlite") as database:
        database.execute(statement, args)


# Who may open it.


@pytest.mark.parametrize("path", [
    "/", "/x/", "//", "/{wrong}/", "/{token}", "/{token}x/", "/{short}/", "/%2e%2e/{token}/", "/%C3%A9/",
])  # fmt: skip
def test_without_the_token_every_address_is_answered_alike(viewer, path):
    token = urlsplit(viewer.url).path.strip("/")
    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
    path = path.format(wrong=wrong, token=token, short=token[:-1])
    status, headers, text = asked(viewer, path)
    assert (status, text) == (404, "Not found") and headers["content-security-policy"].startswith(
        "default-src 'none'"
    )


def test_the_token_is_new_each_time_and_long(run):
    tokens = {urlsplit(Viewer(partial(Pages, run)).url).path.strip("/") for _ in range(3)}
    assert len(tokens) == 3 and all(len(token) == 32 for token in tokens)


@pytest.mark.parametrize("host", [
    ["evil.example"], ["evil.example:{port}"], [], ["127.0.0.1"], ["127.0.0.1:1"], ["127.0.0.1:{port}"] * 2,
    ["127.0.0.1:{port}.evil.example"], [""],
])  # fmt: skip
def test_another_host_opens_nothing(viewer, host):
    host = [name.format(port=viewer.port) for name in host]
    status, _, text = asked(viewer, urlsplit(viewer.url).path, host)
    assert status in (400, 404) and "digits" not in text


def test_localhost_is_this_host(viewer):
    assert asked(viewer, urlsplit(viewer.url).path, [f"localhost:{viewer.port}"])[0] == 200


def test_it_listens_on_the_loopback_interface_alone(viewer):
    listening = [each.laddr.ip for each in psutil.Process().net_connections("tcp")
                 if each.status == psutil.CONN_LISTEN and each.laddr.port == viewer.port]  # fmt: skip
    assert listening == ["127.0.0.1"]


@pytest.mark.parametrize("path", [
    "../config.json", "config.json", "..%2fconfig.json", "%2e%2e/%2e%2e/etc/passwd",
    "transcripts/cloud_trainer.sqlite", "entry/0/../../config.json", "entry/..%2f..%2f/1", "entry/-1/1",
    "entry/0/99999999999999999999999", "style.css/..", "/etc/passwd", "entry/99/1",
    "entry/0/0", "state/data_owner:0", "result.json", "base.html.j2", "server.py",
])  # fmt: skip
def test_no_file_is_handed_out(viewer, path):
    status, _, text = asked(viewer, urlsplit(viewer.url).path + path)
    assert status == 404 and "root:" not in text and '"scenario"' not in text and "SQLite" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(viewer, method):
    assert asked(viewer, urlsplit(viewer.url).path, method=method)[0] == 405


def test_every_answer_forbids_scripts_frames_and_referrers(viewer):
    for path in ("", "figure", "follow", "style.css", "nowhere"):
        _, headers, text = asked(viewer, urlsplit(viewer.url).path + path)
        assert {name: headers[name] for name in HEADERS} == HEADERS
        assert "script-src" not in headers["content-security-policy"] and "<script" not in text
        assert "style=" not in text


def test_strangers_text_is_text(copy):
    first = entries_of(copy, kind="messages")[0].row
    name = first.sender.partition(":")[0]
    changed(copy, name, "UPDATE rows SET label = ?, phase = ? WHERE id = ?", SCRIPT, '"><i>', first.id)
    said = json.loads((copy.path / "result.json").read_text())
    said["security"]["scheme"] = f"{SCRIPT}: x"
    (copy.path / "result.json").write_text(json.dumps(said))
    with served(load_run(copy.path)) as viewer:
        place = next(e for e in entries_of(copy, label=SCRIPT)).place
        pages = [got(viewer, path) for path in (
            "", "figure", f"entry/{place.file}/{place.id}", "?label=%3Cscript%3E&first=%3Cscript%3E",
            "?of=%3Cscript%3E&input=%3Cb%3E&index=1", "follow?of=%3Cscript%3E&input=%3Cb%3E&index=1",
        )]  # fmt: skip
    assert all("<script" not in text and '"><i>' not in text for text in pages)
    assert "&lt;script&gt;document" in pages[0] and "&lt;script&gt;document" in pages[2]


def test_a_damaged_transcript_is_a_line(copy):
    path = copy.path / "transcripts" / "cloud_trainer.sqlite"
    changed(copy, "cloud_trainer", "UPDATE rows SET shape = 'x' WHERE kind = 'sent'")
    with served(load_run(copy.path)) as viewer:
        status, _, text = asked(viewer, urlsplit(viewer.url).path)
        assert status == 404 and "damaged" in text and str(path.parent) not in text.replace(str(path), "")


# What they show.


def test_pages_of_entries_hold_each_entry_once_in_order_forwards_and_backwards(run):
    entries = Entries(run)
    whole = entries.page(Wanted(kind="all"), most=10_000).entries
    for back in (False, True):
        found, start = [], None
        while True:
            page = entries.page(Wanted(kind="all"), start, back, most=7)
            found = page.entries + found if back else found + page.entries
            if not (page.before if back else page.after):
                break
            start = page.entries[0 if back else -1].place
        assert found == whole and page.total == len(whole)
    assert [e.place for e in whole] == sorted(e.place for e in whole)
    sent = [e.row.seq for e in whole if e.row.kind.value in ("sent", "output")]
    with_view = [
        row.seq
        for party in run.sources
        for row in run.view(party).rows()
        if row.kind.value in ("sent", "output")
    ]
    assert sent == sorted(with_view)


FILTERS = {
    "party": (dict(party="cloud_trainer"), lambda row: row.party == "cloud_trainer"),
    "role": (dict(party="data_owner"), lambda row: row.party.startswith("data_owner:")),
    "phase": (dict(phase="step"), lambda row: row.phase == "step"),
    "label": (dict(label="w1"), lambda row: row.label == "w1"),
    "rounds": (dict(first=1, last=1), lambda row: row.round == 1),
    "inputs": (dict(kind="input"), lambda row: row.kind.value == "input"),
    "numbers": (dict(seqs=(9, 11)), lambda row: row.seq in (9, 11)),
    "several": (dict(party="key_authority", label="w1", first=1),
                lambda row: (row.party, row.label, row.round > 0) == ("key_authority", "w1", True)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_shows_what_fits_and_all_of_it(run, name):
    wanted, fits = FILTERS[name]
    found = entries_of(run, **wanted)
    every = [
        e for e in entries_of(run, kind="all", party=wanted.get("party", "")) if e.row.kind.value != "public"
    ]
    assert found == [e for e in every if fits(e.row)] and found


@pytest.mark.parametrize("text", ["", "1", "1.2", "1.2.x", "1.2.3.4", "-2.0.0", "1.-1.0", f"{1 << 70}.0.0"])
def test_a_place_that_is_none_is_none(text):
    assert Place.of(text) is None


def test_the_first_page_lists_links_and_filters(viewer, run):
    text = got(viewer, "?phase=step&party=cloud_trainer")
    rows = entries_of(run, phase="step", party="cloud_trainer")
    assert text.count("<tr><td>") == min(50, len(rows)) and f"{len(rows)} entries" in text
    assert "<option selected>step</option>" in text
    entry = rows[0]
    assert f"/entry/{entry.place.file}/{entry.place.id}" in text


def test_a_number_that_is_none_is_said(viewer):
    assert "the first round is a whole number" in got(viewer, "?first=x")


def test_images_are_drawn_and_numbers_are_there(viewer, run):
    (images,) = [e for e in entries_of(run, kind="input") if e.row.label == "images"]
    text = got(viewer, f"entry/{images.place.file}/{images.place.id}")
    assert "the first 40 of 48 rows drawn as 8 × 8 pixels" in text and "data:image/png;base64," in text
    assert images.row.sha256.hex() in text and "Follow it through the run" in text


def test_a_ciphertext_is_a_size_and_a_digest(viewer, run):
    (ct,) = entries_of(run, label="ct")
    text = got(viewer, f"entry/{ct.place.file}/{ct.place.id}")
    value = Entries(run).value(ct)
    assert "record LweCiphertext" in text and "data:image/png" not in text
    largest = max((np.asarray(each) for each in vars(value).values()), key=lambda array: array.nbytes)
    assert hashlib.sha256(largest.tobytes()).hexdigest()[:16] in text


def test_a_function_key_shows_the_weights_in_it(run):
    value = Entries(run).value(entries_of(run, label="sk_w1")[0])
    (weights,) = [part for part in shown(value, (8, 8)).parts if part.name == "y"]
    assert weights.picture is not None and "16 rows drawn as 8 × 8 pixels" in weights.picture.said


@pytest.mark.parametrize(("value", "said"), [
    (3, "3"), (1.5, "1.5"), (None, "None"), (True, "True"), (np.float32(0.25), "0.25"), (np.array(7), "7"),
    ("text", "text"), (b"\x01\x02", "2 B: 0102"), (1 << 300, "(301 bits)"), ("a" * 999, "(999 characters)"),
    ([1, 2], "list of 2 parts"), (np.zeros((0, 3)), "empty"), ([[[[[[1]]]]]], "list of 1 part"),
])  # fmt: skip
def test_a_value_is_said(value, said):
    assert said in shown(value).said


def test_numbers_that_are_none_and_long_lists_are_said():
    found = shown(np.array([[1.0, np.nan], [np.inf, -1.0]]))
    assert "2 not finite" in found.facts and "gray: none" in found.picture.said
    assert shown(list(range(100))).more == "and 88 more" and len(shown(list(range(100))).parts) == 12
    assert "256 × 256 are drawn" in shown(np.ones((500, 600))).picture.said


def test_a_payload_that_was_not_kept_is_said_to_be(whole_runs):
    run = whole_runs(hidden=16, record="headers")[0]
    with served(run) as viewer:
        (ct,) = entries_of(run, label="ct")
        text = got(viewer, f"entry/{ct.place.file}/{ct.place.id}")
        assert "was not kept" in text and ct.row.sha256.hex() in text


def test_an_altered_payload_is_said_to_be(copy):
    (ct,) = entries_of(copy, label="ct")
    changed(
        copy,
        "data_owner",
        "UPDATE payloads SET data = ? WHERE sha256 = ?",
        bytes(ct.row.nbytes),
        ct.row.sha256,
    )
    with served(load_run(copy.path)) as viewer:
        assert "payload altered" in got(viewer, f"entry/{ct.place.file}/{ct.place.id}")


def test_the_figure_counts_what_crossed(viewer, run):
    found = {}
    for each in Entries(run).crossings():
        key = each.sender, each.receiver, each.label
        before = found.get(key, (0, 0))
        found[key] = before[0] + each.messages[0], before[1] + each.nbytes[0]
    assert found == {
        (e["sender"], e["receiver"], e["label"]): (e["messages"], e["bytes"]) for e in run.result["traffic"]
    }
    assert got(viewer, "figure").count('class="arrow"') == len(Entries(run).crossings())


def test_a_run_that_is_not_finished_says_so_and_can_be_read(copy):
    for name in ("result.json", "manifest.json"):
        (copy.path / name).unlink()
    said = json.loads((copy.path / "status.json").read_text())
    (copy.path / "status.json").write_text(json.dumps({**said, "state": "interrupted"}))
    with served(load_run(copy.path)) as viewer:
        text = got(viewer)
    assert "incomplete: interrupted; last message" in text and text.count("<tr><td>") > 10


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_entry_of_every_protocol_opens(whole_runs, scenario):
    run, _ = whole_runs(scenario, **(TINY if scenario == "mitig1" else {}))
    pages = Pages(run, "/t")
    for entry in entries_of(run, kind="all"):
        text = pages.entry(entry.place.file, entry.place.id, {})
        assert entry.row.label in text and 'class="warn"' not in text
    assert pages.figure().count('class="arrow"') > 0


def test_a_prediction_can_be_looked_into(run, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "run")
    outcome = CliRunner().invoke(app, ["predict", str(copy), "--runtime", "inline", "--samples", "8"])
    assert outcome.exit_code == 0, outcome.output
    pages = Pages(load_run(copy / "predictions" / "0"), "/t")
    text = pages.entries({})
    assert 'class="warn"' not in text and text.count("<tr><td>") > 3


# What a sample influences.


def test_following_finds_what_changes_and_nothing_before_it(run):
    found = follow(run, Secret("data_owner:0", "images", 3))
    lines = {line.label: line for line in found.lines}
    assert {"ct", "dz1", "dw1"} <= set(lines) and "mpk" not in lines and "labels" not in lines
    first = next(e.row for e in entries_of(run, label="w1"))
    assert first.seq not in found.seqs and lines["w1"].depends == lines["w1"].of - 1
    assert lines["ct"].changes == ["content"] and found.of == len(entries_of(run, kind="messages"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_sample_of_every_protocol_can_be_followed(whole_runs, scenario):
    run, _ = whole_runs(scenario, **(TINY if scenario == "mitig1" else {}))
    (images, *_) = [e.row for e in entries_of(run, kind="input") if e.row.label == "images"]
    found = follow(run, Secret(images.party, "images", 0))
    assert 0 < len(found.seqs) <= found.of and not found.failed and "other numbers" not in found.how


def test_a_label_changes_other_messages_than_an_image(run):
    lines = {line.label for line in follow(run, Secret("data_owner:0", "labels", 3)).lines}
    assert "labels" in lines and "ct" not in lines


@pytest.mark.parametrize(("secret", "said"), [
    (Secret("data_owner:0", "images", 999), "rows 0 to 47"),
    (Secret("data_owner:0", "secrets", 0), "no input"),
    (Secret("nobody", "images", 0), "no party"),
])  # fmt: skip
def test_what_cannot_be_followed_is_said(run, secret, said):
    follower = Follower(run)
    try:
        found = follower.ask(secret, 60)
    finally:
        follower.close()
    assert isinstance(found, str) and said in found


def test_of_a_run_that_is_too_large_a_small_instance_is_asked(run, monkeypatch):
    monkeypatch.setattr("scenarios.viewer.follow._MESSAGES", 3)
    found = follow(run, Secret("data_owner:0", "images", 3))
    assert found.seqs is None and "a small instance of the same protocol" in found.how
    labels = {line.label for line in found.lines}
    assert labels == {"ct", "w1", "sk_w1", "dz1", "dw1"}


def test_a_small_instance_replaces_inputs_of_owners_alone(whole_runs, monkeypatch):
    run, _ = whole_runs("reverse_he")
    (asked,) = [e.row for e in entries_of(run, kind="input", party="querier") if e.row.label == "images"]
    monkeypatch.setattr("scenarios.viewer.follow._MESSAGES", 3)
    with pytest.raises(DataError, match="nothing but images and labels of a data owner"):
        follow(run, Secret(asked.party, asked.label, 0))


def test_following_on_the_page_leads_to_the_messages(viewer, run):
    text = got(viewer, "follow?of=data_owner:0&input=images&index=3")
    found = follow(run, Secret("data_owner:0", "images", 3))
    assert f"{len(found.seqs)} of {found.of} messages depend on it" in text and "need not reveal it" in text
    listed = got(viewer, "?of=data_owner%3A0&input=images&index=3&kind=messages")
    assert f"{len(found.seqs)} entries" in listed and "Only messages that depend on row 3" in listed


# What they cost.


def grown(copy, rows=0, payloads=0, largest=0):
    """A run with so many more messages of the cloud's, so many payloads of 4 MB, and one of so many bytes."""
    with sqlite3.connect(copy.path / "transcripts" / "cloud_trainer.sqlite") as database:
        (last,) = database.execute("SELECT MAX(id) FROM rows").fetchone()
        row = "INSERT INTO rows VALUES (?, 'cloud_trainer', 'sent', ?, 'step', ?, 'cloud_trainer', " \
              "'key_authority', 'w1', 'int64', '[4, 8]', 1024, ?)"  # fmt: skip
        database.executemany(row, ((last + i, 10_000 + i, i, bytes(32)) for i in range(1, rows + 1)))
        rng = np.random.default_rng(0)
        for i in range(payloads + 1):
            frame = encode(rng.integers(0, 1 << 62, 1 << 19) if i < payloads else np.zeros(largest, np.uint8))
            sha = hashlib.sha256(frame.data).digest()
            database.execute("INSERT INTO payloads (sha256, data) VALUES (?, ?)", (sha, frame.data))
            shape = (last + rows + i + 1, 900_000 + i, i, frame.nbytes, sha)
            big = row.replace("'w1'", "'big'").replace("1024", "?")
            big = (big.replace("[4, 8]", "[524288]") if i < payloads else
                   big.replace("[4, 8]", f"[{largest}]").replace("int64", "uint8"))  # fmt: skip
            database.execute(big, shape)
    return RunFolder(copy.path)


PROBE = """
import json, re, sys, time
from pathlib import Path
from scenarios.run.folder import load_run
from scenarios.viewer.entries import Wanted
from scenarios.viewer.pages import Pages
pages = Pages(load_run(sys.argv[1]), "/t")
def most():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = most()
began = time.perf_counter()
first = pages.entries({})
first_seconds = time.perf_counter() - began
pages.entries({"back": "1"}), pages.entries({"label": "w1", "first": "100"}), pages.figure()
lists = most()
last = pages._entries.page(Wanted(label="big"), back=True, most=1).entries[0].place
assert "most 0" in pages.entry(last.file, last.id, {})
print(json.dumps([first_seconds, lists - before, most()]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_pages_of_a_large_transcript_are_quick_and_read_no_payloads(copy):
    grown(copy, rows=200_000, payloads=40, largest=60 << 20)
    command = [sys.executable, "-c", PROBE, copy.path]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    seconds, more, most = json.loads(told.stdout)
    assert seconds < 2 and more < 80 and most < 500, told.stdout  # 220 MB of payloads, 200 000 rows


def test_the_command_prints_the_address_and_ends_quietly(run):
    command = [*KEYHOLE, "view", str(run.path), "--no-browser"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", url)
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        connection.request("GET", parts.path)  # and left open: a browser does
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")


def test_a_port_that_is_taken_and_a_folder_that_is_none_are_a_line(run, tmp_path, viewer):
    for more, said in (
        ([str(run.path), "--port", str(viewer.port)], "give another --port"),
        ([str(tmp_path)], "not a run folder"),
    ):
        command = [*KEYHOLE, "view", "--no-browser", *more]
        found = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
        assert found.returncode == 1 and said in found.stderr and len(found.stderr.splitlines()) == 1


def test_help_does_not_import_the_server():
    code = "import sys, scenarios.cli; print({'starlette', 'uvicorn', 'pyarrow', 'jinja2'} & {*sys.modules})"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert found.stdout.strip() == "set()"


# In a browser.


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
def opened(browser, viewer):
    tabs = []

    def at(path="", **how):
        tab, told = browser.new_page(**how), []
        tabs.append(tab)
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        ours = viewer.url, "data:"
        tab.on("request", lambda each: None if each.url.startswith(ours) else told.append(each.url))
        tab.goto(viewer.url + path)
        return tab, told

    yield at
    for tab in tabs:
        tab.close()


def test_filtering_opening_and_following_by_keyboard(opened):
    tab, told = opened()
    whole = tab.locator("tbody tr").count()
    tab.locator("select[name=label]").select_option("dw1")
    tab.get_by_role("button", name="Show").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_url("**label=dw1**")
    labels = tab.locator("tbody td.label").all_inner_texts()
    assert set(labels) == {"dw1"} and 0 < len(labels) < whole
    tab.locator("tbody a").first.click()
    tab.wait_for_url("**/entry/**")
    assert tab.locator("img").evaluate("image => image.complete && image.naturalWidth > 0")
    assert tab.get_by_role("heading", level=1).inner_text().startswith("dw1, message")
    tab.get_by_role("link", name="Follow a sample").click()
    tab.locator("input[name=index]").first.fill("2")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**index=2**")
    assert "messages depend on it" in tab.locator(".answer").inner_text()
    tab.get_by_role("link", name="All messages that depend on it").click()
    assert tab.get_by_text("Only messages that depend on row 2").is_visible() and told == []


def test_a_wrong_row_is_announced(opened):
    tab, told = opened("follow?of=data_owner:0&input=images&index=999")
    assert "rows 0 to 47" in tab.get_by_role("alert").inner_text() and told == []


PLACES = (
    "",
    "figure",
    "follow?of=data_owner:0&input=labels&index=1",
    "entry/1/3",
    "entry/0/12",
    "?label=none",
)
WAYS = (
    {"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}},
    {"viewport": {"width": 640, "height": 450}, "device_scale_factor": 2},
)  # fmt: skip


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_the_pages_are_accessible_and_fit(opened, how):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    tab, told = opened(**how, bypass_csp=True)  # axe is a script that is put into the page
    for path in PLACES:
        tab.goto(
            urlsplit(tab.url)
            ._replace(path=re.match(r"/[\w-]+/", urlsplit(tab.url).path)[0], query="")
            .geturl()
            + path
        )
        found = axe.Axe().run(tab).response["violations"]
        assert [(path, e["id"]) for e in found if e["impact"] in ("serious", "critical")] == []
        width = how.get("viewport", {"width": 1280})["width"]
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, path
    assert told == []


def test_a_script_in_a_label_does_not_run(browser, copy):
    first = entries_of(copy, kind="messages")[0].row
    changed(copy, first.sender.partition(":")[0], "UPDATE rows SET label = ? WHERE id = ?", SCRIPT, first.id)
    with served(load_run(copy.path)) as viewer:
        tab = browser.new_page()
        tab.goto(viewer.url)
        assert tab.get_by_text(SCRIPT).count() > 0 and "owned" not in tab.title()
        tab.close()


def test_the_first_page_in_a_browser_is_there_at_once(opened):
    began = time.perf_counter()
    tab, told = opened()
    assert tab.locator("tbody tr").count() > 0 and time.perf_counter() - began < 5 and told == []
