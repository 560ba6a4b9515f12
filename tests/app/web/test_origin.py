"""Who may ask, by what name, from what page: of every way that changes something, and of every page."""

import asyncio
import gzip

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from mutated import answered, serving, statuses

from app.web.answers import body, middlewares

HOSTS = ("worker-1", "qethics.example.org")
OURS = [
    "127.0.0.1",
    "127.0.0.1:80",
    "localhost:6066",
    "LOCALHOST",
    "[::1]:1",
    "127.8.8.8",
    "worker-1:6066",
    "Worker-1",
    "[::ffff:127.0.0.1]",
]
FOREIGN = [
    "evil.example",
    "evil.example:6066",
    "localhost.evil.example",
    "worker-1.evil.example",
    "127.0.0.1.evil.example",
    "10.0.0.1",
    "0.0.0.0:80",
    "[::]",
    "127.0.0.1@evil.example",
    "evil.example#127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "[::1",
    "localhost:80:80",
    "localhost.",
    "localhost\u0000",
    "\u00ff",
    "worker-1,localhost",
    "",
    "a b",
]


class Asked:
    """A process with a page and a way to change something, and how often something was changed."""

    def __init__(self, token=None):
        self.token, self.changed = token, 0

    def application(self):
        app = web.Application(middlewares=middlewares(self.token, HOSTS))
        app.add_routes([web.get(path, self.page) for path in ("/page", "/healthz", "/metrics")])
        app.add_routes([web.route(method, "/v1/change", self.change) for method in ("POST", "PUT", "DELETE")])
        return app

    async def page(self, request):
        return web.Response(text="page")

    async def change(self, request):
        await body(request)
        self.changed += 1
        return web.Response(text="changed")

    def ask(self, method="POST", path="/v1/change", content=b"{}", **headers):
        return self.ask_each([(method, path, content, headers)])[0]

    def ask_each(self, asked):
        """The status of each."""

        async def one(port, method, path, content, headers):
            given_headers = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json", **headers}
            lines = [f"{method} {path} HTTP/1.1", "Connection: close", f"Content-Length: {len(content)}"]
            lines += [
                f"{name.replace('_', '-')}: {value}" for name, value in given_headers.items() if value is not None
            ]
            request = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content
            (status,) = statuses(await answered(port, request))
            return status

        async def every():
            async with serving(self.application()) as port:
                return [await one(port, *each) for each in asked]

        return asyncio.run(every())


@pytest.mark.parametrize("host", OURS)
def test_a_name_of_ours_is_answered_to(host):
    assert Asked().ask("GET", "/page", b"", Host=host) == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_by_another_name_nothing_is_shown_or_changed(host):
    asked = Asked()
    found = asked.ask_each([
        ("GET", "/page", b"", {"Host": host}),
        ("GET", "/metrics", b"", {"Host": host}),
        ("POST", "/v1/change", b"{}", {"Host": host}),
        ("POST", f"http://{host.strip()}/v1/change", b"{}", {}),
    ])  # fmt: skip
    assert set(found) <= {400, 421}
    assert asked.changed == 0


@given(st.text(st.sampled_from("localhst127.0:[]@#\\/e %-_"), max_size=20))
def test_no_name_that_only_looks_like_ours_is_taken(host):
    from app.web.origin import _AUTHORITY, _is_address_here, _name  # noqa: PLC0415 - the rule itself, many times

    name = _name(host)
    if name in {"localhost"} or _is_address_here(name, None):
        assert host.lower().startswith((name, f"[{name}]"))
        assert _AUTHORITY.match(host)
    else:
        assert name != "localhost"


def test_who_looks_after_processes_may_call_it_as_he_likes():
    assert Asked().ask("GET", "/healthz", b"", Host="10.1.2.3:6066") == 200


def test_a_request_names_one_host():
    asked = Asked()
    assert asked.ask(Host=None) == 400
    assert asked.changed == 0


CROSS = {
    "another site": {"Origin": "http://evil.example"},
    "no site at all": {"Origin": "null"},
    "our name at another port": {"Origin": "http://127.0.0.1:1"},
    "a name with ours in it": {"Origin": "http://127.0.0.1.evil.example"},
    "fetched across sites": {"Sec_Fetch_Site": "cross-site"},
    "fetched within a site": {"Sec_Fetch_Site": "same-site"},
    "a value nobody knows": {"Sec_Fetch_Site": "x"},
}


@pytest.mark.parametrize("headers", CROSS.values(), ids=CROSS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_page_of_another_site_changes_nothing(method, headers):
    asked = Asked()
    assert asked.ask(method, **headers) == 403
    assert asked.changed == 0


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None]
)
def test_what_a_form_may_send_changes_nothing(kind):
    """The types that a page may send anywhere without being asked (https://fetch.spec.whatwg.org/)."""
    asked = Asked()
    assert asked.ask(**{"Content-Type": kind}) == 415
    assert asked.changed == 0


@pytest.mark.parametrize("packed", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x"])
def test_a_packed_body_is_not_unpacked(packed):
    asked = Asked()
    assert asked.ask(content=gzip.compress(b"{}"), Content_Encoding=packed) == 415
    assert asked.changed == 0
    assert asked.ask(Content_Encoding="identity") == 200


@pytest.mark.parametrize("headers", [{}, {"Sec_Fetch_Site": "same-origin"}, {"Sec_Fetch_Site": "none"}])
def test_programs_and_our_own_pages_change_what_they_ask(headers):
    asked = Asked()
    assert asked.ask(**headers) == 200
    assert asked.changed == 1


@pytest.mark.parametrize("path", ["/page", "/v1/change", "/nowhere", "//healthz", "/healthz/", "/%68ealthz/x"])
def test_with_a_token_nothing_but_what_watches_is_open(path):
    asked = Asked(b"token")
    found = asked.ask_each([
        ("GET", path, b"", {}),
        ("POST", path, b"{}", {}),
        ("GET", path, b"", {"Authorization": "Bearer tokem"}),
        ("GET", path, b"", {"Authorization": "Bearer "}),
    ])  # fmt: skip
    assert found == [401] * 4
    assert asked.changed == 0
    assert asked.ask("GET", "/metrics", b"") == 200
    assert asked.ask(Authorization="Bearer token") == 200
