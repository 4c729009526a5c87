"""The dashboard's page in Chromium: what it shows, live and by the keyboard, and what nobody gets it to do."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser, Tab

from edge_router import ScriptedEngine
from edge_router.chat.events import Usage
from edge_router.ledger import Ledger, Record
from edge_router.server.dashboard.dashboard import Dashboard
from edge_router.server.dashboard.data_routes import SavedSettings
from edge_router.system.paths import Paths
from edge_router.types import Decision, Reason, Timings

PRICED = {"strong.model": "big", "strong.price_in": 2.0, "strong.price_out": 8.0, "router.threshold": 0.35}
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>\u202e{{7*7}}'
LIVE = (
    "document.querySelector('#state')?.className === 'live' && document.querySelector('#cache dd') !== null && "
    "(document.querySelector('#reasons dd') !== null || !document.querySelector('#off').hidden)"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture
def tab(browser: Browser) -> Tab:
    return browser.tab()


class Page:
    """A server with a dashboard, and its page in a tab."""

    def __init__(self, serve: Callable[..., Any], tab: Tab, *, until: str = LIVE, **fields: Any) -> None:
        self.links, self.saved, self.tab = list[str](), list[Mapping[str, object]](), tab
        dashboard = Dashboard(save=self.save, renewed=self.links.append)
        config = {**PRICED, **fields.pop("config", {})}
        self.served = serve(dashboard=dashboard, ledger=fields.pop("ledger", True), config=config, **fields)
        self.links.append(dashboard.link(self.served.url))
        self.url = f"{self.served.url}/"
        tab.open(self.links[0])
        tab.until(until)

    def save(self, values: Mapping[str, object]) -> SavedSettings:
        self.saved.append(values)
        return SavedSettings(
            Path("/there/config.toml"), ("What was there before is in /there/config.toml.bak.",)
        )

    def ask(self, text: str, **headers: str) -> None:
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        request = urllib.request.Request(
            f"{self.url}v1/chat/completions",
            json.dumps(body).encode(),
            {
                "content-type": "application/json",
                **{name.replace("_", "-"): text for name, text in headers.items()},
            },
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            reply.read()

    def rows(self, count: int) -> list[str]:
        """The table's lines, once there are so many."""
        self.tab.until(f"document.querySelectorAll('#rows tr').length === {count}")
        return self.tab.js("[...document.querySelectorAll('#rows tr')].map((row) => row.innerText)")


@pytest.fixture
def page(serve: Callable[..., Any], tab: Tab) -> Callable[..., Page]:
    return lambda **fields: Page(serve, tab, **fields)


def traffic(paths: Paths, count: int, **changes: Any) -> None:
    """Scores from 0 to 1, of which those from 0.35 on went away."""
    ledger, now = Ledger(paths.ledger, store_prompts=True), time.time()
    for number in range(count):
        score = number / count
        decision = Decision("strong" if score >= 0.35 else "weak", Reason.SCORE, score, 0.35, "mf")
        model = "big" if score >= 0.35 else "small"
        fields = {"prompt": "what was asked", "time": now - count + number, **changes}
        ledger.record(
            Record(decision, fields.pop("model", model), Usage(100, 50), Timings(1.0, 50.0, 900.0), **fields)
        )
    ledger.close()


def test_each_decision_shows_as_it_is_made_and_the_token_does_not(page: Callable[..., Page]) -> None:
    one = page()
    assert one.tab.js("location.href") == one.url
    assert one.tab.js("document.cookie") == ""
    assert "Nothing was decided yet" in one.tab.text("#decisions")
    one.ask("an easy one")
    one.ask("a hard one")
    first, second = one.rows(2)
    assert "strong" in first and "score 0.875 reaches the threshold 0.350" in first and "big" in first
    assert "here" in second and "score 0.125 is below the threshold 0.350" in second and "small" in second
    assert "easy" not in one.tab.text("main")
    one.tab.until("document.querySelector('#totals').innerText.includes('50 %')")
    one.tab.open(one.url)  # the session stays
    one.tab.until(LIVE)
    assert len(one.rows(2)) == 2
    assert one.tab.complaints() == []


def test_a_pause_holds_new_lines_back_and_a_hidden_page_asks_nothing(page: Callable[..., Page]) -> None:
    one = page()
    one.tab.js("document.querySelector('#pause').click()")
    one.ask("easy")
    one.tab.until("document.querySelector('#totals').innerText.includes('100 %')")
    assert one.tab.js("document.querySelectorAll('#rows tr').length") == 0
    assert one.tab.js("document.querySelector('#pause').getAttribute('aria-pressed')") == "true"
    one.tab.js("document.querySelector('#pause').click()")
    one.rows(1)
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true}); "
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    one.tab.js(hide % "true" + tell)
    one.ask("easy")
    one.tab.js("new Promise((resolve) => setTimeout(resolve, 500))")
    one.rows(1)
    one.tab.js(hide % "false" + tell)
    one.rows(2)


def test_nothing_that_anybody_wrote_becomes_markup(page: Callable[..., Page], paths: Paths) -> None:
    traffic(paths, 3, model=EVIL, prompt=EVIL, error="StrongTimeout", cause="X", cause_message=EVIL)
    with_rule = Decision("weak", Reason.RULE, rule=EVIL, endpoint=EVIL, caller=EVIL, found=(EVIL,))
    Ledger(paths.ledger, store_prompts=True).record(Record(with_rule, EVIL, prompt=EVIL))
    one = page(
        weak=ScriptedEngine(model_id=EVIL, serves=()),
        config={
            "weak.model": EVIL,
            "strong.model": EVIL,
            "ledger.store_prompts": True,
            "weak.engine": "scripted",
        },
    )
    one.rows(4)
    one.ask(EVIL, x_edge_router_session="<b>" * 20, user_agent="<script>window.hacked=3</script>")
    assert EVIL in one.rows(5)[0]
    one.tab.js("document.querySelector('#prompt').focus()")
    one.tab.write(EVIL)
    one.tab.press("Enter", 13, control=True)
    one.tab.until("document.querySelector('#explained').innerText.includes('score')")
    assert one.tab.js("window.hacked") is None
    assert one.tab.js("document.querySelectorAll('main img, main script, main b, main a').length") == 0
    assert one.tab.js("document.querySelector('#rules').innerText").startswith("<img src=x")
    assert one.tab.complaints() == []
    # Nor would it, if somebody forgot: the page's own policy refuses what makes text to markup.
    for sink in (
        "document.body.innerHTML = '<b>x</b>'",
        "eval('1')",
        "document.head.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked = 4'}))",
        "document.body.setAttribute('onclick', 'window.hacked = 5'); document.body.click()",
    ):
        one.tab.js(f"try {{ {sink} }} catch (error) {{ error.message }}; 0")
    assert one.tab.js("window.hacked") is None and one.tab.js("document.querySelector('main') !== null")


def test_the_threshold_moves_by_key_and_mouse_and_is_saved_on_a_click_only(
    page: Callable[..., Page], paths: Paths
) -> None:
    traffic(paths, 200)
    one = page()
    slider = "document.querySelector('#at')"
    one.tab.until(f"!{slider}.disabled && document.querySelectorAll('#bars rect').length > 30")
    assert "65 % now 65 %" in one.tab.text("#would")
    assert one.tab.js("document.querySelector('#save').disabled")
    one.tab.js(f"{slider}.focus()")
    for _ in range(10):
        one.tab.press("ArrowRight", 39)
    assert one.tab.js(f"{slider}.value") == "0.4"
    assert one.tab.js(f"{slider}.getAttribute('aria-valuetext')") == (
        "0.400: 60 % would go to the strong model, for 0.0720"
    )
    told = one.tab.text("#would")
    assert "60 % now 65 %" in told and "0.0720 now 0.0780" in told and "0.400 now 0.350" in told
    one.tab.press("End", 35)
    assert "0 % now 65 %" in one.tab.text("#would")
    left, top, width, height = one.tab.js(
        f"{slider}.scrollIntoView({{block: 'center'}}), (({{x, y, width, height}}) => [x, y, width, height])"
        f"({slider}.getBoundingClientRect())"
    )
    at = [left + 9 + part * (width - 18) for part in (0.99, 0.6, 0.2)]
    one.tab.mouse("mousePressed", at[0], top + height / 2)
    one.tab.mouse("mouseMoved", at[1], top + height / 2)
    one.tab.mouse("mouseMoved", at[2], top + height / 2)
    one.tab.mouse("mouseReleased", at[2], top + height / 2)
    moved = float(one.tab.js(f"{slider}.value"))
    assert moved == pytest.approx(0.2, abs=0.02)
    assert one.saved == []
    one.tab.js("document.querySelector('#save').click()")
    one.tab.until("document.querySelector('#saved').innerText !== ''")
    assert one.saved == [{"router.threshold": moved}]
    assert one.tab.text("#saved") == (
        f"router.threshold = {moved:g} is written in /there/config.toml. It counts from the next start of the server. "
        "This server was started with a router.threshold, which counts before the file's. "
        "What was there before is in /there/config.toml.bak."
    )
    one.tab.js("document.querySelector('#reset').click()")
    assert "65 % now 65 %" in one.tab.text("#would")
    assert one.tab.complaints() == []


def test_what_a_ledger_cannot_tell_is_said_and_the_rest_is_shown(
    page: Callable[..., Page], paths: Paths
) -> None:
    one = page(ledger=False)
    one.tab.until("!document.querySelector('#off').hidden")
    assert "ledger.enabled is false" in one.tab.text("#off")
    assert not one.tab.js("document.querySelector('#threshold').checkVisibility()")
    one.ask("hard")
    assert "score 0.875 reaches" in one.rows(1)[0]
    paths.ledger.write_bytes(b"no ledger at all" * 100)
    other = page(until="!document.querySelector('#problem').hidden")
    assert "is damaged" in other.tab.text("#problem")
    other.tab.until("document.querySelectorAll('#memory dd').length > 0")
    assert "is damaged" in other.tab.text("#problem")


def test_a_prompt_is_explained(page: Callable[..., Page]) -> None:
    one = page()
    one.tab.js("document.querySelector('#prompt').focus()")
    one.tab.write("a hard one")
    one.tab.press("Enter", 13, control=True)
    one.tab.until("document.querySelector('#explained').innerText.includes('0.875')")
    assert "goes to the strong model score 0.875 reaches the threshold 0.350." in one.tab.text("#explained")
    one.tab.js("document.querySelector('#private').click()")
    one.tab.js("document.querySelector('#explain button').click()")
    one.tab.until("document.querySelector('#explained').innerText.includes('the question is private')")
    assert one.served.weak.calls == one.served.strong.calls == []


READABLE = """(() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (node) => { for (; node; node = node.parentElement) {
    const color = parts(getComputedStyle(node).backgroundColor); if (color[3] !== 0) return color; } return [255, 255, 255]; };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
    if (!own || node.disabled || !node.checkVisibility() || node.closest('.skip, .unseen, option')) continue;
    const [a, b] = [light(parts(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.push(node.tagName + ' ' + node.className + ' ' + node.textContent.slice(0, 30));
  }
  return found;
})()"""


def test_it_can_be_read_at_any_width_and_in_both_schemes(page: Callable[..., Page], paths: Paths) -> None:
    traffic(paths, 60, model="a-very-long-name-of-a-model/" * 4)
    one = page(config={"ledger.store_prompts": True})
    one.rows(60)
    for width in (360, 768, 1440):
        for dark in (False, True):
            one.tab.size(width, 900, dark=dark)
            assert one.tab.js("document.documentElement.scrollWidth") <= width, width
            assert one.tab.js(READABLE) == [], (width, dark)
    assert one.tab.js("getComputedStyle(document.querySelectorAll('#rows tr')[20]).display") == "none"
    one.tab.js("document.querySelector('#more').click()")
    assert one.tab.js("getComputedStyle(document.querySelectorAll('#rows tr')[20]).display") != "none"


def test_a_reader_of_the_screen_finds_names_for_all_that_can_be_used(
    page: Callable[..., Page], paths: Paths
) -> None:
    traffic(paths, 20)
    one = page()
    one.rows(20)
    one.tab.until("!document.querySelector('#at').disabled")
    for width in (1440, 360):
        one.tab.size(width, 900)
        nodes = one.tab.call("Accessibility.getFullAXTree")["nodes"]
        seen = [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        ]
        roles = [role for role, _ in seen]
        assert {"banner", "main", "table", "columnheader", "status", "slider", "image"} <= set(roles), width
        assert roles.count("row") == 13 and roles.count("region") >= 8  # those that are shown, and the head's
        nameless = [role for role, name in seen if not name and role in NAMED]
        assert nameless == [], width
    # In the order of the page, and each where it can be seen to be.
    one.tab.js("document.activeElement.blur()")
    order = []
    wanted = ["Skip to the decisions", "days", "at", "prompt", "Explain", "private", "more", "pause"]
    for _ in wanted:
        one.tab.press("Tab", 9)
        order.append(one.tab.js("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert one.tab.js("getComputedStyle(document.activeElement).outlineStyle") != "none", order
    assert order == wanted


NAMED = {"button", "checkbox", "columnheader", "combobox", "image", "region", "slider", "table", "textbox"}


def test_a_link_opens_one_browser_and_another_is_told_what_to_do(
    page: Callable[..., Page], browser: Browser
) -> None:
    one = page()
    other = browser.tab()
    other.open(one.links[0])
    other.until("document.querySelector('#closed-title') !== null")
    assert "edge-router dashboard prints a link" in other.text("main")
    other.open(one.links[-1])
    other.until(LIVE)
    same = browser.tab(beside=one.tab)
    same.open(one.url)
    same.until(LIVE)


@contextmanager
def elsewhere(script: str) -> Iterator[str]:
    """A page at another port of this machine, whose script puts what it found into its title."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(f"<body><script type=module>{script}</script>".encode())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def test_a_page_at_another_port_has_its_cookies_and_gets_nothing_by_them(
    page: Callable[..., Page], browser: Browser
) -> None:
    one = page()
    script = """
    const url = "URL", found = {};
    const tried = async (name, work) => { found[name] = await work().then(String, () => "refused"); };
    const body = JSON.stringify({threshold: 0.9}), post = {method: "POST", credentials: "include", body};
    await tried("read", async () => (await fetch(url + "dashboard/facts", {credentials: "include"})).text());
    await tried("blind", async () => (await fetch(url + "dashboard/facts", {credentials: "include", mode: "no-cors"})).type);
    await tried("plain", async () => (await fetch(url + "dashboard/threshold", {...post, mode: "no-cors"})).type);
    await tried("json", async () => (await fetch(url + "dashboard/threshold",
      {...post, headers: {"content-type": "application/json"}})).text());
    await tried("events", () => new Promise((yes, no) => {
      const source = new EventSource(url + "dashboard/events", {withCredentials: true});
      source.onopen = () => yes("open"); source.onerror = no; }));
    const frame = document.createElement("iframe");
    const framed = new Promise((resolve) => { frame.onload = resolve; });
    frame.src = url;
    document.body.append(frame);
    await framed;
    await tried("frame", async () => frame.contentDocument.title);
    document.title = JSON.stringify(found);
    """
    with elsewhere(script.replace("URL", one.url)) as url:
        other = browser.tab(beside=one.tab)
        other.open(url)
        found = json.loads(other.until("document.title.startsWith('{') && document.title"))
    assert {name for name, told in found.items() if told != "refused"} <= {
        "blind",
        "plain",
    }  # opaque: no word of it
    assert one.saved == []


def test_a_server_that_goes_is_missed(page: Callable[..., Page]) -> None:
    one = page()
    one.served.stop()
    one.tab.until("document.querySelector('#state').className === 'lost'")
    assert "away" in one.tab.text("#state")
