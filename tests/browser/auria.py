"""Auria's page as a visitor sees it: without a token, in Debian's Chromium. Called with a plan as
JSON on its standard input; exits with the number of what is wrong, said in words. A visitor picks
a mood, gives a word, and watches the work come to be; pictures of that are left in the folder
that the plan names."""

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


def check(holds, what):
    if not holds:
        WRONG.append(what)
        print("WRONG:", what, flush=True)


def watched(page, name):
    page.on("pageerror", lambda error: check(False, f"{name}: {error}"))

    def said(message):
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            check(False, f"{name}: the console says {message.text}")

    page.on("console", said)
    return page


def until(holds, what, seconds=120):
    for _ in range(seconds * 10):
        if holds():
            return
        time.sleep(0.1)
    raise TimeoutError(what)


def fits(page, name):
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    check(over <= 0, f"{name}: the page is {over} pixels too wide")


def shot(page, name, whole=True):
    page.wait_for_timeout(300)
    page.screenshot(path=FOLDER / f"auria-{name}.png", full_page=whole)


def pictures(page):
    """Waits until every picture that is shown is there."""
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    missing = lambda: page.evaluate(
        """() => [...document.querySelectorAll('img:not([hidden])')]
            .filter((one) => one.src && !(one.complete && one.naturalWidth)).map((one) => one.src)"""
    )
    try:
        until(lambda: not missing(), "pictures", 20)
    except TimeoutError:
        check(False, f"pictures that do not come: {missing()}")
    page.evaluate("window.scrollTo(0, 0)")


def visit(browser):
    """One picks a mood by the keyboard, gives a word, and watches."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = watched(context.new_page(), "visit")
    page.goto(PLAN["url"] + "/auria")
    check(page.locator("form[action='/login']").count() == 0, "a visitor is asked for a token")
    page.get_by_label("Longing").focus()
    page.keyboard.press("Space")
    check(page.get_by_label("Longing").is_checked(), "a mood is not picked by the keyboard")
    page.get_by_label("A word").fill("harbour")
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url(re.compile("/auria/work/"))
    address = page.url
    until(lambda: "writing" in page.locator("[data-says]").inner_text(), "that she writes")
    shot(page, "visit-1-writing", False)
    # The same visitor has one work at a time.
    other = context.new_page()
    other.goto(PLAN["url"] + "/auria")
    other.get_by_role("button", name="Begin").click()
    other.wait_for_url(re.compile("/auria/work/"))
    check(other.url == address, f"a visitor has two works at once: {other.url}")
    other.close()
    until(lambda: page.locator(".poem p.now").count() >= 1, "the first line")
    shot(page, "visit-2-first-line", False)
    until(lambda: page.locator(".poem p.now").count() >= 3, "three lines")
    shot(page, "visit-3-poem", False)
    until(lambda: page.locator(".sketch.now").count() == 1, "the sketch")
    page.wait_for_timeout(1500)
    shot(page, "visit-4-sketch", False)
    until(lambda: page.locator(".painting.now").count() == 1, "the painting")
    page.wait_for_timeout(1200)
    shot(page, "visit-5-painting", False)
    until(lambda: page.locator(".picture.now").count() == 1, "the colours")
    page.wait_for_timeout(2600)
    shot(page, "visit-6-colours", False)
    until(lambda: page.locator("[data-after]").is_visible(), "the end")
    page.wait_for_timeout(3000)
    shot(page, "visit-7-done", False)
    fits(page, "visit")
    with page.expect_download() as kept:
        page.get_by_role("link", name="Keep").click()
    check(kept.value.suggested_filename.endswith(".png"), "what is kept is no picture")
    page.get_by_role("button", name="Share").click()
    until(lambda: page.locator("[data-shared]").inner_text() != "", "what is shared", 5)
    # Whoever has the address sees it, and it is in no gallery.
    guest = watched(browser.new_context().new_page(), "guest")
    check(guest.goto(address).status == 200, "a shared work is not there")
    check(guest.locator(".poem p").count() == 3, "a shared work has no poem")
    pictures(guest)
    guest.goto(PLAN["url"] + "/auria/gallery")
    check(guest.locator(f"a[href$='{address.rsplit('/', 1)[1]}']").count() == 0, "a visitor's work is in the gallery")
    return address


def bounded(browser):
    """What visitors cannot do."""
    request = browser.new_context().request
    foreign = request.post(PLAN["url"] + "/auria", form={"mood": "love", "word": "x"}, headers={"sec-fetch-site": "cross-site"})
    check(foreign.status == 403, f"another site's form is answered {foreign.status}")
    for form in ({"mood": "nothing", "word": "x"}, {"mood": "love", "word": "$(id)"}, {"mood": "love", "word": "it's"}, {}):
        answer = request.post(PLAN["url"] + "/auria", form=form)
        check(answer.status == 422, f"{form} is answered {answer.status}")
    for path in (f"/auria/work/{PLAN['private']}", f"/auria/work/{PLAN['private']}/picture.png", "/auria/work/latest"):
        answer = request.get(PLAN["url"] + path)
        check(answer.status == 404, f"{path} is answered {answer.status}")
    answer = request.get(PLAN["url"] + "/api/v1/runs")
    check(answer.status == 401, "a visitor lists runs")
    places = []
    for number in range(24):
        # As a proxy on this machine passes them on.
        answer = request.post(
            PLAN["url"] + "/auria", form={"mood": "love", "word": "sea"}, max_redirects=0,
            headers={"x-forwarded-for": f"203.0.113.{number}"},
        )
        places.append(answer.status)
    check(places[:15] == [303] * 15, f"works are not taken: {places}")
    check(places[-1] == 503, f"any number may wait: {places}")


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=PLAN["chromium"], args=["--no-sandbox"])
    for look, viewport, scheme in (
        ("wide-light", {"width": 1280, "height": 860}, "light"),
        ("wide-dark", {"width": 1280, "height": 860}, "dark"),
        ("phone-light", {"width": 390, "height": 844}, "light"),
        ("phone-dark", {"width": 390, "height": 844}, "dark"),
    ):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        for name, path in (("home", "/auria"), ("gallery", "/auria/gallery"), ("work", f"/auria/work/{PLAN['work']}")):
            page = watched(context.new_page(), f"{name} {look}")
            answer = page.goto(PLAN["url"] + path)
            check(answer.status == 200, f"{path} answers {answer.status}")
            pictures(page)
            fits(page, f"{name} {look}")
            check(page.locator("h1").count() == 1, f"{name}: {page.locator('h1').count()} h1")
            shot(page, f"{name}-{look}")
            page.close()
        context.close()
    for trial in (visit, bounded):
        try:
            trial(browser)
        except Exception as error:  # noqa: BLE001 - the others are tried all the same
            check(False, f"{trial.__name__}: {error}")
    browser.close()

print(f"{len(WRONG)} wrong")
sys.exit(min(len(WRONG), 100))
