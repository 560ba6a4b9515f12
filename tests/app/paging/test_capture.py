"""What a bundle of evidence holds: everything, to the end, of every source that can be had."""

import asyncio
import io
import json
import tarfile
from hashlib import sha256

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.broker import free_port
from app.core.incidents import Incident
from app.paging import capture
from app.paging.records import Affected

#: Larger than what arrives at once, and sent in pieces.
PAGE = [json.dumps({str(piece): "x" * 50_000}).encode() for piece in range(20)]


async def in_pieces(request):
    answer = web.StreamResponse()
    await answer.prepare(request)
    for piece in PAGE:
        await answer.write(piece)
        await asyncio.sleep(0)
    await answer.write_eof()
    return answer


async def broken(request):
    return web.Response(status=500, text="x")


def bundle(directory, sources):
    """The files of a bundle, by name; `sources` makes them of a session and the address of a server."""

    async def made():
        app = web.Application()
        app.add_routes([web.post("/broken/api/v1/query_range", broken), web.route("*", "/{path:.*}", in_pieces)])
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            address = str(server.make_url("")).rstrip("/")
            found = await capture.Capture(directory, sources(session, address))(Incident(incident_id="one"))
            return found, address

    found, address = asyncio.run(made())
    content = found.path.read_bytes()
    assert sha256(content).hexdigest() == found.digest
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}
    digests = json.loads(files["manifest.json"])["files"]
    assert {name: sha256(files[name]).hexdigest() for name in digests} == digests
    return files, found.missing, address


def test_a_page_that_comes_in_pieces_is_kept_to_its_end(tmp_path):
    files, missing, address = bundle(
        tmp_path,
        lambda session, address: {
            "workers.json": capture.page_of(session, [address], "/status.json"),
            "metrics.json": capture.metrics_around(session, address),
        },
    )
    assert files["metrics.json"] == b"".join(PAGE)
    assert json.loads(files["workers.json"]) == {address: b"".join(PAGE).decode()}
    assert not missing


def test_a_worker_that_is_gone_costs_the_evidence_of_no_other(tmp_path):
    gone = f"http://127.0.0.1:{free_port()}"
    files, missing, address = bundle(
        tmp_path,
        lambda session, address: {"workers.json": capture.page_of(session, [gone, address], "/status.json")},
    )
    pages = json.loads(files["workers.json"])
    assert pages[address] == b"".join(PAGE).decode()
    assert pages[gone].startswith("not to be had: Client")
    assert missing["workers.json"].startswith(f"{gone} not to be had: Client"), "and that it is not all is said"


def test_a_prometheus_that_has_nothing_of_ours_is_no_evidence(tmp_path):
    async def nothing(request):
        return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": []}})

    async def made():
        app = web.Application()
        app.add_routes([web.post("/api/v1/query_range", nothing)])
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            read = capture.metrics_around(session, str(server.make_url("")).rstrip("/"))
            return await read(Incident(incident_id="one"))

    assert asyncio.run(made()).lacks == "Prometheus has no figure of ours"


def test_what_two_sources_need_is_read_once_for_an_incident_and_anew_for_the_next():
    read = []

    async def source(incident):
        read.append(incident.incident_id)
        await asyncio.sleep(0)
        if incident.incident_id == "broken":
            raise OSError("gone")
        return incident.incident_id

    async def asked():
        shared = capture.once(source)
        names = ("one", "two", "one", "broken", "broken")
        found = await asyncio.gather(*(shared(Incident(incident_id=name)) for name in names), return_exceptions=True)
        return found, await shared(Incident(incident_id="one"))

    found, again = asyncio.run(asked())
    assert (found[:3], again) == (["one", "two", "one"], "one")
    assert [str(error) for error in found[3:]] == ["gone", "gone"], "both are told"
    assert read == ["one", "two", "broken", "one"]


def test_runs_to_look_at_are_of_each_kind_in_turn():
    found = Affected("", "", {"a": ["1", "2", "3"], "b": ["2"], "c": [str(number) for number in range(10, 30)]})
    assert capture.some_of(found) == ["1", "2", "10", "11", "3", "12", "13", "14", "15", "16"]
    assert capture.some_of(Affected("", "")) == []


@pytest.mark.parametrize("most", [sum(map(len, PAGE)) - 1, 10])
def test_what_is_too_large_or_an_error_is_missing_with_the_reason(tmp_path, monkeypatch, most):
    monkeypatch.setattr(capture, "_MOST_BYTES", most)
    files, missing, _ = bundle(
        tmp_path,
        lambda session, address: {
            "metrics.json": capture.metrics_around(session, address),
            "broken.json": capture.metrics_around(session, f"{address}/broken"),
        },
    )
    assert set(files) == {"incident.json", "manifest.json"}
    assert set(missing) == {"metrics.json", "broken.json"}
    assert "bytes" in missing["metrics.json"]


@pytest.mark.parametrize(
    "incident_id", ["/{0}/pwned", "../../pwned", "..", "", "a\x00b", "n\nb", "x" * 10_000, "\ud800"]
)
def test_an_id_that_is_a_path_has_its_bundle_in_the_directory_like_any_other(tmp_path, incident_id):
    directory = tmp_path / "a" / "b" / "incidents"
    one = Incident(incident_id=incident_id.format(tmp_path).encode(errors="replace").decode())
    found = asyncio.run(capture.Capture(directory, {})(one))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [found.path] == list(directory.iterdir())
    assert sha256(found.path.read_bytes()).hexdigest() == found.digest
    with tarfile.open(found.path) as archive:
        assert json.load(archive.extractfile("incident.json"))["incident_id"] == one.incident_id
