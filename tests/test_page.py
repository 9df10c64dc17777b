"""The page of a report: whole, alone, and true, for ordinary and for odd results."""

import base64
import dataclasses
import hashlib
import html
import html.parser
import itertools
import json
import re
from importlib import resources

import numpy as np
import pytest
from example_results import NASTY, ODD, grid, make_results, make_surface

import scalepred
from scalepred.fitting.warn import Warn
from scalepred.report import format, verdict, words
from scalepred.report.page import glossary, page, points
from scalepred.report.page.next_runs import next_runs
from scalepred.report.results import Provenance, Results
from scalepred.runtime import invocation

FILES = {"predictions.csv", "fit.json", "answers.json", "figures/"}
VOID = {"meta", "br", "hr", "input", "img"}


class Reader(html.parser.HTMLParser):
    """What the page is made of; fails where tags are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):  # of SVG
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style", "title"} & {*self.open}:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every such element."""
        return [attributes for name, attributes in self.tags if name == tag]

    def having(self, attribute: str) -> list[str | None]:
        """The attribute of all elements that have it."""
        return [own[attribute] for _, own in self.tags if attribute in own]


def read(results: Results) -> Reader:
    return Reader(page.make_page(results))


@pytest.fixture(scope="module", params=ODD)
def odd(request) -> tuple[Results, str]:
    results = ODD[request.param]()
    return results, page.make_page(results)


def test_any_page_is_whole_and_alone(odd):
    _, text = odd
    seen = Reader(text)

    named = text.replace("http://www.w3.org/2000/svg", "")  # asked for by nobody
    assert not re.search(r"https?://|@import|url\((?!#)", named)
    assert not {"link", "iframe", "object", "base", "img"} & {t for t, _ in seen.tags}
    assert not [name for _, own in seen.tags for name in own if name.startswith("on")]
    assert seen.having("src") == []
    assert len(text.encode()) < 150_000
    assert len(seen.tags) < 4000


def test_the_policy_allows_the_one_script(odd):
    _, text = odd
    seen = Reader(text)

    data, script = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (own["content"] for own in seen.all("meta") if "http-equiv" in own)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy
    assert seen.all("script") == [{"type": "application/json", "id": "block"}, {}]
    assert "<" not in data
    json.loads(data)


def test_any_page_can_be_found_ones_way_in(odd):
    _, text = odd
    seen = Reader(text)

    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = seen.having("id")
    assert len(ids) == len({*ids})
    for target in seen.having("href"):
        assert target is not None
        assert target in FILES or target.removeprefix("#") in ids
    assert len(seen.all("caption")) == len(seen.all("table"))
    assert all(own.get("scope") in ("row", "col") for own in seen.all("th"))
    assert seen.having("data-card") == ["trust", "need", "worth"]


def test_any_page_says_what_was_found(odd):
    results, text = odd
    said = Reader(text).text

    for name in results.fit.parameters:
        assert format.printable(name) in said
    for warning in results.fit.warnings:
        assert format.printable(warning.code) in said
        assert format.printable(format.sentence(warning.sentence)) in said
    for answer in results.answers:
        told = words.describe_answer(answer, results.surface)
        assert format.printable(format.sentence(told)) in said
    for note in results.surface.notes:
        assert format.printable(format.sentence(note)) in said
    for row in points.in_order(results)[:3]:
        assert format.count(row.params) in said


def test_numbers_are_as_people_write_them(odd):
    _, text = odd
    said = Reader(text).text
    assert not re.search(r"\de\+\d|-0(\.0)?%|\binf\b|\bnan\b", said)


def test_text_of_a_file_stays_text():
    title = "</script><script>alert(1)</script>"
    text = page.make_page(dataclasses.replace(ODD["nasty"](), title=title))

    assert "<script>alert" not in text
    assert title in Reader(text).text
    assert format.printable(NASTY) in Reader(text).text


def test_title_facts_and_where_it_comes_from():
    made = Provenance(
        "27 Nov 2026", "scalepred-fit --task='a b'", "in/points.csv", 75.0
    )
    seen = read(dataclasses.replace(grid(), provenance=made))

    assert "Grid: how the error scales" in seen.text
    assert (
        "30 sizes (60 runs), 200 to 50,000 parameters, 100 to 3,000 examp" in seen.text
    )
    assert "law fitted on 15 of them" in seen.text
    assert "27 Nov 2026" in seen.text
    assert made.command in seen.text
    assert "Table: in/points.csv." in seen.text
    assert "in 1 min 15 s" in seen.text
    assert {*seen.having("href")} > FILES


def test_a_process_knows_its_command(monkeypatch):
    monkeypatch.setattr(invocation, "_command", "")
    assert invocation.command() == ""
    invocation.remember("scalepred-fit", ["--task=a b", "--budget=1e9"])
    assert Provenance.now().command == "scalepred-fit '--task=a b' --budget=1e9"


def test_data_have_the_tables_unit():
    said = read(ODD["scattered"]()).text
    assert "tokens" in said
    assert "examples" not in said


def test_an_answer_inside_the_runs_stands_beside_them():
    seen = read(grid())
    asked = [answer.question for answer in grid().answers]
    assert "data_needed" in asked
    assert 1 <= len(seen.having("data-measured")) < len(asked)
    assert "inside the fitted runs" in seen.text
    assert re.search(r"times the largest fitted run; checked to \d", seen.text)


def test_the_code_on_the_page_gives_the_predictions():
    text = page.make_page(grid())
    (code,) = re.findall(r'<pre id="law-code"[^>]*><code>(.*?)</code>', text, re.DOTALL)
    names: dict = {}
    exec(html.unescape(code), names)
    rows = grid().predictions
    params, data, said = np.array([(r.params, r.data, r.predicted) for r in rows]).T
    np.testing.assert_allclose(names["value"](params, data), said, rtol=1e-3)


def _warned(*codes: str) -> Results:
    found = tuple(Warn(code, f"of {code}") for code in codes)
    return dataclasses.replace(
        grid(), fit=dataclasses.replace(grid().fit, extra_warnings=found)
    )


def test_grave_warnings_come_first_with_advice():
    seen = read(_warned("flat_optimum", "few_points", "back_test_failed"))
    assert seen.having("data-severity") == ["stops", "weakens", "note"]
    advice = "add larger runs before you extrapolate"
    assert f"What to do: {format.sentence(advice)[:-1]}" in seen.text


def test_a_refusal_is_explained_above_the_cards(monkeypatch):
    results = _warned("few_points", "back_test_failed")
    refused = [one._replace(verdict="no") for one in verdict.cards(results)]
    monkeypatch.setattr(page.verdict, "cards", lambda _: refused)
    marks = [
        name if name == "data-card" else own[name]
        for _, own in read(results).tags
        for name in ("data-severity", "data-card")
        if name in own
    ]
    assert marks == ["stops", *["data-card"] * 3, "stops", "weakens"]


def test_few_large_runs_are_next():
    fit, place = grid().fit, (1e6, 1e5)
    cells = fit.next_cells(6e10, place, most=5)
    assert 1 <= len(cells) <= 5
    costs = [cell.cost for cell in cells]
    assert max(costs) <= 8 * min(costs)
    assert sum(costs) <= 6e10

    body = next_runs(grid()).body
    assert format.count(cells[0].params) in body
    assert f"± {format.percent(cells[0].after)}" in body


@pytest.mark.parametrize(
    ("kind", "said"), [("few_points", "Name a --target"), ("grid", "most, in order")]
)
def test_what_to_train_next_or_why_not(kind, said):
    assert said in next_runs(ODD[kind]()).body


def test_one_size_has_no_picture_of_both():
    surface = make_surface(np.full(8, 1e4), np.geomspace(100, 1e4, 8), 1)
    fit = scalepred.fit(surface, "power", resamples=20)
    said = read(make_results("Curve", surface, np.ones(8, bool), fit, [])).text
    assert "8 runs, 10,000 parameters, 100 to 10,000 examples" in said
    assert "Both sizes" not in said
    assert "The law fitted up to each size" not in said  # no corners either
    assert "parameters (upwards)" not in said


def test_words_are_linked_once_and_in_text_only():
    body = '<h2>The floor</h2><p title="floor">a floor, no floor</p><p>floors</p>'
    linked = glossary.link_words(body)
    assert linked.count("<a ") == 1
    assert '<p title="floor">a <a class="term" href="#word-floor">floor</a>' in linked


def test_style_and_script_come_with_the_package():
    for name in ("page.css", "page.js"):
        text = (
            resources.files("scalepred.report.page").joinpath(name).read_text("utf-8")
        )
        assert len(text) > 1000
        assert "</" not in text.replace("</svg", "")
