"""`line report`: what a page says of a run, and that it is written whole or not at all."""

import hashlib
import io
import json
import math
import re
import shutil
import sqlite3
from contextlib import closing
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile.texts import NAMED
from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control
from line_neurons.agent.text import format_spread
from line_neurons.graphs.replay.provenance import provenance
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.cache.reader import control_key
from line_neurons.tools.control_sets.folder import FolderControlSet
from line_neurons.tools.spreads import Spreads
from line_neurons.tools.store.activity import Activity
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.formatting import setting_texts
from line_neurons.tui.report import page as pages_module
from line_neurons.tui.report import writer as writing
from line_neurons.tui.report.charts import BINS, histogram, score_curve
from line_neurons.tui.report.writer import write_report, write_reports
from support import released_stores as old_stores
from support import report_run as reported_run
from support import store_factory as recorded_store
from support.facet_store import add_facets
from support.store_factory import FAILED, FINISHED, INTERRUPTED, LAST_STEP, REASON, at_work

EMPTY = {"img", "meta", "input", "br", "wbr", "rect", "line", "path", "circle", "polyline"}
ASIDE = {".db-wal", ".db-shm"}
"""What SQLite makes to look at a database."""
BLOCKS = {"dd", "dt", "h1", "h2", "h3", "h4", "li", "p", "td", "th", "summary"}


class Page(HTMLParser):
    """A page as a reader takes it in: its elements in order, and the text in each element with an id."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.text, self._open = [], {}, []
        self.path = path
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append((tag, dict(attrs).get("id")))

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            if tag in BLOCKS:
                self.handle_data(" ")
            assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for tag, name in self._open:
            if name:
                self.text[name] = self.text.get(name, "") + data
            if tag in {"style", "script"}:
                return

    def of(self, unit):
        return " ".join(self.text[f"unit-{unit}"].split())

    def labels(self):
        return " ".join(self.text["labels"].split())


@pytest.fixture(scope="module")
def real_store(tmp_path_factory):
    store = tmp_path_factory.mktemp("recorded") / "store"
    recorded_store.build(store)
    return store


@pytest.fixture
def store(real_store, tmp_path):
    return shutil.copytree(real_store, tmp_path / "store")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A report of units that each have one hostile text everywhere: as one page and as a folder."""
    folder = tmp_path_factory.mktemp("hostile")
    reported_run.write(folder / "store", list(NAMED.values()))
    for output in ("page.html", "pages"):
        write_report(folder / "store", reported_run.RUN, folder / output)
    return folder


def page_of(store, run, tmp_path, *units, **more):
    return Page(write_report(store, run, tmp_path / "report.html", units or None, **more).path)


# What a page says.


def test_every_unit_has_a_row_and_a_part_with_its_label_and_score(store, tmp_path):
    page = page_of(store, FINISHED, tmp_path)
    with closing(RunStore(store)) as runs:
        run, units = runs.run(FINISHED), runs.units(FINISHED)
    assert len(units) == 3
    for unit in units:
        assert unit.label in page.of(unit.unit)
        spread = format_spread(Spreads(store, run).of_units([unit])[0])
        assert "?" not in spread
        assert f"score {unit.score:.3g} {spread}" in page.of(unit.unit).replace("  ", " ")
        assert f"{unit.score:.3g} {spread}" in page.labels()
        assert unit.second_label in page.of(unit.unit)
        assert unit.label in page.labels()


def test_the_way_of_a_search_is_told_with_what_was_refused_and_why(store, tmp_path):
    told = page_of(store, FAILED, tmp_path).of(0)
    for words in (
        "striped cat", "refused: tried already", '"striped cat" was tried already', "refused: cannot be generated",
        "infinite regret", "refused: unusable reply", "garbage", "stalled: no usable proposal", "new best",
        "The best concepts so far share a texture", "Board after this step",
    ):  # fmt: skip
        assert words in told


def test_a_failed_unit_says_why_and_has_no_label(store, tmp_path):
    page = page_of(store, FAILED, tmp_path)
    assert "no label" in page.of(5)
    assert REASON in page.of(5)
    assert REASON in page.labels()


def test_a_unit_without_a_label_says_why_once(store, tmp_path):
    with closing(sqlite3.connect(store / "runs.db")) as db, db:
        db.execute(
            "UPDATE units SET status = 'dead', label = NULL, note = 'dead: 0 on all 5 images' WHERE unit = 1"
        )
    path = write_report(store, FINISHED, tmp_path / "report.html", [1]).path
    assert re.findall(r"<strong>(?:<bdi>)?dead", path.read_text()) == ["<strong><bdi>dead"]
    assert "no label dead: 0 on all 5 images" in Page(path).of(1)


def test_a_run_without_a_control_set_says_so_and_explains_none_of_its_measures(tmp_path):
    reported_run.write(tmp_path / "store", ["owl"], control="none", control_fingerprint="none", init="model")
    page = page_of(tmp_path / "store", reported_run.RUN, tmp_path)
    assert "Not available: the run has no control set." in page.of(0)
    assert "No AUC and no MAD: the run has no control set." in page.labels()
    assert "probability that an image" not in page.labels()


def test_one_label_is_no_plural(tmp_path):
    reported_run.write(tmp_path / "store", ["owl"])
    page = page_of(tmp_path / "store", reported_run.RUN, tmp_path)
    distributions = " ".join(page.text["overview"].split())
    assert "1 label: " in distributions
    assert not re.search(r"\b1 (labels|units|images|concepts)\b", " ".join(page.text["content"].split()))


def test_settings_are_written_as_everywhere(store, tmp_path):
    with closing(RunStore(store)) as runs:
        settings = setting_texts(runs.run(FINISHED).settings)
    made = " ".join(page_of(store, FINISHED, tmp_path).text["made"].split())
    assert f"summary {settings['summary']}" in made
    assert settings["summary"] in {"on", "off"}
    assert f"diffusion.steps {settings['diffusion.steps']}" in made


def test_an_interrupted_run_shows_what_there_is(store, tmp_path):
    page = page_of(store, INTERRUPTED, tmp_path)
    assert "Run interrupted" in (tmp_path / "report.html").read_text()
    assert "Current scoreboard" in page.of(2)
    assert "This unit has not started" in page.of(3)


def test_a_run_that_is_worked_on_tells_what_is_done_at_this_moment(store, tmp_path):
    doing = Activity(2, "propose", "iteration", 3, LAST_STEP, 0, "tall grass", "tiger fur", 4.5, 0.0)
    at_work(store, INTERRUPTED, doing)
    told = page_of(store, INTERRUPTED, tmp_path).of(2)
    assert "Current node: propose, step 3 of 5, tall grass; best so far tiger fur (4.5); process 4242" in told


def test_labels_that_another_unit_found_say_so(store, tmp_path):
    with closing(sqlite3.connect(store / "runs.db")) as db, db:
        db.execute("UPDATE units SET origin = 'revisit', found_by = 2, search_label = 'old gate' WHERE unit = 1")
    told = page_of(store, FINISHED, tmp_path).of(1)
    assert "found by unit 2" in told
    assert "old gate result of its own search" in told


def test_restarts_and_wishes_are_told(tmp_path):
    reported_run.write(tmp_path / "store", ["owl at night"])
    told = page_of(tmp_path / "store", reported_run.RUN, tmp_path).of(0)
    assert "3 ± 0.58 owl at night best of the first search" in told
    assert "2.5 ± 0.58 red fox best of restart 1, from step 4 on" in told
    assert "History of restart 1" in told
    assert re.search("pin owl, by .*: waiting", told)


def test_only_the_chosen_units_are_told(store, tmp_path):
    page = page_of(store, FAILED, tmp_path, 3, 5)
    assert [row["id"] for _, row in page.elements if re.fullmatch(r"unit-\d+", row.get("id", ""))] == [
        "unit-3", "unit-5",
    ]  # fmt: skip


def test_the_cost_counts_each_question_and_each_image_once(store, tmp_path):
    with closing(RunStore(store)) as runs:
        steps = [step for unit in runs.units(FAILED) for step in runs.steps(FAILED, unit.unit)]
    asked = sum(step.kind in {"iteration", "summary"} and step.outcome != "stalled" for step in steps)
    images = len({image for step in steps for image in step.images})
    told = " ".join(page_of(store, FAILED, tmp_path).text["overview"].split())
    assert f"requests to the language model {asked} " in told
    assert f"images measured {images} " in told


def test_machine_versions_seeds_and_prompts_are_told_as_they_were_recorded(store, tmp_path):
    made = " ".join(page_of(store, FINISHED, tmp_path).text["made"].split())
    told = provenance(store, FINISHED)
    machine = told["environments"][0]["machine"]
    assert machine["cpu"] in made
    assert f"langgraph {told['versions']['langgraph']}" in made
    assert told["environments"][0]["code"] in made
    assert "(run seed, concept, image index)" in made
    for kind, prompt in told["prompts"].items():
        assert f"Prompt: {kind}" in made
        assert prompt["sha256"] in made
    assert "A realistic photo of a {concept}" in made


def test_arguments_of_a_chat_model_are_not_shown(tmp_path):
    reported_run.write(tmp_path / "store", ["owl"], langchain={"api_key": "s3cret"})
    path = write_report(tmp_path / "store", reported_run.RUN, tmp_path / "report.html").path
    assert "s3cret" not in path.read_text()
    assert "1 (not shown)" in " ".join(Page(path).text["made"].split())


# Images.


def test_images_that_have_gone_or_are_damaged_are_named_and_the_others_shown(store, tmp_path):
    with closing(RunStore(store)) as runs:
        gone, harmed, *_ = runs.unit(FINISHED, 1).images
    (store / "images" / gone[:2] / f"{gone}.png").unlink()
    (store / "images" / harmed[:2] / f"{harmed}.png").write_bytes(b"\x89PNG no more")
    told = page_of(store, FINISHED, tmp_path, 1).of(1)
    assert "This image has gone" in told
    assert "This image is damaged: its content has changed" in told
    assert "Missing images: image 1 has gone" in told


def test_a_store_without_a_bank_still_has_its_labels_and_reasons(store, tmp_path):
    shutil.rmtree(store / "images")
    for file in store.glob("bank.db*"):
        file.unlink()
    page = page_of(store, FINISHED, tmp_path)
    assert "All images are missing" in page.of(1)
    assert "± ?" in page.of(1)
    assert "± ?" in page.labels()
    assert "the store does not have the activations on the control set" in page.of(1)
    assert "share a texture" in page.of(1)


def test_each_image_of_a_folder_is_one_file_however_often_it_is_shown(store, tmp_path):
    write_report(store, FAILED, tmp_path / "pages")
    shown = [
        element["src"]
        for path in (tmp_path / "pages" / "units").iterdir()
        for tag, element in Page(path).elements
        if tag == "img"
    ]
    files = {f"../pictures/{path.name}" for path in (tmp_path / "pages" / "pictures").iterdir()}
    assert set(shown) == files
    assert len(shown) > len(files)
    for path in (tmp_path / "pages" / "pictures").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem)
        with Image.open(path) as image:
            assert image.format == "WEBP"


def test_the_control_images_that_excite_a_unit_most_are_told_in_order(store, tmp_path):
    with closing(RunStore(store)) as runs:
        run = runs.run(FINISHED)
    key = control_key(run.fingerprints["target"], run.layer, run.fingerprints["control"])
    with closing(Cache(store)) as bank:
        kept = bank.control(key)
    order = np.argsort(-kept.activations[:, 1])[:8]
    expected = " ".join(f"{kept.activations[row, 1]:.3g} {kept.classes[kept.labels[row]]}" for row in order)
    told = page_of(store, FINISHED, tmp_path, 1).of(1)
    assert f"Most activating control images: {expected}" in told
    assert "No control images: not stored; use --control-images" in told


def test_the_control_set_itself_gives_its_images_where_that_is_asked(tmp_path):
    for place in range(12):
        folder = tmp_path / "control" / f"class {place % 6}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (20 * place, 0, 0)).save(folder / f"{place}.png")
    control = FolderControlSet(tmp_path / "control")
    store = tmp_path / "store"
    reported_run.write(store, ["owl"], control=str(tmp_path / "control"), control_fingerprint=control.fingerprint)
    rows = np.arange(12, dtype=np.float32)[:, None]
    with closing(Cache(store)) as bank:
        key = control_key(reported_run.TARGET, reported_run.LAYER, control.fingerprint)
        bank.put_control(key, Control(control.classes(), np.repeat(np.arange(6), 2), rows))
    write_report(store, reported_run.RUN, tmp_path / "pages", control_images=True)
    page = Page(tmp_path / "pages" / "units" / "unit-0.html")
    shown = [row["src"] for tag, row in page.elements if tag == "img" and row["class"] == "control"]
    images = [image for chunk in control.chunks() for image in chunk.images]
    for name, row in zip(shown, range(11, 3, -1), strict=True):
        with (
            Image.open(tmp_path / "pages" / "units" / name) as small,
            Image.open(io.BytesIO(images[row])) as whole,
        ):
            assert abs(small.getpixel((5, 5))[0] - whole.getpixel((5, 5))[0]) < 8
    Image.new("RGB", (64, 48)).save(tmp_path / "control" / "class 0" / "another.png")
    told = page_of(store, reported_run.RUN, tmp_path, control_images=True).of(0)
    assert "the control set on this machine differs from the run's" in told


def test_every_facet_has_a_strip_of_its_label_s_images_and_of_the_control_images_of_its_sources(store, tmp_path):
    with closing(RunStore(store)) as runs:
        unit, other, _ = (one.unit for one in runs.units(FINISHED))
    found = add_facets(store, FINISHED, unit)
    page = page_of(store, FINISHED, tmp_path)
    told = page.of(unit)
    assert "3 groups of its strongest images, 2 with a label; polysemanticity 0.94 [0.81, 1.02]" in told
    for facet in found.facets:
        assert f"facet {facet.facet}" in told and (facet.label or "no label yet") in told
    assert "grass <b> AUC 0.720, 30 % of the strongest responses" in told.replace("  ", " ")
    strips = [row["aria-label"] for tag, row in page.elements if "strip" in (row.get("class") or "").split()]
    assert sum("grass <b>" in strip for strip in strips) == 1
    assert "What else does it respond to?" not in page.of(other)


# Figures.


def test_a_histogram_counts_every_finite_value_once():
    chart = histogram([0.0, 1.0, 1.0, float("nan"), float("inf")], marks=[2.0])
    assert (chart.total, chart.low, chart.median, chart.high) == (3, 0.0, 1.0, 1.0)
    assert sum(bar.count for bar in chart.bars) == 3
    assert len(chart.bars) <= BINS
    assert histogram([]) is None
    assert histogram([5.0]).total == 1


def test_the_curve_of_a_search_never_falls_and_marks_what_has_no_score():
    chart = score_curve(
        [
            (0, "0", "a", 1.0, None),
            (1, "1", "b", 3.0, 0.5),
            (2, "2", "", None, None),
            (3, "3", "c", 2.0, 0.0),
            (4, "S", "d", 4.0, 2.0),
        ]
    )
    heights = [float(corner.split(",")[1]) for corner in chart.best.split()]
    assert heights == sorted(heights, reverse=True)
    assert (chart.first, chart.last, len(chart.gaps)) == (1.0, 4.0, 1)
    assert [dot.new_best for dot in chart.dots] == [False, True, False, True]
    assert score_curve([(0, "0", "a", None, None)]) is None


def test_an_unknown_spread_is_no_spread_and_a_known_one_fits_the_axis():
    chart = score_curve([(0, "0", "a", 1.0, None), (1, "1", "b", 3.0, 0.5), (2, "2", "c", 2.0, 0.0)])
    unknown, known, none = chart.dots
    assert unknown.ends is None
    assert known.ends[0] == 0.0 < known.y < known.ends[1]
    assert none.ends == (none.y, none.y)


@pytest.mark.parametrize(("values", "counts"), [([1.0], [0, 1]), ([1.0] * 2, [0, 1, 2]), ([1.0] * 90, [0, 50])])
def test_the_counts_of_a_histogram_begin_at_zero_and_are_whole(values, counts):
    chart = histogram(values)
    assert [tick.value for tick in chart.counts] == counts
    assert chart.counts[0].at == 110.0


def test_a_curve_has_as_many_corners_as_scores_whatever_the_numbers_of_the_steps():
    chart = score_curve([(0, "0", "a", 1.0, None), (2**62, "x", "b", 3.0, None)])
    assert chart.best == "0.0,150.0 400.0,150.0 400.0,0.0"
    assert len(chart.steps) <= 10


@pytest.mark.parametrize(
    "scores",
    [
        [1e308, -1e308],
        [1e308],
        [1e200, 1e200],
        [1e200, -1e200],
        [5e-324, 0.0],
        [1e17, 1e17 + 16],
        [1.0, 1.0 + 2e-16],
    ],
    ids=str,
)
def test_scores_of_any_size_make_a_chart_or_none(scores):
    for chart in (
        score_curve([(step, "", "", score, abs(score)) for step, score in enumerate(scores)]),
        histogram(scores),
    ):
        if chart is not None:
            ticks = chart.scores if hasattr(chart, "scores") else chart.ticks
            assert len(ticks) <= 10
            assert all(math.isfinite(tick.at) for tick in ticks)


# Pages that are sound, and inert.


@pytest.fixture(scope="module")
def pages(hostile):
    return [Page(path) for path in sorted(hostile.glob("page*/**/*.html"))] + [Page(hostile / "page.html")]


def test_hostile_texts_alter_the_structure_of_no_page(pages):
    # An axis depends on the scores; an empty text is left out; the first and the last unit have one neighbour.
    texts = dict(enumerate(NAMED.values()))
    kinds = {
        tuple((tag, tuple(row)) for tag, row in page.elements if tag not in {"line", "text"})
        for page in pages
        for number in map(int, re.findall(r"^unit-(\d+)", page.path.stem))
        if texts[number].strip() and 0 < number < len(texts) - 1
    }
    assert len(kinds) == 1


def test_no_text_becomes_an_attribute_that_does_something(pages):
    assert len(pages) == len(NAMED) + 2
    for page in pages:
        tags = [tag for tag, _ in page.elements]
        assert tags.count("script") == 1
        assert not {"iframe", "object", "embed", "form", "base"} & set(tags)
        for tag, row in page.elements:
            assert not [name for name in row if name.startswith("on") or name == "style"], (page.path, tag, row)
            assert not row.get("href", "#").lower().startswith(("javascript", "data", "http")), row


def test_file_names_come_from_numbers_and_hashes_only(hostile):
    names = {path.relative_to(hostile / "pages").as_posix() for path in (hostile / "pages").rglob("*")}
    assert all(writing._OWN_FILES.fullmatch(name) for name in names)
    assert len([name for name in names if name.startswith("units/")]) == len(NAMED)


def test_the_policy_lets_only_the_page_s_own_script_and_style_through(pages):
    for page in pages:
        policy = next(row["content"] for tag, row in page.elements if row.get("http-equiv"))
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert policy.count("'sha256-") == 2 + (page.path.name == "page.html")


def test_headings_ids_alternatives_and_links_are_sound(pages, store, tmp_path):
    write_report(store, FAILED, tmp_path / "page.html")
    write_report(store, INTERRUPTED, tmp_path / "pages")
    for page in [*pages, *map(Page, tmp_path.glob("page*/**/*.html")), Page(tmp_path / "page.html")]:
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(deeper <= level + 1 for level, deeper in pairwise(levels))
        ids = [row["id"] for _, row in page.elements if "id" in row]
        assert len(ids) == len(set(ids))
        for tag, row in page.elements:
            if tag == "img" or row.get("role") == "img":
                assert row.get("alt") or row.get("aria-label")
            if tag == "img":
                assert (row["loading"], row["decoding"]) == ("lazy", "async")
            link = row.get("href", "")
            if link.startswith("#"):
                assert link[1:] in ids
            elif link:
                assert (page.path.parent / link.partition("#")[0]).is_file()


# How it is written.


def test_a_store_is_only_looked_at(store, tmp_path):
    def content():
        return {
            path: path.read_bytes() for path in store.rglob("*") if path.is_file() and path.suffix not in ASIDE
        }

    before = content()
    write_report(store, FAILED, tmp_path / "report.html")
    write_report(store, FAILED, tmp_path / "report")
    assert content() == before


@pytest.mark.parametrize("name", ["report.html", "report"])
def test_a_report_takes_the_place_of_one_that_was_there(store, tmp_path, name):
    write_report(store, FAILED, tmp_path / name)
    written = write_report(store, FAILED, tmp_path / name, [3])
    assert "unit-3" in (written.path.read_text() if name == "report.html" else "unit-3")
    if name == "report":
        assert [path.name for path in (tmp_path / name / "units").iterdir()] == ["unit-3.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "store"])


@pytest.mark.parametrize("name", ["report.html", "report"])
def test_a_report_that_cannot_be_ended_leaves_what_was_there(store, tmp_path, name):
    written = write_report(store, FAILED, tmp_path / name).path
    before = written.read_bytes()

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(store, FINISHED, tmp_path / name, progress=stop)
    assert written.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "store"])


def test_what_is_no_report_is_left_alone(store, tmp_path):
    thesis, folder, mixed = tmp_path / "thesis.html", tmp_path / "folder", tmp_path / "mixed"
    thesis.write_text("<h1>Mine</h1>")
    folder.mkdir()
    (folder / "index.html").write_text("mine")
    write_report(store, FINISHED, mixed)
    (mixed / "notes.txt").write_text("mine")
    for output in (thesis, folder, mixed, tmp_path / "store" / "images"):
        before = {path: path.stat().st_mtime_ns for path in (output, *output.rglob("*"))}
        with pytest.raises(UsageError, match="is no report; it is not overwritten"):
            write_report(store, FINISHED, output)
        assert {path: path.stat().st_mtime_ns for path in (output, *output.rglob("*"))} == before
    (tmp_path / "empty").mkdir()
    assert write_report(store, FINISHED, tmp_path / "empty").path.is_file()


def test_many_units_on_one_page_are_refused_with_the_remedy_unless_they_are_wanted(store, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "MAX_UNITS_PER_PAGE", 7)
    with pytest.raises(
        UsageError, match=r"8 units are too many for one page.*name a folder \(-o report/\).*--one-page"
    ):
        write_report(store, FAILED, tmp_path / "report.html")
    assert write_report(store, FAILED, tmp_path / "report.html", one_page=True).units == 8
    assert write_report(store, FAILED, tmp_path / "report").units == 8


@pytest.mark.parametrize("version", old_stores.VERSIONS)
def test_stores_of_earlier_versions_are_told_too(tmp_path, version):
    store = old_stores.old_store(tmp_path / "store", version)
    for run in (old_stores.FINISHED, old_stores.KILLED):
        page = page_of(store, run, tmp_path)
        with closing(RunStore(store, read_only=True)) as runs:
            units = runs.units(run)
        assert all((unit.label or "no label") in page.of(unit.unit) for unit in units)
        # What stands for images in these stores is none.
        assert "All images are missing: image 1 cannot be decoded" in page.of(units[0].unit)


def test_a_damaged_row_is_told_where_it_stands(store, tmp_path):
    with closing(sqlite3.connect(store / "runs.db")) as db, db:
        db.execute("UPDATE steps SET board = '{' WHERE run = ? AND unit = 1 AND step = 2", [FINISHED])
    page = page_of(store, FINISHED, tmp_path)
    assert "a row of steps in runs.db is damaged" in page.of(1)
    assert "share a texture" in page.of(2)


def test_the_command_writes_a_report_and_says_where(line, store, tmp_path):
    status, out, _ = line("report", "vit", "tiger", "--store", store, "--json")
    assert status == 0
    told = json.loads(out)
    assert told["report"] == f"{FINISHED}.html"
    assert told["units"] == 1
    assert told["bytes"] == Path(told["report"]).stat().st_size
    status, out, _ = line("report", FAILED, "-o", "pages/", "--store", store)
    assert (status, out.split(":")[0]) == (0, "pages/index.html")


# Several runs.


def test_a_report_of_several_runs_is_an_index_and_a_folder_for_each(store, tmp_path):
    done = write_reports(store, [FAILED, FINISHED], tmp_path / "pages")
    page = Page(done.path)
    assert done.units == 8 + 3
    assert {path.name for path in (tmp_path / "pages").iterdir()} == {
        "index.html", f"run-{FAILED}", f"run-{FINISHED}",
    }  # fmt: skip
    links = [row["href"] for tag, row in page.elements if tag == "a" and not row["href"].startswith("#")]
    assert all((tmp_path / "pages" / link).is_file() for link in links)
    assert f"run-{FAILED}/index.html" in links and f"run-{FINISHED}/units/unit-1.html" in links
    with closing(RunStore(store)) as runs:
        assert all(unit.label in page.labels() for unit in runs.units(FINISHED))
    assert "All runs" in (tmp_path / "pages" / f"run-{FAILED}" / "index.html").read_text()
    policy = next(row["content"] for tag, row in page.elements if row.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy


def test_a_report_of_several_runs_replaces_one_and_nothing_else(store, tmp_path):
    write_reports(store, [FAILED, FINISHED], tmp_path / "pages")
    write_reports(store, [FINISHED], tmp_path / "pages")
    assert {path.name for path in (tmp_path / "pages").iterdir()} == {"index.html", f"run-{FINISHED}"}
    write_report(store, FINISHED, tmp_path / "pages")
    write_reports(store, [FINISHED], tmp_path / "pages")
    (tmp_path / "pages" / "run-notes").mkdir()
    with pytest.raises(UsageError, match="is no report; it is not overwritten"):
        write_reports(store, [FINISHED], tmp_path / "pages")


def test_too_many_labels_are_left_to_the_pages_of_their_runs(store, tmp_path, monkeypatch):
    monkeypatch.setattr(pages_module, "MAX_LISTED_LABELS", 5)
    page = Page(write_reports(store, [FAILED, FINISHED], tmp_path / "pages").path)
    assert "10 labels are too many for one page" in page.labels()


def test_a_run_with_damaged_rows_is_named_and_the_others_are_reported(store, tmp_path):
    with closing(sqlite3.connect(store / "runs.db")) as db, db:
        db.execute("UPDATE runs SET settings = '{' WHERE id = ?", [FAILED])
    done = write_reports(store, [FAILED, FINISHED], tmp_path / "pages")
    assert {path.name for path in (tmp_path / "pages").iterdir()} == {"index.html", f"run-{FINISHED}"}
    assert re.search(rf"{FAILED}.* is left out: .*damaged", done.path.read_text())


def test_the_command_reports_several_runs_or_all(line, store, tmp_path):
    status, out, _ = line("report", FAILED, FINISHED, "-o", "some/", "--store", store, "--json")
    assert (status, json.loads(out)["runs"]) == (0, [FAILED, FINISHED])
    status, out, _ = line("report", "--all", "-o", "every", "--store", store)
    assert (status, out.split(":")[0]) == (0, "every/index.html")
    assert len(list(Path("every").glob("run-*"))) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no run is named"),
        ([FAILED, FINISHED, "-o", "page.html"], "several runs need a folder"),
        ([FAILED, FINISHED, "--one-page"], "--one-page is for a single run"),
        ([FAILED, "3", FINISHED], "of several runs all units are reported"),
        ([FAILED, "nothing"], "has no unit 'nothing', and no run 'nothing'"),
        (["--all", FAILED], "--all reports every run"),
    ],
)
def test_runs_that_cannot_be_reported_together_are_refused(line, store, arguments, said):
    status, out, err = line("report", *arguments, "--store", store)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_what_is_mistyped_is_said_in_one_line(line, store):
    for arguments in (["nothing"], [FAILED, "800"], [FAILED, "-o", str(store)]):
        status, out, err = line("report", *arguments, "--store", store)
        assert (status, out, err.count("\n")) == (2, "", 1)
