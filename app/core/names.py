"""Names from outside, made safe for where they go: a line, a file, a label, a page, a part of an address. Pure.

Whoever may write to a topic or send a request chooses ids, names and texts. There is one function for each place that
such a text may go to, and nothing from outside goes there without it. None of them raises, whatever it is given.
"""

import html
import re
from hashlib import sha256
from typing import Final
from urllib.parse import quote

#: A name that is a file's as it stands: it names no directory, hides nothing and means nothing to a shell.
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_NO_FILE: Final = re.compile(r"[^A-Za-z0-9_-]+")
#: Names that Windows keeps for devices, with any extension
#: (https://learn.microsoft.com/windows/win32/fileio/naming-a-file#naming-conventions).
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])\Z", re.IGNORECASE)
_KEPT_OF_FILE: Final = 32
_DIGEST: Final = 16
#: Label names of Prometheus' data model (https://prometheus.io/docs/concepts/data_model/).
_NO_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")
_MOST_LABEL: Final = 1_000
#: What calls people in chats, which show summaries and labels as they come: <!channel> and <@U1> in Slack
#: (https://docs.slack.dev/messaging/formatting-message-text/#special-mentions), @everyone and @here in others.
_MENTION: Final = re.compile(r"<(?=[!@#])|(?<!\w)@(?=(?:everyone|here|channel|all)\b)")


def one_line(text: str) -> str:
    r"""Return a text as one line that shows all of itself.

    What is not printable is written as Python's escape: line ends of every kind, control characters (those that
    terminals obey as well), marks that turn the direction of writing, lone surrogates. What it returns can be encoded.

    >>> one_line("one\nINFO two\u202e\ud800")
    'one\\nINFO two\\u202e\\ud800'
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def file_name(text: str) -> str:
    """Return a name for a file, of 1 to 64 ASCII letters, digits, `_` and `-`; an extension may be put after it.

    A text that is such a name already stays as it is. Of any other there is left what may be, and a digest of the
    whole, so that different texts have different names.

    >>> file_name("../../etc/passwd")
    'etc-passwd-3754d6cb3a38e118'
    """
    if _FILE.match(text) and not _DEVICE.match(text):
        return text
    digest = sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST]
    kept = _NO_FILE.sub("-", text[: 4 * _KEPT_OF_FILE]).strip("-_")[:_KEPT_OF_FILE]
    return f"{kept or 'name'}-{digest}"


def label_name(text: str) -> str:
    """Return a label name of Prometheus and Alertmanager: what it cannot have is `_`.

    >>> label_name("1st stage")
    '_1st_stage'
    """
    found = _NO_LABEL.sub("_", text) or "_"
    return f"_{found}" if found[0].isdigit() else found


def label_value(text: str) -> str:
    """Return a label value of at most 1,000 characters, on one line, that calls nobody in a chat.

    >>> label_value("<!channel> all is well")
    '< !channel> all is well'
    """
    return _MENTION.sub(r"\g<0> ", one_line(text[:_MOST_LABEL]))[:_MOST_LABEL]


def markup(text: str) -> str:
    """Return a text as it may stand in HTML, between tags or inside a quoted attribute.

    >>> markup('"><script>')
    '&quot;&gt;&lt;script&gt;'
    """
    return html.escape(one_line(text))


def url_part(text: str) -> str:
    """Return a text as one segment of a path, or one value of a query (RFC 3986, section 2.1).

    A dot is written as it is, but a segment of dots alone would mean a directory.

    >>> url_part("a/b?c"), url_part("..")
    ('a%2Fb%3Fc', '%2E%2E')
    """
    found = quote(text, safe="", errors="replace")
    return found.replace(".", "%2E") if found in {".", ".."} else found


def printed(text: str, most: int = 8_000) -> str:
    """Return a text that may have several lines, of at most `most` characters: each line shows all of itself."""
    return _MENTION.sub(r"\g<0> ", "\n".join(one_line(line) for line in text[:most].split("\n")))[:most]
