"""Looks at the pages of a server as people do, in Debian's Chromium: wide and on a phone, light
and dark, by keyboard. Called by tests/tests/server_pages.rs with a plan as JSON on its standard
input; exits with the number of what is wrong, said in words. Pictures of every page are left in
the folder that the plan names."""

import json
import re
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

PLAN = json.load(sys.stdin)
FOLDER = Path(PLAN["screenshots"])
FOLDER.mkdir(parents=True, exist_ok=True)
WRONG = []

LOOKS = [
    ("wide-light", {"width": 1280, "height": 900}, "light"),
    ("wide-dark", {"width": 1280, "height": 900}, "dark"),
    ("phone-light", {"width": 390, "height": 844}, "light"),
    ("phone-dark", {"width": 390, "height": 844}, "dark"),
]


def check(holds, what):
    if not holds:
        WRONG.append(what)
        print("WRONG:", what, flush=True)


def watched(page, name):
    """Whatever a page complains of is wrong: scripts that fail, or that the policy forbids."""
    page.on("pageerror", lambda error: check(False, f"{name}: {error}"))

    def said(message):
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            check(False, f"{name}: the console says {message.text}")

    page.on("console", said)
    return page


def until(holds, what):
    """Waits without script in the page, which its policy forbids."""
    for _ in range(200):
        if holds():
            return
        time.sleep(0.1)
    raise TimeoutError(what)


def sign_in(page):
    page.goto(PLAN["url"] + "/login")
    page.get_by_label("Token").fill(PLAN["token"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(PLAN["url"] + "/")


def fits(page, name):
    """Nothing of a page is wider than the page, but what scrolls by itself."""
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    check(over <= 0, f"{name}: the page is {over} pixels too wide")


def readable(page, name):
    """What a screen reader needs: one heading of the first level, landmarks, names."""
    check(page.locator("h1").count() == 1, f"{name}: {page.locator('h1').count()} h1")
    check(page.locator("main").count() == 1, f"{name}: no main")
    check(page.locator("html[lang]").count() == 1, f"{name}: no language")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input,select,textarea')]
            .filter((field) => !field.labels.length && !field.getAttribute('aria-label'))
            .map((field) => field.name)"""
    )
    check(not nameless, f"{name}: fields without a label: {nameless}")
    alts = page.evaluate("() => [...document.querySelectorAll('img:not([hidden])')].filter((i) => !i.alt).length")
    check(alts == 0, f"{name}: {alts} pictures without words")
    links = page.evaluate(
        """() => [...document.querySelectorAll('a,button')]
            .filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.querySelector('img[alt]')))
            .length"""
    )
    check(links == 0, f"{name}: {links} links or buttons without a name")


CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    const part = (v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
    return [0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b), a];
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const [l, a] = light(getComputedStyle(at).backgroundColor);
      if (a === 1) return l;
    }
    return 1;
  };
  const low = [];
  for (const one of document.querySelectorAll('p,a,td,th,dt,dd,h1,h2,h3,span,label,button,small,code')) {
    const own = [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !one.getClientRects().length || one.closest('svg,.skip')) continue;
    const [a, b] = [light(getComputedStyle(one).color)[0], ground(one)];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) low.push(one.textContent.trim().slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  return low.slice(0, 5);
}"""


def look_at(page, path, name, look):
    watched(page, name)
    answer = page.goto(PLAN["url"] + path, wait_until="load")
    check(answer.status == 200, f"{name}: {path} answers {answer.status}")
    page.wait_for_timeout(400)
    fits(page, f"{name} {look}")
    readable(page, name)
    low = page.evaluate(CONTRAST)
    check(not low, f"{name} {look}: little contrast: {low}")
    # Pictures come when they are looked at.
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(300)
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=FOLDER / f"{name}-{look}.png", full_page=True)


def by_keyboard(page):
    """The first stop skips to the content; every page's own links are reached by Tab."""
    page.goto(PLAN["url"] + "/")
    page.keyboard.press("Tab")
    check(page.evaluate("document.activeElement.className") == "skip", "the first Tab is no way to the content")
    page.keyboard.press("Enter")
    check(page.evaluate("document.activeElement.id") == "main", "the content is not reached by the first link")
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.getAttribute('href') || document.activeElement.id"))
    check(any(str(one).startswith("/run/") for one in seen), f"no run is reached by Tab: {seen}")
    page.goto(PLAN["url"] + f"/run/{PLAN['small']}")
    boxes = page.locator(".graph a:visible")
    check(boxes.count() == 4, f"the graph of four steps has {boxes.count()} boxes that are links")
    boxes.first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/step\\?"))


def live(page):
    """A run that goes on is shown as it stands, and its log follows, without loading anew."""
    watched(page, "live")
    page.goto(PLAN["url"] + f"/run/{PLAN['live']}")
    page.locator("#about .pill.Running").wait_for(timeout=20_000)
    (Path(PLAN["folder"]) / "go").write_text("")
    page.locator("#about .pill.Completed").wait_for(timeout=20_000)
    check(page.locator("main[data-events]").count() == 1, "the page was loaded anew")


def follows(page):
    watched(page, "log")
    page.goto(PLAN["url"] + f"/run/{PLAN['logged']}/logs?step=talk")
    log = page.locator("pre.log")
    until(lambda: "line 1" in log.inner_text(), "the first line")
    before = log.inner_text()
    check("the end" not in before, "the log was whole before it could be")
    page.screenshot(path=FOLDER / "log-follows.png")
    (Path(PLAN["folder"]) / "end").write_text("")
    until(lambda: "the end" in log.inner_text(), "the last line")
    until(lambda: "all of it" in page.locator("#log-state").inner_text(), "the log's end")


def forms(page):
    """An endpoint's form: what is wrong is said, what is right becomes a run."""
    watched(page, "form")
    page.goto(PLAN["url"] + "/endpoints/greet")
    check(page.get_by_label("times").get_attribute("type") == "number", "a number has no field for numbers")
    page.get_by_label("who").fill("<b>Kathi</b>")
    page.get_by_label("times").fill("2")
    page.get_by_role("button", name="Invoke").click()
    page.wait_for_url(re.compile("/run/greet-"))
    page.locator("#about .pill.Completed").wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    check("<b>Kathi</b>" in page.locator("main").inner_text(), "what was given is not shown as text")
    check(page.locator("main b").count() == 0, "what was given became a part of the page")
    page.goto(PLAN["url"] + "/schedules/daily")
    check(page.locator("ol li").count() == 5, "not five ticks")
    page.get_by_role("button", name="Disable").click()
    page.get_by_text("Next ticks, if it were enabled").wait_for()
    page.get_by_role("button", name="Enable").click()


def late(page):
    """A run that ends before its page can follow it is shown as it ended all the same."""
    watched(page, "late")

    def hold(route):
        time.sleep(4)
        route.continue_()

    page.route("**/run/greet-*/events", hold)
    page.goto(PLAN["url"] + "/endpoints/greet")
    page.get_by_role("button", name="Invoke").click()
    page.wait_for_url(re.compile("/run/greet-"))
    page.locator("#about .pill.Completed").wait_for(timeout=60_000)


def inert(page):
    """No picture, name or log runs script in this origin."""
    page.goto(PLAN["url"] + f"/run/{PLAN['evil']}")
    page.wait_for_timeout(500)
    check(page.evaluate("window.pwned") is None, "script of a step ran")
    answer = page.request.get(PLAN["url"] + f"/run/{PLAN['evil']}/file?step=evil&output=made&path=evil.png&show=true")
    check(answer.status == 404, f"a page that is called a picture is answered {answer.status}")
    answer = page.request.get(PLAN["url"] + f"/run/{PLAN['evil']}/file?step=evil&output=made&path=evil.html")
    kind = answer.headers["content-type"]
    check(kind == "application/octet-stream", f"a page of a step is answered as {kind}")


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=PLAN["chromium"], args=["--no-sandbox"])
    for look, viewport, scheme in LOOKS:
        context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce", device_scale_factor=1)
        page = context.new_page()
        sign_in(page)
        for name, path in PLAN["pages"]:
            # A page of its own, so that complaints have one.
            one = context.new_page()
            look_at(one, path, name, look)
            one.close()
        context.close()
    context = browser.new_context(viewport={"width": 390, "height": 844})
    look_at(context.new_page(), "/login", "login", "phone-light")
    context.close()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    sign_in(page)
    for trial in (by_keyboard, live, follows, forms, late, inert):
        one = context.new_page()
        try:
            trial(one)
        except Exception as error:  # noqa: BLE001 - the other trials are tried all the same
            check(False, f"{trial.__name__}: {error}")
        one.close()
    page.goto(PLAN["url"] + "/")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(re.compile("/login"))
    page.goto(PLAN["url"] + "/")
    check(page.url.endswith("/login"), "signed out, it still shows runs")
    # Without its script everything is there all the same.
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page)
    page.goto(PLAN["url"] + f"/run/{PLAN['small']}")
    check(page.locator("text=Completed").count() > 0, "without script a run does not say how it stands")
    browser.close()

print(f"{len(WRONG)} wrong")
sys.exit(min(len(WRONG), 100))
