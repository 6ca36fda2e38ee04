"""A report in a real browser: for a phone, in print, in the dark, without JavaScript, and with hostile texts."""

import shutil
from contextlib import closing

import pytest

from hostile.texts import NAMED
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.report.writer import write_report, write_reports
from support import report_run as reported_run
from support import store_factory as recorded_store
from support.store_factory import FAILED, FINISHED, INTERRUPTED

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE = {"width": 390, "height": 844}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The run with every kind of step, and one of hostile texts: each as a page and as a folder."""
    folder = tmp_path_factory.mktemp("reports")
    recorded_store.build(folder / "store")
    reported_run.write(folder / "hostile-store", list(NAMED.values()))
    for store, run, name in (("store", FAILED, "report"), ("hostile-store", reported_run.RUN, "hostile")):
        write_report(folder / store, run, folder / f"{name}.html")
        write_report(folder / store, run, folder / name)
    write_reports(folder / "store", [FAILED, FINISHED, INTERRUPTED], folder / "runs")
    return folder


@pytest.fixture
def opened(browser, reports):
    """Open a page of a report as a reader would; what the browser complains of fails the test."""
    contexts, complaints = [], []

    def open_(name, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: complaints.extend(_not_of_the_report(request.url)))
        path, _, part = name.partition("#")
        page.goto(f"{(reports / path).as_uri()}#{part}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def _not_of_the_report(url):
    return [] if url.startswith(("file://", "data:image/webp;base64,")) else [url]


def cells(page, column):
    return page.eval_on_selector_all(
        "table.labels tbody tr:not([hidden])", f"rows => rows.map(row => row.cells[{column}].textContent)"
    )


EVERY = (
    "report.html",
    "report/index.html",
    "runs/index.html",
    "report/units/unit-0.html",
    "hostile.html",
    "hostile/units/unit-11.html",
)


@pytest.mark.parametrize("name", ["hostile.html", "hostile/index.html", "hostile/units/unit-11.html"])
def test_no_hostile_text_runs_and_all_stay_texts(opened, name):
    page = opened(name)
    assert list(NAMED)[11] == "HTML"
    assert "<script>alert(1)</script><img src=x onerror=alert(1)>" in page.inner_text("body")
    assert page.locator("img[src=x], [onerror]").count() == 0


def test_the_policy_stops_a_script_and_an_address_even_where_they_get_in(browser, reports):
    with closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto((reports / "hostile.html").as_uri())
        page.evaluate(
            """() => {
                window.stopped = [];
                addEventListener("securitypolicyviolation", (one) => window.stopped.push(one.effectiveDirective));
                const script = document.createElement("script");
                script.textContent = "window.ran = 1";
                document.body.append(script);
                document.body.insertAdjacentHTML("beforeend",
                    '<img src="https://example.org/x.png" onerror="window.ran = 2"><p style="color:red">x</p>');
            }"""
        )
        page.wait_for_function("window.stopped.length >= 4")
        stopped = set(page.evaluate("window.stopped"))
        assert stopped == {"script-src-elem", "script-src-attr", "img-src", "style-src-attr"}
        assert page.evaluate("window.ran") is None


@pytest.mark.parametrize("name", EVERY)
def test_a_phone_needs_no_sideways_scrolling(opened, name):
    page = opened(name, viewport=PHONE)
    # What is not in sight is laid out too.
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    page.evaluate("document.querySelectorAll('.unit').forEach((one) => one.style.contentVisibility = 'visible')")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("document.body.scrollWidth") <= PHONE["width"]


def test_without_javascript_everything_is_there(opened):
    page = opened("report.html", java_script_enabled=False)
    assert len(page.locator("table.labels tbody tr").all()) == 8
    assert not page.locator("#find").is_visible()
    assert page.locator("table.labels th button").count() == 0
    first = page.locator("#unit-0 details").first
    assert not first.locator(".history").is_visible()
    first.locator("summary").click()
    assert first.locator(".history").is_visible()
    page.locator("table.labels a", has_text="5").click()
    assert page.url.endswith("#unit-5")


def test_labels_are_searched_and_sorted(opened):
    page = opened("report.html")
    page.fill("#find", "STRIPED an")
    assert cells(page, 0) == ["0"]
    assert page.inner_text("#found") == "1 of 8"
    page.fill("#find", "nothing like it")
    assert cells(page, 0) == []
    page.fill("#find", "")
    page.get_by_role("button", name="score").click()
    scores = [float(cell.split()[0]) for cell in cells(page, 3) if cell not in {"", "–"}]  # noqa: RUF001
    assert scores == sorted(scores, reverse=True)
    # A unit without a label comes last, whichever way.
    assert cells(page, 0)[-1] == "5"
    page.get_by_role("button", name="score").press("Enter")
    assert page.locator("table.labels [aria-sort]").get_attribute("aria-sort") == "ascending"
    assert [cell.split()[0] for cell in cells(page, 3)[:-1]] == [f"{score:.3g}" for score in sorted(scores)]
    page.get_by_role("button", name="label").click()
    labels = page.locator("table.labels td strong").all_inner_texts()
    assert labels == sorted(labels) and len(labels) == 7
    assert "no label" in cells(page, 2)[-1]


def test_the_runs_and_their_labels_are_searched_together_and_lead_to_their_pages(opened):
    page = opened("runs/index.html")
    runs, labels = (page.locator(f"#{name} tbody tr") for name in ("runs", "labels"))
    assert runs.count() == 3
    every = labels.count()
    page.fill("#find", FAILED)
    assert [row.is_visible() for row in runs.all()].count(True) == 1
    assert page.inner_text("#found") == f"8 of {every + 3}"
    page.fill("#find", "")
    page.locator("#labels").get_by_role("button", name="score").click()
    scores = [float(cell.split()[0]) for cell in page.locator("#labels td:nth-child(6)").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    page.locator("#runs a", has_text=FAILED).click()
    assert page.locator("h1").count() == 1
    page.get_by_role("link", name="All runs").click()
    page.locator("#labels a").first.click()
    assert page.url.endswith(".html") and "/units/unit-" in page.url


def test_a_keyboard_reaches_everything_that_can_be_used(opened):
    page = opened("report/units/unit-0.html")
    reached = set()
    wanted = page.evaluate(
        """() => {
            const all = [...document.querySelectorAll("a[href], summary, button, input, [tabindex]")];
            all.forEach((one, place) => (one.dataset.place = place));
            return all.filter((one) => one.checkVisibility()).map((one) => one.dataset.place);
        }"""
    )
    for _ in range(len(wanted) + 1):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.dataset.place"))
    assert set(wanted) <= reached
    assert len(wanted) > 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_the_ground(opened, scheme):
    page = opened("report.html", color_scheme=scheme)
    ground, *inks = page.evaluate(
        """() => [
            getComputedStyle(document.body).backgroundColor,
            ...[...document.querySelectorAll("#unit-0 *, #labels *, #unit-5 *, .state *")]
                .filter((one) => [...one.childNodes].some((node) => node.nodeType == 3 && node.data.trim()))
                .map((one) => getComputedStyle(one).color)
        ]"""
    )
    assert (_light(ground) < 0.1) == (scheme == "dark")
    for ink in set(inks):
        brighter, darker = sorted((_light(ground), _light(ink)), reverse=True)
        assert (brighter + 0.05) / (darker + 0.05) >= 4.5, ink


def _light(colour):
    """Relative luminance, as WCAG reckons it."""
    channels = [int(part) / 255 for part in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_in_print_the_first_boards_are_open_and_the_ground_is_white(opened):
    page = opened("report.html", java_script_enabled=False, color_scheme="dark")
    assert not page.locator("#unit-0 details .history").first.is_visible()
    page.emulate_media(media="print")
    assert page.locator("#unit-0 details .history").first.is_visible()
    assert not page.locator("nav").first.is_visible()
    assert page.locator("#unit-7 .strip").last.is_visible()


def test_images_are_seen_in_both_forms(opened, reports):
    page = opened("report/units/unit-0.html")
    images = page.locator("img")
    assert images.count() > 10
    for image in (images.first, images.last):
        image.evaluate("one => { for (let at = one; at; at = at.parentElement) at.open = true; }")
        image.scroll_into_view_if_needed()
        image.evaluate("one => one.decode()")
        assert image.evaluate("one => one.naturalWidth") > 0
    page = opened("report.html")
    with closing(RunStore(reports / "store", read_only=True)) as runs:
        images = runs.unit(FAILED, 0).images
    assert page.locator("#unit-0 img.photo").count() == len(images)
    kept = page.locator("#unit-0 .best .kept").first
    assert kept.evaluate("one => getComputedStyle(one).backgroundImage").startswith('url("data:image/webp;base64,')
    assert kept.bounding_box()["height"] > 20


def test_a_link_to_a_unit_leads_to_it(opened):
    page = opened("report.html#unit-6")
    page.wait_for_function("Math.abs(document.getElementById('unit-6').getBoundingClientRect().top) < 100")
    page = opened("report/index.html")
    page.locator("table.labels a", has_text="6").click()
    assert page.inner_text("h1").startswith("Unit 6")
    page.locator("a[rel=next]").click()
    assert page.inner_text("h1").startswith("Unit 7")
