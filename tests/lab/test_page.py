"""The page: opened in a real browser, and made from results that are incomplete, old, broken, or many."""

import json
import re
from pathlib import Path

import pytest

from jaxcache.lab.analysis.findings import Findings
from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.layout import MANIFEST, PAGE, RESULT
from jaxcache.lab.report.images import themes
from jaxcache.lab.report.page import page as page_of
from jaxcache.lab.report.write import write_report
from tests._support.browser import chromium

from .._support.mapped import mapped_grid, write_mapped
from .._support.results import failed, result, write_sweep


def page(sweep):
    return page_of(Findings(sweep))


def sweep_page(place, results, **options):
    return read_sweep(write_sweep(place, results, **options))


def policies(seeds=6):
    made = [result("lru", seed, cost_seconds=20.0 + seed) for seed in range(seeds)]
    made += [result("gdsf", seed, cost_seconds=10.0 + seed / 2, hits=70) for seed in range(seeds)]
    return [*made, failed(reason="<b>killed</b> & gone", seed=77)]


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    place = write_sweep(tmp_path_factory.mktemp("page") / "a sweep", policies())
    write_report(place)
    return place / PAGE


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A page with the map of two programs."""
    grid = mapped_grid(policies=("lru", "gdsf", "sieve"), seeds=(0, 1), workloads=("monte_carlo", "least_squares"))
    place = write_mapped(tmp_path_factory.mktemp("page") / "mapped", grid)
    write_report(place)
    return place / PAGE


class Opened:
    """A page in the browser, with what it said and what it asked for."""

    def __init__(self, browser, path: Path, **options) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page.set_default_timeout(120_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def draw_all(self) -> None:
        self.open_all()
        for chart in self.page.query_selector_all(".chart"):
            chart.evaluate("one => one.scrollIntoView()")  # Playwright's own waits for frames, late on a busy machine
            self.page.wait_for_function("one => one.querySelector('svg')", arg=chart)

    def open_all(self) -> None:
        self.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")

    def column(self, number: int) -> list[str]:
        return self.page.eval_on_selector_all(
            f"#trials-table tbody tr td:nth-child({number})", "cells => cells.map(one => one.textContent)"
        )


@pytest.fixture
def opened(browser, written):
    one = Opened(browser, written)
    yield one
    one.page.close()


def test_every_chart_is_drawn_without_a_word_in_the_console_and_without_a_request(opened, written):
    opened.draw_all()
    drawn = opened.page.eval_on_selector_all(".chart svg", "all => all.map(one => one.querySelectorAll('path').length)")
    assert len(drawn) == 6
    assert min(drawn) > 3
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [written.as_uri()]


def test_the_answer_stands_first(opened):
    sentence = opened.page.text_content("#answer .sentence")
    assert sentence.startswith("Take gdsf with a limit of 2 MiB: 11.2 compile seconds a run, 11.2 less than lru")
    assert opened.page.evaluate("document.querySelector('main').firstElementChild.id") == "answer"


def test_the_table_sorts_by_number_and_back(opened):
    opened.open_all()
    heads = opened.page.eval_on_selector_all("#trials-table th", "all => all.map(one => one.textContent)")
    place = heads.index("reference compile s") + 1
    button = opened.page.locator(f"#trials-table th:nth-child({place}) button")
    button.click()
    rising = opened.column(place)
    assert rising[-1] == "–"  # the failed one has no number, and comes last
    numbers = [float(one) for one in rising[:-1]]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 5
    button.click()
    assert opened.column(place)[:-1] == [f"{one:.2f}" for one in sorted(numbers, reverse=True)]
    assert opened.page.get_attribute(f"#trials-table th:nth-child({place})", "aria-sort") == "descending"


def test_the_table_filters_by_words_and_by_status(opened):
    opened.open_all()
    opened.page.fill("#trials-filter", "GDSF monte")
    assert set(opened.column(3)) == {"gdsf"}
    assert opened.page.text_content("#trials-count") == "6 of 13 trials"
    opened.page.fill("#trials-filter", "")
    opened.page.select_option("#trials-status", "failed")
    assert opened.column(2) == ["failed"]


def test_the_table_can_be_sorted_with_the_keyboard(opened):
    opened.page.focus("#trials summary")
    opened.page.keyboard.press("Enter")
    opened.page.focus("#trials-table th:nth-child(7) button")
    opened.page.keyboard.press("Enter")
    assert opened.page.get_attribute("#trials-table th:nth-child(7)", "aria-sort") == "ascending"


def test_charts_and_page_follow_the_reader_into_the_dark(opened):
    opened.draw_all()
    light = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    opened.page.emulate_media(color_scheme="dark")
    colour = themes()["dark"]["range"]["category"][0]
    opened.page.wait_for_function(
        "colour => document.querySelector('#map svg').outerHTML.toLowerCase().includes(colour.toLowerCase())",
        arg=colour,
    )
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert opened.said == []


def test_a_narrow_window_does_not_scroll_sideways(browser, written):
    one = Opened(browser, written, viewport={"width": 360, "height": 700})
    one.draw_all()
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 360
    one.page.close()


def test_the_map_is_the_first_picture_and_large_and_evidence_is_folded_away(browser, mapped):
    one = Opened(browser, mapped)
    one.page.wait_for_selector("#map svg")
    order = one.page.eval_on_selector_all("main > [id]", "all => all.map(each => each.id)")
    assert order[:3] == ["answer", "map", "suggestions"]
    box = one.page.locator("#map svg").first.bounding_box()
    assert box["width"] > 450
    assert box["height"] > 380
    assert one.page.eval_on_selector_all("details.fold", "all => all.filter(each => each.open).length") == 0
    one.page.click("nav a[href='#trials']")
    one.page.wait_for_function("document.getElementById('trials').open")
    assert mapped.stat().st_size < 2_000_000
    assert one.said == []
    one.page.close()


def test_the_print_has_what_is_folded_away(browser, mapped):
    one = Opened(browser, mapped)
    one.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    one.page.wait_for_function("[...document.querySelectorAll('.chart')].every(one => one.querySelector('svg'))")
    assert one.page.eval_on_selector_all("details", "all => all.filter(each => !each.open).length") == 0
    one.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert one.page.eval_on_selector_all("details", "all => all.filter(each => each.open).length") == 0
    one.page.close()


@pytest.mark.parametrize("width", [390, 800])
def test_legends_titles_and_ticks_are_whole(browser, mapped, width):
    one = Opened(browser, mapped, viewport={"width": width, "height": 800})
    one.draw_all()
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    cut = one.page.evaluate(
        """() => [...document.querySelectorAll('.chart svg')].flatMap((svg) => {
            const frame = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter((text) => {
                const box = text.getBoundingClientRect();
                return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1);
            }).map((text) => text.textContent);
        })"""
    )
    assert cut == []
    texts = one.page.eval_on_selector_all(".chart text", "all => all.map(each => each.textContent)")
    assert [text for text in texts if text.endswith("…")] == []
    overlapping = one.page.evaluate(
        """() => [...document.querySelectorAll('.chart .role-axis-label')].flatMap((axis) => {
            const boxes = [...axis.querySelectorAll('text')]
                .filter((t) => t.textContent.trim() && Number(t.getAttribute('opacity') ?? 1) > 0)
                .map((t) => ({ text: t.textContent, box: t.getBoundingClientRect() }));
            return boxes.flatMap((a, n) => boxes.slice(n + 1).filter((b) => a.box.left < b.box.right - 1 &&
                b.box.left < a.box.right - 1 && a.box.top < b.box.bottom - 1 && b.box.top < a.box.bottom - 1)
                .map((b) => `${a.text} ${b.text}`));
        })"""
    )
    assert overlapping == []
    one.page.close()


def test_text_alternatives_tell_the_numbers(browser, mapped):
    one = Opened(browser, mapped)
    one.draw_all()
    texts = one.page.eval_on_selector_all(".chart", "all => all.map(each => each.getAttribute('aria-label'))")
    assert len(texts) >= 6
    assert all(re.search(r"\d", text) for text in texts)
    assert "The best policy, lru and the bound at each limit: " in texts[0]
    one.page.close()


def test_what_results_say_is_text_not_markup(opened):
    assert "<b>killed</b> & gone" in opened.page.text_content("#failures")
    assert opened.page.query_selector("#failures b") is None


@pytest.mark.in_turns
def test_ten_thousand_trials_open_in_seconds_and_weigh_less_than_ten_megabytes(browser, tmp_path):
    sweep = sweep_page(tmp_path / "s", [result("lru"), result("gdsf")])
    first = sweep.results[0]
    limits = [2**20 * n for n in range(1, 51)]
    many = [
        first.model_copy(update={
            "trial_id": f"{n:012x}",
            "config": first.config.model_copy(update={"seed": n // 50, "memory_limit": limits[n % 50]}),
        })
        for n in range(10_000)
    ]  # fmt: skip
    place = write_sweep(tmp_path / "many", many, references=False)
    write_report(place)
    assert (place / PAGE).stat().st_size < 10_000_000
    one = Opened(browser, place / PAGE)
    assert one.page.text_content("#trials-count") == "10000 of 10000 trials, the first 50 shown"
    one.open_all()
    one.page.fill("#trials-filter", "00000000270f")
    assert one.page.text_content("#trials-count") == "1 of 10000 trials"
    assert one.said == []
    one.page.close()


# What is missing: said on the page. These need no browser.


def missing(sweep):
    text = page(sweep)
    found = re.search(r'<section id="missing">.*?</section>', text, re.DOTALL)
    return re.sub("<[^>]+>", "", found[0]) if found else ""


def test_nothing_is_called_missing_where_all_is_there(tmp_path):
    assert missing(read_sweep(write_mapped(tmp_path / "s", mapped_grid()))) == ""


@pytest.mark.parametrize("results", [[], [failed()]], ids=["none", "failed"])
def test_a_sweep_without_a_successful_trial_says_so(tmp_path, results):
    text = page(sweep_page(tmp_path / "s", results))
    assert "No trial succeeded, so there is nothing to choose from." in text
    assert "Without a successful trial there is no evidence for any change." in text


def test_a_sweep_that_was_cut_off_has_a_page_though_some_settings_lack_the_baseline(tmp_path):
    made = [result("gdsf", limit="1MiB"), result("gdsf"), result("lru", limit="1MiB"), failed(eviction="lru")]
    made.append(result("sieve", workload="least_squares"))
    text = page(sweep_page(tmp_path / "sweep", made, ended="interrupted"))
    assert "4 of 5 trials succeeded" in text


def test_one_trial_is_no_comparison(tmp_path):
    text = page(sweep_page(tmp_path / "s", [result()]))
    assert "One setting was tried, lru with a limit of 2 MiB: 10.0 compile seconds" in text
    assert "One policy was tried, so the sweep says nothing of others." in text


def test_a_truncated_result_is_named(tmp_path):
    place = write_sweep(tmp_path / "s", policies())
    victim = sorted(place.glob(f"trials/*/{RESULT}"))[0]
    victim.write_text(victim.read_text()[:200])
    said = missing(read_sweep(place))
    assert f"{victim.relative_to(place)} is no JSON, as if cut short" in said
    assert "1 of 13 trials left no result that can be read" in said
    victim.write_text("")
    assert "is empty" in missing(read_sweep(place))


def test_a_result_of_another_schema_version_is_named(tmp_path):
    place = write_sweep(tmp_path / "s", policies())
    victim = sorted(place.glob(f"trials/*/{RESULT}"))[0]
    victim.write_text(json.dumps({**json.loads(victim.read_text()), "schema_version": 2}))
    assert "is of schema version 2, this jaxcache reads version 1" in missing(read_sweep(place))


def test_results_of_before_the_course_was_recorded_are_read_and_said_to_lack_it(tmp_path):
    place = write_sweep(tmp_path / "s", policies())
    for path in place.glob(f"trials/*/{RESULT}"):
        old = json.loads(path.read_text())
        del old["course"]
        if old["statistics"]:
            del old["statistics"]["by_function"]
        path.write_text(json.dumps(old))
    sweep = read_sweep(place)
    assert len(sweep.results) == 13
    assert "older version of jaxcache: they have no charts of memory" in missing(sweep)
    assert 'id="map"' in page(sweep)
    assert 'id="memory"' not in page(sweep)
    assert "all functions" in page(sweep)  # causes are known, not by which function


def test_a_manifest_that_cannot_be_read_is_named(tmp_path):
    place = write_sweep(tmp_path / "s", policies())
    (place / MANIFEST).write_text("{")
    assert "the command, the order and the plan are not known" in missing(read_sweep(place))


def test_missing_references_are_named(tmp_path):
    assert "have no reference run" in missing(sweep_page(tmp_path / "s", policies(), references=False))


def test_the_bound_is_shown_where_it_is_known(tmp_path):
    place = write_sweep(tmp_path / "s", policies())
    bounds = {(one.program_id, one.config.memory_limit): 5.5 for one in read_sweep(place).results}
    text = page(read_sweep(place, bounds))
    assert "<b>5.5 s</b><span>bound: no policy is lower at this limit</span>" in text
    assert "bound: no policy" not in page(read_sweep(place))


@pytest.mark.parametrize(
    ("words", "place"), [("", "outputs"), (" sweep.directory=/data/mine/", "/data/mine"), (" 'sweep.directory=a'", "a")]
)
def test_the_commands_of_a_page_name_the_directory_of_the_sweep(words, place, tmp_path):
    directory = write_sweep(tmp_path / "s", [result()])
    manifest = json.loads((directory / MANIFEST).read_text())
    (directory / MANIFEST).write_text(json.dumps({**manifest, "command": f"{manifest['command']}{words}"}))
    text = page(read_sweep(directory))
    assert f"python -m flows.report {place}/s  # this report" in text
    assert f"--config-dir {place}/s/trials/&lt;id&gt; --config-name config" in text
