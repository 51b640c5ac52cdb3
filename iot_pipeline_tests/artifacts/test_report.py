"""The report's page has the numbers it should, needs nothing else, and escapes what it is told."""

import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from iot_pipeline.artifacts.report import render_report
from iot_pipeline.core.checks.verdicts import Severity
from iot_pipeline.core.fleet.report import LastAudit, Mood
from iot_pipeline.core.ledger.chain import Counts, Outcome
from iot_pipeline.core.reading.lag import TotalLag
from iot_pipeline_tests.artifacts.views import NOW, make_health, make_view, verdict


class Page(HTMLParser):
    """The text people read, tags, and every address in it."""

    def __init__(self, html):
        super().__init__()
        self.text, self.tags, self.addresses, self._hidden = "", [], [], False
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._hidden = tag in ("style", "title")
        self.addresses += [v for k, v in attrs if k in ("src", "srcset", "href", "action")]

    def handle_endtag(self, tag):
        self._hidden = False
        self.text += " " if tag in ("td", "th", "p", "li", "h1", "h2", "h3") else ""

    def handle_data(self, data):
        self.text += "" if self._hidden else data


def mood_of(question, **changes):
    health = make_health(**changes)
    (answer,) = [item for item in health.answers if question in item.question]
    return answer.mood, answer.answer


@pytest.fixture(scope="module")
def restless():
    return render_report(_restless())


def _restless():
    return make_health(
        make_view(40),
        letters={"not_json": 1_230, "out_of_range": 4},
        verdicts=[
            verdict("lag_is_within_limit", "0 offsets are waiting."),
            verdict("dead_letters_are_few", "Too many: see `iot dead-letters`.", Severity.WARN),
            verdict("ledger_has_no_gap", "A gap of 5. Stop the sensor.", Severity.ERROR),
        ],
    )


def test_the_page_has_its_numbers_names_and_pictures(restless):
    page = Page(restless)
    for said in (
        "987,654 readings are in the table",
        "13 of 40 devices: sensor-in-district-1, ",
        "1,234 messages of the last day could not be readings",
        "not readable as JSON 1,230",
        "no reading for 2 h, usually one every 10 s",
        "compared 987,000 messages",
        "2 of 3 checks ask for attention",
        "Something is wrong and needs a person.",
    ):
        assert said in page.text, said
    todo = page.text.index("What is to be done Ledger has no gap."), page.text.index("Too many")
    assert todo[0] < todo[1], "errors before warnings"
    assert page.tags.count("img") == 4
    assert page.tags.count("source") == 4


def test_the_page_needs_nothing_else_and_says_nothing_of_offsets_of_its_own(restless):
    page = Page(restless)
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not re.search(r"url\(|@import|https?:", restless)
    assert "@media print" in restless
    assert "prefers-color-scheme: dark" in restless
    assert len(restless) < 500_000


def test_what_devices_are_called_is_text_never_markup():
    evil = '<img src=x onerror="alert(1)">{}'
    red = verdict("schema_matches", "table `<b>x</b>` & more", Severity.WARN)
    html = render_report(make_health(make_view(4, name=evil), topic="<i>", verdicts=[red]))
    page = Page(html)
    assert "<b>" not in html
    assert "<i>" not in html
    assert "onerror=" not in re.sub(r"&lt;.*?&gt;", "", html)
    assert evil.format(1) in page.text
    assert "<code>&lt;b&gt;x&lt;/b&gt;</code> &amp; more" in html


def test_all_is_well_only_when_all_is_well():
    view = make_view(0)
    assert mood_of("stored", view=view)[0] is Mood.GOOD
    assert mood_of("to be done", view=view)[0] is Mood.GOOD
    page = Page(render_report(make_health(make_view(3), verdicts=[])))
    assert "All is well" not in page.text, "one of the three is silent"


@pytest.mark.parametrize(
    ("changes", "mood", "words"),
    [
        ({"flaws": ["partition 0 at 5: a gap of 3 offsets"]}, Mood.BAD, "books do not add up"),
        ({"lost": {Outcome.EXPIRED: 1_200}}, Mood.BAD, "up to 1,200 deleted by Kafka before they"),
        ({"audit": LastAudit(NOW, {"stored": 5, "lost": 2, "stray": 1})}, Mood.BAD, "3 readings"),
        ({"lag": TotalLag(70, 61.0)}, Mood.LOOK, "70 messages wait, the oldest since 1 min"),
        ({"lag": TotalLag(70, 6.0)}, Mood.GOOD, "70 are on their way"),
        ({"totals": Counts()}, Mood.LOOK, "Nothing was ingested yet"),
    ],
)
def test_whether_everything_is_stored_is_answered_by_what_is_worst(changes, mood, words):
    found, answer = mood_of("stored", **changes)
    assert found is mood
    assert words in answer


def test_an_old_audit_and_none_say_how_to_make_one():
    for audit in (None, LastAudit(NOW - timedelta(days=3), {"stored": 5})):
        assert "iot audit --all" in Page(render_report(make_health(audit=audit))).text


def test_silence_lateness_and_refusals_have_their_own_answers():
    view = make_view(40)
    assert mood_of("silent", view=view)[0] is Mood.LOOK
    assert mood_of("late", view=view)[1].startswith("Half of them within")
    assert mood_of("refused", view=view) == (
        Mood.GOOD,
        "1,234 messages of the last day could not be readings (0.25%).",
    )
    red = [verdict("dead_letters_are_few", "Too many.", Severity.WARN)]
    assert mood_of("refused", view=view, verdicts=red)[0] is Mood.LOOK
    assert mood_of("silent", view=make_view(0))[0] is Mood.LOOK
