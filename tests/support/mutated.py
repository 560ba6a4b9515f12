"""HTTP requests that know what a good one looks like, made bad: seeded, so that each can be had again."""

import asyncio
import gzip
import json
import re
import zlib
from collections import Counter
from contextlib import asynccontextmanager
from random import Random
from typing import NamedTuple

from asking import question

from app.serving import listening, serve

#: Numbers, texts and trees that a field may hold instead.
VALUES = [
    None,
    True,
    0,
    -1,
    2**53,
    2**63,
    2**64,
    -(2**63) - 1,
    10**400,
    1e308,
    -0.0,
    "",
    " ",
    "\x00",
    "\ud800",
    "\U0001f600",
    "\u202e",
    "x" * 5_000,
    "../../etc/passwd",
    "<script>",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59",
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59",
    "2026-02-30T00:00:00Z",
    "-292277022657-01-27",
    "20260101",
    [],
    {},
    [[]],
    {"": {"": {}}},
    [None] * 1_000,
]
#: Parts of a target; `~` stands between two.
SEGMENTS = [
    *(
        b"%00~%0a~%0d%0aX:1~..~%2e%2e~%2f~%5c~%~%zz~%u0041~%ff%fe~%ed%a0%80~\xff\xfe~\xc3\xbc~;x=1~*~+~%25~%e2%80%ae"
    ).split(b"~"),
    *(b"<script>~'\"~{id}~\x00~\x7f~").split(b"~"),
    b"a" * 300,
    b"a" * 9_000,
]
QUERIES = [
    *(b"?~??~?at=~?at=nan~?at=inf~?at=-1~?at=1e308~?at=1790000000~?at=1790000000000~?at=%00~?at=\xff~?open=1").split(
        b"~"
    ),
    *(b"?open=%ff~?at=1_0~?at=%D9%A1~#fragment~?a=%zz~?=&&=").split(b"~"),
    b"?" + b"a=b&" * 1_500,
    b"?at=" + b"9" * 5_000,
]
#: Header -> values that it may have instead; `~` stands between two.
_VALUES_OF = {
    b"Host": b"evil.example~~127.0.0.1:99999~[::1~[::1]:80~a b~x\x00~\xff~localhost~LOCALHOST:1~127.1~@~user@127.0.0.1~"
    b"127.0.0.1#",
    b"Content-Length": b"-1~+5~0x5~5, 5~~99999999999999999999~1~1e3~\xb2~ 5 ",
    b"Transfer-Encoding": b"chunked~gzip~chunked, chunked~identity~xchunked~\x0bchunked",
    b"Content-Type": b"~text/plain~application/json; charset=utf-16~application/json;charset=\xff~application/json; =~"
    b"multipart/form-data; boundary=~application/x-www-form-urlencoded~application/\x80json~APPLICATION/JSON~"
    b'application/json;;;~application/json; x="',
    b"Content-Encoding": b"gzip~deflate~br~zstd~x~gzip, gzip~identity~\xff",
    b"Accept": b"~*/*~application/openmetrics-text~application/openmetrics-text;version=1.0.0;escaping=x~;;;=;,~"
    b"application/openmetrics-text;version=;escaping=~application/openmetrics-text;version=x.y~text/html;q=x~"
    b"text/plain;version=1.0.0;escaping=allow-utf-8~application/openmetrics-text; version=\xff~text/plain;escaping~"
    b"application/openmetrics-text;version=999.9~text/plain;version=1.0.0\x7f~application/openmetrics-text;version=-1",
    b"Authorization": b"Bearer~Bearer \xff~Basic !!!~Basic OnRva2Vu~Digest x~bearer  token~\x01~"
    b"Basic 4pyT~Basic \xc3\xbc",
    b"traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01~\xff~ff-0-0-0~00-" + b"0" * 5_000,
    b"Expect": b"100-continue~x~\xff",
    b"Upgrade": b"websocket~h2c~x",
    b"Connection": b"upgrade~keep-alive~close~x~\xff",
    b"Origin": b"null~http://evil.example~://~\xff~http://127.0.0.1",
    b"Sec-Fetch-Site": b"cross-site~same-site~none~same-origin~\xff",
    b"Accept-Encoding": b"gzip~\xff~*;q=0",
    b"Range": b"bytes=0-,-1,9-1~x",
    b"If-Modified-Since": b"yesterday",
    b"If-None-Match": b'"\xff',
    b"Cookie": b"a=b; \xff=;;;=",
    b"X-Forwarded-Host": b"evil.example",
    b"X-Http-Method-Override": b"DELETE",
    b"X": b"a\r\n b~\x00~" + b"a" * 9_000,
    b"X\x00": b"a",
    b"X ": b"a",
    b"": b"a",
    b"\xff": b"\xff",
    b"a" * 9_000: b"b",
}
HEADERS = [(name, value) for name, values in _VALUES_OF.items() for value in values.split(b"~")]
METHODS = [*b"GET~POST~PUT~DELETE~PATCH~HEAD~OPTIONS~TRACE~CONNECT~get~FOO~G\x00T~~\xff".split(b"~"), b"M" * 500]
VERSIONS = b"HTTP/1.0~HTTP/0.9~HTTP/2.0~HTTP/1.2~HTTP/9.9~HTTP/1.1 x~~http/1.1~HTTP/11~HTTP/1.\xb2".split(b"~")
JUNK = [
    *b'\xff~\x00~\xed\xa0\x80~"\\ud800"~\xef\xbb\xbf'.split(b"~"),
    b"[" * 65,
    b"[" * 20_000,
    b'"' + b"[" * 20_000 + b'"',
    b'{"a":' * 100,
]
CHUNKS = b"ffffffffffffffffff\r\n~-1\r\n~1;x=\xff\r\na\r\n0\r\n\r\n~0\r\nX: \x00\r\n\r\n".split(b"~")
PACKED = [(b"gzip", gzip.compress), (b"deflate", zlib.compress), (b"br", bytes), (b"zstd", bytes)]
_STATUS = re.compile(rb"HTTP/[0-9]\.[0-9] (\d{3}) ")


class Good(NamedTuple):
    """A request that is answered with 200, or with what its page answers at best."""

    method: str
    path: str
    body: object = None


def admission():
    """The gate's."""
    annotations = {"qethics-run": json.dumps({**question()["run"], "run_id": "k8s"}), "qethics-routing": "{}"}
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "operation": "CREATE",
            "userInfo": {"username": "jane"},
            "object": {"metadata": {"annotations": annotations}},
            "dryRun": True,
        },
    }
    return [
        Good("POST", "/v1/admission", question("run-1")),
        Good("POST", "/v1/admission-review", review),
        *(Good("GET", path) for path in ("/v1/directives", "/metrics", "/healthz", "/readyz")),
    ]


def notification(status="firing"):
    """What Alertmanager posts."""
    alert = {
        "status": status,
        "labels": {"alertname": "FidelityDrift", "severity": "page", "backend": "ibm_fez"},
        "annotations": {"summary": "It drifts.", "runs": "run-1"},
        "startsAt": "2026-09-21T10:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else "2026-09-21T11:00:00Z",
        "fingerprint": "0123456789abcdef",
        "generatorURL": "",
    }
    return {
        "version": "4",
        "groupKey": "{}",
        "receiver": "pager",
        "status": status,
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "",
        "truncatedAlerts": 0,
        "alerts": [alert],
    }


def paging(incident_id):
    """The pager's."""
    acts = ("acknowledge", "mitigate", "note", "resolve")
    pages = ("/v1/incidents", f"/v1/incidents/{incident_id}", "/v1/mttr", "/v1/runs/run-1", "/runs/run-1")
    return [
        Good("POST", "/v1/alertmanager", notification()),
        Good("POST", "/v1/alertmanager", notification("resolved")),
        *(Good("POST", f"/v1/incidents/{incident_id}/{act}", {"by": "jane", "text": "seen"}) for act in acts),
        *(Good("GET", path) for path in (*pages, "/runbooks/FidelityDrift", "/metrics", "/healthz", "/readyz")),
    ]


def web():
    """The worker's."""
    return [Good("GET", path) for path in ("/", "/status.json", "/detectors.json", "/metrics", "/healthz", "/readyz")]


def written(good, port, token=None):
    """The bytes of a good request."""
    return Mutated(good, port, token).bytes()


class Mutated:
    """A request in its parts, and what may be done to each of them."""

    def __init__(self, good, port, token=None):
        self.method, self.target, self.version = good.method.encode(), good.path.encode(), b"HTTP/1.1"
        self.headers = [(b"Host", b"127.0.0.1:%d" % port), (b"Connection", b"close")]
        if token is not None:
            self.headers.append((b"Authorization", b"Bearer " + token))
        self.tree = good.body
        self.body = b"" if good.body is None else json.dumps(good.body).encode()
        self.is_measured = True
        if good.body is not None:
            self.headers.append((b"Content-Type", b"application/json"))

    def bytes(self):
        headers = list(self.headers)
        if self.is_measured and self.body:
            headers.append((b"Content-Length", b"%d" % len(self.body)))
        lines = [b" ".join([self.method, self.target, self.version]), *(b": ".join(each) for each in headers)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body

    def mutate(self, random):
        """Do one bad thing to it."""
        ways = [self._target, self._query, self._header, self._header, self._line]
        if self.tree is not None:
            ways += [self._json, self._json, self._json, self._bytes, self._packed]
        random.choice(ways)(random)

    def _target(self, random):
        parts = self.target.split(b"/")
        place = random.randrange(len(parts))
        parts[place] = random.choice(
            [random.choice(SEGMENTS), parts[place] + random.choice(SEGMENTS), b"." + parts[place]]
        )
        self.target = random.choice(
            [
                b"/".join(parts),
                b"/" + self.target,
                b"http://evil.example" + self.target,
                b"http://127.0.0.1" + self.target,
                b"".join(b"%%%02x" % each for each in self.target),
                b"//[" + self.target,
                b"*",
                b"",
            ]
        )

    def _query(self, random):
        self.target += random.choice(QUERIES)

    def _header(self, random):
        name, value = random.choice(HEADERS)
        if random.random() < 0.5:
            self.headers = [each for each in self.headers if each[0] != name]
        if name in {b"Content-Length", b"Transfer-Encoding"}:
            self.is_measured = random.random() < 0.3
            if value == b"chunked" and random.random() < 0.7:
                self.body = random.choice([b"%x\r\n%s\r\n0\r\n\r\n" % (len(self.body), self.body), *CHUNKS])
        if random.random() < 0.95:
            self.headers.insert(random.randrange(len(self.headers) + 1), (name, value))

    def _line(self, random):
        if random.random() < 0.6:
            self.method = random.choice(METHODS)
        else:
            self.version = random.choice(VERSIONS)

    def _json(self, random):
        """Put something else into one place of the tree, take it away, or give it twice."""
        tree = json.loads(json.dumps(self.tree))
        place = tree
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = random.choice(keys)
            inner = place[key]
            if isinstance(inner, dict | list) and inner and random.random() < 0.8:
                place = inner
                continue
            choice = random.random()
            if choice < 0.7:
                place[key] = random.choice(VALUES)
            elif choice < 0.85:
                del place[key]
            elif isinstance(place, dict):
                place[random.choice(["", "\x00", "x" * 300, "__proto__", "alerts", "routing"])] = inner
            break
        self.tree = tree
        text = json.dumps(tree)
        if random.random() < 0.1:
            text = text.replace("1", random.choice(["NaN", "1e999", "-Infinity", "0x1", "1" * 5_000, "01", "1."]), 1)
        self.body = text.encode()

    def _bytes(self, random):
        body = bytearray(self.body)
        for _ in range(random.randint(1, 4)):
            if body:
                body[random.randrange(len(body))] = random.randrange(256)
        junk = random.choice(JUNK)
        place = random.randrange(len(body) + 1)
        self.body = random.choice(
            [
                bytes(body),
                self.body[:place],
                self.body[:place] + junk + self.body[place:],
                junk,
                self.body * 2,
                self.body.decode(errors="replace").encode("utf-16"),
                b"\xef\xbb\xbf" + self.body,
            ]
        )

    def _packed(self, random):
        name, pack = random.choice(PACKED)
        self.headers.append((b"Content-Encoding", name))
        body = pack(random.choice([self.body, b" " * 3_000_000, b"[" * 100_000]))
        self.body = body if random.random() < 0.6 else body[: len(body) // 2] + b"junk"


async def answered(port, request, seconds=10.0):
    """Everything that is answered, until the connection is closed or the time is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = b""
    try:
        writer.write(request)
        async with asyncio.timeout(seconds):
            while chunk := await reader.read(2**16):
                found += chunk
                if b"100 Continue" not in found and _is_whole(found) and b"onnection: close" not in found:
                    break  # it is kept open for another request
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return found


def _is_whole(answer):
    head, found, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(found) and (length is None or len(body) >= int(length[1]))


def statuses(answer):
    """The status of every answer among some bytes."""
    return [int(each) for each in _STATUS.findall(answer)]


@asynccontextmanager
async def serving(pages):
    """The port at which pages are served, as a process serves them."""
    with listening("127.0.0.1", 0, "web_port") as listener:
        stop = await serve(pages, listener)
        try:
            yield listener.getsockname()[1]
        finally:
            await stop()


def is_fault(answer):
    """Whether an answer says that we failed. What cannot be answered now, and says why in our form, is no fault."""
    if not any(status >= 500 for status in statuses(answer)):
        return b"Traceback" in answer
    body = answer.rpartition(b"\r\n\r\n")[2]
    try:
        said = json.loads(body)
    except ValueError:
        return True
    return said.get("status") not in {503, 504} or not said.get("detail")


async def flood(port, good, token, numbers, *, at_once=48):
    """Send requests, each mutated as its number says; statuses -> how many, and those that found a fault."""
    found, faults, numbers = Counter(), [], iter(numbers)

    async def some():
        for number in numbers:
            random = Random(number)
            one = Mutated(random.choice(good), port, token)
            for _ in range(random.randint(1, 3)):
                one.mutate(random)
            request = one.bytes()
            answer = await answered(port, request)
            found.update(statuses(answer) or ["none"])
            if is_fault(answer):
                faults.append((number, request[:2_000], answer[:500]))

    await asyncio.gather(*(some() for _ in range(at_once)))
    return found, faults
