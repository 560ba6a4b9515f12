"""Names from outside: whatever is given, what comes of it is safe where it goes, and no two are taken for one."""

import html
import json
import logging
import re
import sys
from html.parser import HTMLParser
from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.names import file_name, label_name, label_value, markup, one_line, printed, url_part
from app.serving import OneLine

SUSPECTS = [
    "",
    ".",
    "..",
    "...",
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "C:\\boot.ini",
    "\\\\host\\share",
    "~root",
    "-rf",
    ".hidden",
    "a/b",
    "a\x00b",
    "a\nb",
    "a\rb",
    "a\r\nX-Injected: 1",
    "a\u2028b\u2029c\x85d",
    "\u202eexe.txt",
    "\u2066\u2069",
    "\ud800",
    "\udfff\ud800",
    "x" * 100_000,
    "CON",
    "nul",
    "com1",
    "LPT9",
    "aux.tar.gz",
    "%2e%2e%2fetc%2fpasswd",
    "%00",
    "\x1b[2J\x1b]0;title\x07",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "]]>&amp;&#0;",
    "{{7*7}}${jndi:ldap://x}",
    "a,b=c}d{",
    "a ",
    " ",
    "\ufeff",
    "ü\u0308",
    "\U0001f600",
]


def every_suspect(function):
    for suspect in SUSPECTS:
        function = example(suspect)(function)
    return given(st.text(st.characters(codec=None), max_size=80))(function)


@every_suspect
def test_a_file_name_is_one_plain_name_on_every_system(text):
    name = file_name(text)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name)
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        assert (path.name, path.parts, path.is_absolute()) == (name, (name,), False)
    assert not PureWindowsPath(f"{name}.tar.gz").is_reserved()
    assert file_name(name) == name


@given(st.lists(st.text(st.sampled_from("ab/.\x00%-_N\ud800"), max_size=6), max_size=30, unique=True))
def test_no_two_texts_have_one_file_name(texts):
    assert len({file_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("name", ["0123456789abcdef", "run-1", "A_b"])
def test_an_ordinary_id_stays_as_it_is(name):
    assert file_name(name) == one_line(name) == label_value(name) == markup(name) == url_part(name) == name


@every_suspect
def test_a_line_is_one_line_without_anything_that_a_terminal_obeys(text):
    line = one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    assert line.encode().decode() == line
    assert one_line(line) == line
    if text.isprintable():
        assert line == text


@every_suspect
def test_a_text_has_the_lines_it_had_and_no_others(text):
    found = printed(text, most=10_000_000)
    assert all(line.isprintable() for line in found.split("\n"))
    assert found.count("\n") == text.count("\n")
    assert len(printed(text, most=10)) <= 10


@every_suspect
def test_labels_are_what_prometheus_and_alertmanager_take(text):
    assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", label_name(text))
    value = label_value(text)
    assert value.isprintable()
    assert len(value) <= 1_000
    assert value.encode().decode() == value


class Parsed(HTMLParser):
    """The tags, attributes and text of a piece of HTML."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))

    def handle_data(self, data):
        self.text += data


@every_suspect
def test_markup_is_text_between_tags_and_in_attributes_alone(text):
    page = Parsed()
    page.feed(f"<p title=\"{markup(text)}\" lang='{markup(text)}'>{markup(text)}</p>")
    page.close()
    shown = one_line(text)
    assert page.tags == [("p", [("title", shown), ("lang", shown)])]
    assert page.text == shown
    assert html.unescape(markup(text)) == shown


@every_suspect
def test_a_part_of_an_address_stays_that_part(text):
    part = url_part(text)
    url = urlsplit(f"https://host/a/{part}/b?q={part}")
    assert (url.netloc, url.path.count("/"), url.fragment) == ("host", 3, "")
    assert re.fullmatch(r"[A-Za-z0-9_.~%-]*", part)
    assert part not in {".", ".."}
    replaced = text.encode(errors="replace").decode()
    assert unquote(part) == replaced
    assert parse_qs(url.query, keep_blank_values=True) == {"q": [replaced]}


@every_suspect
def test_a_log_message_is_one_line_and_a_traceback_is_indented(text):
    def written(message, error=None):
        try:
            raise ValueError(message) if error else RuntimeError
        except (ValueError, RuntimeError):
            return OneLine().format(
                logging.LogRecord("qethics", 40, "", 0, "said %s", (message,), sys.exc_info() if error else None)
            )

    assert len(written(text).splitlines()) == 1
    first, *rest = written(text, error=True).split("\n")
    assert first.endswith(f"said {one_line(text)}")
    assert rest
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    assert json.dumps(first)


@pytest.mark.parametrize("safe", [label_value, printed])
def test_a_name_calls_nobody_in_a_chat(safe):
    for call in ("<!channel>", "<!subteam^S1>", "<@U1>", "<#C1>", "@everyone", "@here"):
        assert call not in safe(f"runs are sent to {call}, where they may not go")
    for harmless in ("a <b> c", "jane@all.example", "1 < 2", "@nobody"):
        assert safe(harmless) == harmless
