"""The start page for everybody: WCAG AA by axe-core, no mouse, dark, a phone; the problem pages."""

import pytest
from playwright.sync_api import Browser, Page, expect

from service.api.routes.problem_pages import list_problems
from tests.helpers import ROOT
from tests.start_page import WAIT_MS, assert_accessible, make_file, open_start_page

# One number for each control, for all radio buttons of a group, which arrow keys walk through.
MARK_CONTROLS = """
() => {
  const groups = new Map();
  for (const element of document.querySelectorAll("a, button, input, select, summary, video")) {
    const isShown = element.checkVisibility() && !element.disabled && element.tabIndex >= 0;
    if (!isShown || element.tagName === "VIDEO") continue;
    const name = element.type === "radio" ? element.name : element;
    if (!groups.has(name)) groups.set(name, groups.size);
    element.dataset.number = groups.get(name);
  }
  return groups.size;
}
"""
READ_FOCUS = """
() => {
  const element = document.activeElement;
  const number = element.dataset.number ?? null;
  const shown = element.id === "split" ? element.closest(".compare") : element;
  const ring = element.type === "radio" ? element.nextElementSibling : shown;
  return [number, number === null ? null : getComputedStyle(ring).outlineStyle];
}
"""
READ_SHIFTS = """
() => {
  const observer = new PerformanceObserver(() => {});
  observer.observe({type: "layout-shift", buffered: true});
  return observer.takeRecords().map((shift) => shift.value);
}
"""
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [{}, PHONE], ids=["desktop", "phone"])
def test_every_mode_meets_wcag_aa(browser: Browser, live_server, scheme: str, screen: dict) -> None:
    # Without motion: texts that still fade in have no contrast.
    looks = {"color_scheme": scheme, "reduced_motion": "reduce", **screen}
    with open_start_page(browser, live_server().url, **looks) as page:
        page.locator("#photo-background").get_by_role("radio", name="Colour").check()
        page.click("#copy-curl")
        with page.expect_response("**/v1/image"):
            page.locator("#region").check()
        expect(page.locator("#photo-busy")).to_be_hidden(timeout=WAIT_MS)
        assert_accessible(page)
        page.click("#tab-clip")
        assert_accessible(page)
        page.click("#tab-webcam")
        page.locator("#key summary").click()
        assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.keyboard.press("Escape")
        expect(page.locator("#key-field")).to_be_hidden()
        page.click("#tab-photo")
        broken = make_file("broken.jpg", "image/jpeg", b"\xff\xd8\xff\xe0" + bytes(400))
        page.set_input_files("#file", broken)
        expect(page.locator("#problem")).not_to_be_empty(timeout=WAIT_MS)
        assert_accessible(page)


@pytest.mark.parametrize("width", [320, 390, 640], ids=["400-percent", "phone", "200-percent"])
def test_nothing_sticks_out_on_narrow_screens(browser: Browser, live_server, width: int) -> None:
    """A screen of 1280 pixels has 640 at a zoom of 200 %, 320 at 400 %."""
    sticks_out = "document.documentElement.scrollWidth - innerWidth"
    name = "a-name-without-spaces_" * 6 + ".jpg"
    with open_start_page(
        browser, live_server().url, viewport={"width": width, "height": 400}
    ) as page:
        broken = make_file(name, "image/jpeg", b"\xff\xd8\xff\xe0" + bytes(400))
        page.route("**/v1/image", lambda route: route.abort())
        page.set_input_files("#file", broken)
        expect(page.locator("#problem")).to_contain_text("does not answer")
        page.locator("#photo-caption").evaluate("(e, text) => (e.textContent = text)", name)
        page.click("#copy-python")
        expect(page.locator("#command")).to_be_visible()
        assert page.evaluate(sticks_out) <= 0
        page.click("#tab-clip")
        page.set_input_files("#file", make_file(name[:-3] + "mp4", "video/mp4", b"no clip"))
        expect(page.locator("#clip-name")).to_contain_text("cannot play it")
        assert page.evaluate(sticks_out) <= 0
        page.click("#tab-webcam")
        page.locator("#key summary").click()
        assert page.evaluate(sticks_out) <= 0


@pytest.mark.parametrize("screen", [{}, PHONE], ids=["desktop", "phone"])
def test_nothing_moves_while_the_page_loads(browser: Browser, live_server, screen: dict) -> None:
    with open_start_page(browser, live_server().url, **screen) as page:
        expect(page.locator("#photo-model option")).to_have_count(2)
        assert page.evaluate(READ_SHIFTS) == []


def test_nothing_turns_for_those_who_want_no_motion(browser: Browser, live_server) -> None:
    with open_start_page(browser, live_server().url, reduced_motion="reduce") as page:
        page.route("**/v1/image", lambda route: None)  # never answered
        page.locator("#refine").uncheck()
        expect(page.locator("#photo-busy")).to_be_visible()
        assert page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("mode", ["photo", "clip", "webcam"])
def test_tab_key_reaches_every_control_that_is_shown(browser: Browser, live_server, mode) -> None:
    with open_start_page(browser, live_server().url) as page:
        expect(page.locator(f"#{mode}-model option")).to_have_count(2)
        page.click(f"#tab-{mode}")
        if mode == "clip":
            clip = (ROOT / "examples" / "clip.mp4").read_bytes()
            page.set_input_files("#file", make_file("clip.mp4", "video/mp4", clip))
            page.locator("#clip-region").check()
            expect(page.locator("#clip-region-draw")).to_be_visible()
        elif mode == "photo":
            page.locator("#photo-background").get_by_role("radio", name="Colour").check()
        wanted = page.evaluate(MARK_CONTROLS)
        page.locator("#main").focus()
        page.keyboard.press("Shift+Tab")
        seen, rings = set(), {}
        for _ in range(2 * wanted):
            page.keyboard.press("Tab")
            number, ring = page.evaluate(READ_FOCUS)
            seen.add(number)
            rings[number] = ring
        assert seen - {None} == {str(number) for number in range(wanted)}
        assert set(rings.values()) <= {"solid", None}, "each shows that it has the focus"


def test_everything_can_be_reached_by_keys(browser: Browser, live_server) -> None:
    with open_start_page(browser, live_server().url) as page:
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        seen = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            seen.add(page.evaluate("document.activeElement.id || document.activeElement.name"))
        wanted = {"tab-photo", "split", "pick", "camera", "photo-kind", "refine", "feather"}
        wanted |= {"photo-shadow", "region"}
        assert seen >= wanted | {"erode", "save-png", "save-webp", "copy-curl", "copy-python"}
        page.focus("#tab-photo")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#tab-clip")).to_be_focused()
        expect(page.locator("#clip-form")).to_be_visible()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#webcam-start")).to_be_visible()


def test_colours_follow_the_system_and_the_button(browser: Browser, live_server) -> None:
    with open_start_page(browser, live_server().url, color_scheme="dark") as page:
        read = "getComputedStyle(document.documentElement).backgroundColor"
        dark = page.evaluate(read)
        page.click("#theme")
        assert page.locator("#theme").get_attribute("aria-label") == "Colours: light"
        light = page.evaluate(read)
        assert dark != light
        page.click("#theme")
        assert page.evaluate(read) == dark


# All pages of problems are one template, whose texts test_problem_pages.py reads.
@pytest.mark.parametrize("slug", ["", *list(list_problems())[:2]])
def test_problem_pages_meet_wcag_aa(problem_page: Page, live_server, slug: str) -> None:
    problem_page.goto(f"{live_server().url}/problems/{slug}".rstrip("/"))
    expect(problem_page.locator("h1")).not_to_be_empty()
    assert_accessible(problem_page)


@pytest.fixture(scope="module")
def problem_page(browser: Browser):
    page = browser.new_page()
    yield page
    page.close()
