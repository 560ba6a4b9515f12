"""Signed bundles: what is changed, left out, added, older or broken is refused, and the reason says which."""

import asyncio
import gzip
import io
import json
import random
import resource
import shutil
import tarfile
import time
from contextlib import closing

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from signing import built, changed, edited, key_pair, packed, unpacked

from app.catalog import DEFAULT_DIRECTORY
from app.cli import main
from app.core.evaluating import PolicyError
from app.core.exemptions import Exemption
from app.core.facts import Facts
from app.core.policy import NONE
from app.errors import SettingError
from app.policy import bundle as bundles
from app.policy.bundle import BundleError
from app.policy.bundles import Bundles
from app.policy.pack import load_pack
from app.policy.trust import Revocations, Trust, TrustFiles
from app.policy.watch import Source, Watch

SIGNATURES = ".signatures.json"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def pair(workshop):
    return key_pair(workshop)


@pytest.fixture(scope="module")
def keys(pair):
    return bundles.read_keys(pair.public)


@pytest.fixture(scope="module")
def small(workshop):
    """A policies directory of one rule, whose tests take no time."""
    directory = shutil.copytree(DEFAULT_DIRECTORY, workshop / "policies")
    keep = {"shots_range", "decision", "lib", "fixture"}
    for path in (directory / "rules").glob("*.rego"):
        if path.stem.removesuffix("_test") not in keep:
            path.unlink()
    governance = directory / "governance.yaml"
    lines = governance.read_text().split("\n")
    governance.write_text("\n".join("never_exempt: []" if line.startswith("never_exempt") else line for line in lines))
    for name in ("decision_test.rego", "fixture_test.rego"):
        (directory / "rules" / name).unlink(missing_ok=True)
    (directory / "rules" / "shots_range_test.rego").write_text(
        "package qethics_test.shots_range\n\nimport rego.v1\n\n"
        "import data.qethics.rules.run.shots_range\n\n"
        "test_few if count(shots_range.deny) > 0 with input as "
        '{"run": {"shots": 1, "tier": "high", "runtime": "quantum"}}\n'
    )
    return directory


@pytest.fixture(scope="module")
def good(small, pair):
    return built(small, pair, 7)


def version(small, pair, number, **modes):
    """Another version, with rules in other modes."""
    path = small / "governance.yaml"
    before = path.read_text()
    path.write_text(before.replace("modes: {}", f"modes: {json.dumps(modes)}"))
    try:
        return built(small, pair, number)
    finally:
        path.write_text(before)


# -- what is in a bundle -----------------------------------------------------------------------------------------------


def test_a_bundle_holds_what_the_directory_says_and_is_the_same_every_time(small, pair, keys, good):
    opened = bundles.read(good, keys)
    assert opened.pack.digest == load_pack(small, 7).digest
    assert set(opened.tests) == {"shots_range_test.rego"}
    assert {name: content for name, content in unpacked(good).items() if name != SIGNATURES} == {
        name: content for name, content in unpacked(built(small, pair, 7)).items() if name != SIGNATURES
    }


def test_the_version_is_part_of_the_digest(small, pair, keys, good):
    later = bundles.read(built(small, pair, 8), keys).pack
    assert later.digest != bundles.read(good, keys).pack.digest


# -- tampering ---------------------------------------------------------------------------------------------------------


def weaken(manifest):
    manifest["metadata"]["qethics"]["modes"] = {"shots_range": "dry_run"}


def excuse(manifest):
    manifest["metadata"]["qethics"]["exemptions"] = [
        {
            "id": "EX-1",
            "rule": "shots_range",
            "scope": {"run.workload": "route-planning"},
            "owner": "me",
            "reason": "because",
            "approved_by": "me",
            "granted": "2026-11-01T00:00:00Z",
            "expires": "2026-12-01T00:00:00Z",
        }
    ]


def resigned_with(key, payload=None, **options):
    """The signature replaced by another one over the same files."""

    def tamper(data):
        files = unpacked(data)
        token = json.loads(files[SIGNATURES])["signatures"][0]
        signed = payload or jwt.PyJWS().decode(token, options={"verify_signature": False})
        made = jwt.PyJWS().encode(signed, key, **options)
        return packed({**files, SIGNATURES: json.dumps({"signatures": [made]}).encode()})

    return tamper


def rogue_signature(data):
    import tempfile  # noqa: PLC0415 - of this tampering alone
    from pathlib import Path  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as directory:
        key = bundles.read_private_key(key_pair(Path(directory), "rogue").private)
    return resigned_with(key, algorithm="ES256")(data)


def broken_signature(data):
    files = unpacked(data)
    head, payload, signature = json.loads(files[SIGNATURES])["signatures"][0].split(".")
    flipped = ("B" if signature[0] != "B" else "C") + signature[1:]
    return packed({**files, SIGNATURES: json.dumps({"signatures": [f"{head}.{payload}.{flipped}"]}).encode()})


TAMPERED = {
    "a signature that is none": (broken_signature, "not signed by a key that is trusted"),
    "the key of somebody else": (rogue_signature, "not signed by a key that is trusted"),
    "no algorithm": (resigned_with("", algorithm="none"), "not signed by a key that is trusted"),
    "a shared secret instead": (resigned_with("x" * 64, algorithm="HS256"), "not signed by a key that is trusted"),
    "no signature": (lambda data: changed(data, **{SIGNATURES: None}), "it is not signed"),
    "an emptied signature block": (lambda data: changed(data, **{SIGNATURES: b'{"signatures":[]}'}), "0 signatures"),
    "an empty signature": (lambda data: changed(data, **{SIGNATURES: b'{"signatures":[""]}'}), "not signed by a key"),
    "an empty signature file": (lambda data: changed(data, **{SIGNATURES: b""}), "cannot be read"),
    "an extra file": (
        lambda data: changed(data, **{"rules/extra.rego": b"package extra\n"}),
        "rules/extra.rego is not signed",
    ),
    "a file less": (lambda data: changed(data, **{"rules/lib.rego": None}), "rules/lib.rego is signed and not there"),
    "another rule": (lambda data: changed(data, **{"rules/lib.rego": b"package qethics.lib\n"}), "not what was signed"),
    "a rule in a weaker mode": (lambda data: edited(data, ".manifest", weaken), ".manifest is not what was signed"),
    "an exemption that nobody signed": (
        lambda data: edited(data, ".manifest", excuse),
        ".manifest is not what was signed",
    ),
    "a file that is there twice": (
        lambda data: packed([*unpacked(data).items(), ("rules/lib.rego", b"package qethics.lib\n")]),
        "is there twice",
    ),
    "half of it": (lambda data: data[: len(data) // 2], "it is not whole"),
    "nothing": (lambda data: b"", "it is not whole"),
    "something after it": (lambda data: data + data, "something comes after it"),
    "no archive": (lambda data: b"\x1f\x8b" + b"x" * 100, "it is no gzipped tar"),
    "a bomb": (lambda data: packed({"data.json": b" " * 9_000_000}), "bytes unpacked"),
    "too large": (lambda data: data + bytes(bundles.MOST_BYTES), "it has more than"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_tampered_with_is_refused_and_says_why(name, good, keys):
    tamper, why = TAMPERED[name]
    with pytest.raises(BundleError, match=why):
        bundles.read(tamper(good), keys)


def test_a_thousand_random_changes_are_refused_or_change_nothing(good, keys):
    digest = bundles.read(good, keys).pack.digest
    rng = random.Random(4)
    refused = 0
    for _ in range(1_000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            # The header of gzip holds a time and a system that mean nothing.
            assert bundles.read(bytes(data), keys).pack.digest == digest
        except BundleError:
            refused += 1
    assert refused > 950


def sparse(data, size):
    """A bundle with a file that says itself that it is huge (GNU sparse 0.1, in the header of the archive)."""
    made = io.BytesIO()
    member = tarfile.TarInfo("data.json")
    member.pax_headers = {"GNU.sparse.size": str(size), "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,0"}
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(b""))
    return gzip.compress(made.getvalue())


@pytest.mark.parametrize(
    "data",
    [
        lambda good: sparse(good, 600_000_000),
        lambda good: sparse(good, 2**70),
        lambda good: sparse(good, "9" * 30),
        lambda good: changed(good, **{SIGNATURES: b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"}),
        lambda good: changed(good, **{SIGNATURES: b'{"signatures":[' + b"9" * 400 + b"]}"}),
    ],
)
def test_an_unsigned_file_can_neither_fill_the_memory_nor_end_the_process(data, good, keys):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError):
        bundles.read(data(good), keys)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rule": "policy_error"}, "there is no rule policy_error"),
        ({"rule": "nothing"}, "there is no rule nothing"),
        ({}, "an exemption is there twice"),
    ],
)
def test_exemptions_that_mean_nothing_are_refused_even_if_they_are_signed(small, pair, keys, change, why):
    one = msgspec.convert(EXEMPT, Exemption)
    pack = load_pack(small, 9)
    exemptions = (msgspec.structs.replace(one, **change),) if change else (one, one)
    data = bundles.write(pack._replace(exemptions=exemptions), {}, bundles.read_private_key(pair.private))
    with pytest.raises(BundleError, match=why):
        bundles.read(data, keys)


EXEMPT = {
    "id": "EX-1",
    "rule": "shots_range",
    "scope": {"run.workload": "route-planning"},
    "owner": "logistics",
    "reason": "while the cryostat is repaired",
    "approved_by": "board",
    "granted": "2026-01-01T00:00:00Z",
    "expires": "2026-02-01T00:00:00Z",
}


def test_an_exemption_of_more_than_ninety_days_is_refused_even_if_it_is_signed(small, pair, keys):
    path = small / "exemptions.yaml"
    before = path.read_text()
    path.write_text(EXEMPTION.format(rule="shots_range", granted="2026-01-01", expires="2026-04-01"))
    try:
        pack = load_pack(small, 9)
        long = pack.exemptions[0].__class__(
            **{name: getattr(pack.exemptions[0], name) for name in pack.exemptions[0].__struct_fields__}
            | {"expires": pack.exemptions[0].expires.replace(year=2027)}
        )
        data = bundles.write(pack._replace(exemptions=(long,)), {}, bundles.read_private_key(pair.private))
    finally:
        path.write_text(before)
    with pytest.raises(BundleError, match="exemption EX-1: expires is more than 90 days"):
        bundles.read(data, keys)


EXEMPTION = """exemptions:
  - id: EX-1
    rule: {rule}
    scope: {{run.workload: route-planning}}
    owner: logistics
    reason: while the cryostat is repaired
    approved_by: board
    granted: {granted}T00:00:00Z
    expires: {expires}T00:00:00Z
"""


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        (EXEMPTION.format(rule="shots_range", granted="2026-01-01", expires="2026-04-02"), "expires", "more than 90"),
        (EXEMPTION.format(rule="shots_range", granted="2026-01-02", expires="2026-01-02"), "expires", "not after"),
        (EXEMPTION.format(rule="no_such", granted="2026-01-01", expires="2026-02-01"), "rule", "no rule no_such"),
        (EXEMPTION.format(rule="allowed_purpose", granted="2026-01-01", expires="2026-02-01"), "rule", "nobody"),
        (
            EXEMPTION.format(rule="shots_range", granted="2026-01-01", expires="2026-02-01").replace(
                "{run.workload: route-planning}", "{}"
            ),
            "scope",
            "length >= 1",
        ),
        (
            EXEMPTION.format(rule="shots_range", granted="2026-01-01", expires="2026-02-01").replace("run.w", "run.q"),
            "scope",
            "Invalid enum",
        ),
        (
            EXEMPTION.format(rule="shots_range", granted="2026-01-01", expires="2026-02-01").replace(
                "    owner: logistics\n", ""
            ),
            "",
            "missing required field `owner`",
        ),
    ],
)
def test_an_exemption_that_cannot_be_is_refused_with_its_place(tmp_path, text, key, why):
    directory = shutil.copytree(DEFAULT_DIRECTORY, tmp_path / "policies")
    (directory / "exemptions.yaml").write_text(text)
    with pytest.raises(SettingError, match=why) as refused:
        load_pack(directory)
    assert "exemptions.yaml:" in str(refused.value)
    assert key in str(refused.value)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_keys_that_cannot_be_used_are_refused(tmp_path, pair):
    other = key_pair(tmp_path, "other", ec.SECP384R1())
    for path, why in ((pair.private, "no public key"), (other.public, "not of the curve P-256")):
        with pytest.raises(SettingError, match=why):
            bundles.read_keys(path)
    for path, why in ((pair.public, "no private key"), (other.private, "not of the curve P-256")):
        with pytest.raises(SettingError, match=why):
            bundles.read_private_key(path)
    with pytest.raises(SettingError, match="No such file"):
        bundles.read_keys(tmp_path / "none.pub")


def test_one_of_several_trusted_keys_is_enough(tmp_path, pair, good):
    both = tmp_path / "both.pub"
    both.write_bytes(key_pair(tmp_path).public.read_bytes() + pair.public.read_bytes())
    assert bundles.read(good, bundles.read_keys(both)).pack.version == 7


# -- the commands ------------------------------------------------------------------------------------------------------


def qethics(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["policy", *map(str, arguments)])
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_a_bundle_is_built_and_verified_by_the_commands(capsys, tmp_path, pair):
    path = tmp_path / "bundle.tar.gz"
    code, out, _ = qethics(capsys, "build", "--key", pair.private, "--output", path, "--version", 12, "--json")
    made = json.loads(out)
    assert (code, made["version"], made["rules"]) == (0, 12, 25)
    code, out, _ = qethics(capsys, "verify", path, "--keys", pair.public, "--json")
    assert code == 0
    assert json.loads(out)["digest"] == made["digest"]
    path.write_bytes(path.read_bytes()[:-100])
    code, out, _ = qethics(capsys, "verify", path, "--keys", pair.public)
    assert code == 1
    assert "refused: it is not whole" in out


def test_a_bundle_is_not_built_of_rules_whose_tests_fail(capsys, tmp_path, pair, small):
    directory = shutil.copytree(small, tmp_path / "policies")
    (directory / "rules" / "shots_range_test.rego").write_text("package x_test\n\nimport rego.v1\n\ntest_x if 1 == 2\n")
    code, _, err = qethics(
        capsys, "build", "--key", pair.private, "--output", tmp_path / "b.tar.gz", "--policies", directory
    )
    assert code == 1
    assert "test_x: fail" in err
    assert not (tmp_path / "b.tar.gz").exists()


# -- policies of bundles -----------------------------------------------------------------------------------------------


@pytest.fixture
def made(keys):
    found = Bundles(keys)
    yield found
    found.close()


def test_a_bundle_whose_own_tests_fail_or_do_not_end_is_refused(made, small, pair, monkeypatch):
    pack = load_pack(small, 9)
    key = bundles.read_private_key(pair.private)
    failing = {"x_test.rego": "package x_test\n\nimport rego.v1\n\ntest_x if 1 == 2\n"}
    with pytest.raises(PolicyError, match=r"1 of its own tests fail: x_test\.rego"):
        made.load(bundles.write(pack, failing, key))
    with pytest.raises(PolicyError, match="no test was run"):
        made.load(bundles.write(pack, {}, key))
    monkeypatch.setattr("app.policy.trial._SECONDS", 1.5)
    endless = {
        "x_test.rego": "package x_test\n\nimport rego.v1\n\ntest_x if {\n\tsome a in numbers.range(1, 9000)\n"
        "\tsome b in numbers.range(1, 9000)\n\ta * b == 0\n}\n"
    }
    began = time.monotonic()
    with pytest.raises(PolicyError, match="have not ended within"):
        made.load(bundles.write(pack, endless, key))
    assert time.monotonic() - began < 10


def test_a_verified_bundle_judges_and_a_restored_one_needs_its_key(made, good, keys):
    verdict = made.load(good).judge(Facts(("run",)))
    assert {breach.rule.name for breach in verdict.breaches} == {"shots_range"}
    with closing(Bundles(keys)) as other:
        assert other.restore(good).judge(Facts(("run",))).breaches == verdict.breaches
    with closing(Bundles({})) as other:
        with pytest.raises(PolicyError, match="not signed by a key"):
            other.load(good)
        assert other.restore(good) is other.current is NONE


def test_without_a_bundle_everything_is_denied(made):
    assert made.current is NONE
    verdict = made.restore(b"").judge(Facts(()))
    assert verdict.denies
    assert verdict.breaches[0].reason == "no decision: there is no verified policy bundle"


# -- the source of truth -----------------------------------------------------------------------------------------------


class Partitions:
    """Two partitions whose log is read as soon as something is in it."""

    def __init__(self, made, path):
        self.bundles, self.put = made, []
        self.read = True
        self.source = Source(path, made, path.with_name("policy-version"))
        self.policies = {}
        self.watch = Watch(self.source, made, in_force=lambda: self.policies, activate=self.activate)
        self.now = 1.79e9

    async def activate(self, partition, bundle):
        self.put.append((partition, bundle))
        if self.read:
            self.policies[partition] = self.bundles.load(bundle)

    def step(self, seconds=2.0):
        self.now += seconds
        asyncio.run(self.watch.step(self.now))


@pytest.fixture
def watched(made, tmp_path, good):
    path = tmp_path / "bundle.tar.gz"
    path.write_bytes(good)
    partitions = Partitions(made, path)
    asyncio.run(partitions.source.look())
    partitions.policies = {0: made.current, 1: made.current}
    return partitions


def replace(path, content):
    partial = path.with_name("partial")
    partial.write_bytes(content)
    partial.replace(path)


def test_a_new_bundle_is_put_into_every_partition_once(watched, small, pair):
    watched.step()
    assert watched.put == []
    newer = version(small, pair, 8, shots_range="warn")
    replace(watched.source.path, newer)
    for _ in range(3):
        watched.step()
    assert watched.put == [(0, newer), (1, newer)]
    assert {policy.pack.version for policy in watched.policies.values()} == {8}
    assert watched.watch.drifted == []
    assert watched.source.refused is None


def test_a_bundle_that_is_refused_leaves_the_old_one_and_says_so_once(watched, small, pair, good, caplog):
    for bad, why in ((good[:999], "it is not whole"), (version(small, pair, 6), "its version 6 is not above 7")):
        replace(watched.source.path, bad)
        for _ in range(3):
            watched.step()
        assert why in watched.source.refused
        assert watched.watch.drifted == [0, 1]
        assert caplog.text.count(why) == 1
        replace(watched.source.path, good)
        watched.step()
        assert watched.source.refused is None
        assert watched.watch.drifted == []
    assert watched.source.refusals == 2
    assert watched.put == []
    assert {policy.pack.version for policy in watched.policies.values()} == {7}


def test_an_older_bundle_is_refused_after_a_restart_as_well(watched, small, pair, made, keys, good):
    replace(watched.source.path, version(small, pair, 8, shots_range="warn"))
    watched.step()
    replace(watched.source.path, good)
    again = Bundles(keys)
    try:
        source = Source(watched.source.path, again, watched.source.path.with_name("policy-version"))
        asyncio.run(source.look())
        assert source.refused == "its version 7 is not above 8, which was here before"
        assert source.policy is None
        replace(source.path, version(small, pair, 8, shots_range="dry_run"))
        asyncio.run(source.look())
        assert "is not above 8" in source.refused, "nor another one of the same version"
        replace(source.path, version(small, pair, 9))
        asyncio.run(source.look())
        assert source.refused is None
    finally:
        again.close()


def test_a_bundle_that_is_older_than_what_the_log_put_in_force_meanwhile_is_refused(watched, small, pair, made):
    newer = made.load(version(small, pair, 9, shots_range="warn"))
    watched.policies = {0: newer, 1: newer}
    watched.step()
    assert watched.source.refused == "its version 7 is not above 9, which is in force"


def test_what_could_not_be_verified_is_tried_again(watched, small, pair, monkeypatch):
    monkeypatch.setattr("app.policy.trial._SECONDS", 0.01)
    newer = version(small, pair, 8, shots_range="warn")
    replace(watched.source.path, newer)
    watched.step()
    assert "have not ended within" in watched.source.refused
    monkeypatch.undo()
    watched.step()
    assert watched.source.refused is None
    assert watched.source.policy.pack.version == 8


def test_a_source_that_is_gone_is_drift_and_comes_back(watched, good):
    watched.source.path.unlink()
    watched.step()
    assert watched.source.refused is not None
    assert watched.watch.drifted == [0, 1]
    replace(watched.source.path, good)
    watched.step()
    assert watched.source.refused is None
    assert watched.watch.drifted == []


def test_a_partition_that_does_not_follow_is_drift_and_is_told_again(watched, small, pair):
    watched.read = False
    replace(watched.source.path, version(small, pair, 8, shots_range="warn"))
    watched.step()
    assert watched.watch.drifted == [0, 1]
    watched.step()
    assert len(watched.put) == 2
    watched.step(12)
    assert len(watched.put) == 4
    assert watched.watch.drifted == [0, 1]
    watched.read = True
    watched.step(12)
    watched.step()
    assert watched.watch.drifted == []


def test_engines_of_policies_that_nobody_uses_are_ended(watched, small, pair, made):
    old = watched.policies[0]
    replace(watched.source.path, version(small, pair, 8, shots_range="warn"))
    watched.step()
    watched.step()
    assert not old.judge(Facts(("run",))).failed
    watched.step(301)
    watched.step(301)
    with pytest.raises(PolicyError):
        old.evaluate(b"{}")


# -- revocation --------------------------------------------------------------------------------------------------------


class Leak:
    """A worker whose key leaked: bundles signed with it and with the next one, and the files of what is trusted."""

    def __init__(self, directory, small, pair):
        self.directory, self.small = directory, small
        self.leaked, self.next = pair, key_pair(directory, "next")
        self.keys, self.revocations = directory / "keys.pem", directory / "revocations.yaml"
        self.trusted(self.leaked)
        self.revoke()
        self.log, self.policies = [], {}

    def trusted(self, *pairs):
        replace(self.keys, b"".join(pair.public.read_bytes() for pair in pairs))

    def revoke(self, **what):
        replace(self.revocations, json.dumps(what).encode())

    def start(self):
        """A process that begins: what it holds in memory is gone."""
        files = TrustFiles(self.keys, self.revocations)
        self.bundles = Bundles(*files.trust)
        self.source = Source(self.directory / "bundle.tar.gz", self.bundles, self.directory / "policy-version", files)
        self.watch = Watch(self.source, self.bundles, in_force=self.in_force, activate=self.put)
        asyncio.run(self.source.look())
        self.policies = {0: self.bundles.restore(self.log[-1] if self.log else b"")}
        self.step()

    def publish(self, data):
        replace(self.source.path, data)
        self.step()

    def in_force(self):
        return {0: NONE if (policy := self.policies.get(0, NONE)).revoked is not None else policy}

    async def put(self, partition, bundle):
        self.log.append(bundle)
        self.policies[partition] = self.bundles.load(bundle)

    def step(self):
        asyncio.run(self.watch.step(time.time()))

    @property
    def judges(self):
        """The versions of what the partition and the gate go by."""
        return [policy.pack.version for policy in (self.in_force()[0], self.source.policy or NONE)]


@pytest.fixture
def leak(tmp_path, small, pair):
    made = Leak(tmp_path, small, pair)
    replace(tmp_path / "bundle.tar.gz", built(small, pair, 7))
    made.start()
    yield made
    made.bundles.close()


def key_id(data):
    return jwt.get_unverified_header(msgspec.json.decode(unpacked(data)[SIGNATURES])["signatures"][0])["kid"]


#: As high as a version can be that is taken.
HIGH = int(time.time()) + 80_000


@pytest.mark.parametrize("way", ["taken out", "revoked"])
def test_a_bundle_whose_key_leaked_judges_nothing_once_that_is_known_and_a_lower_version_follows(leak, small, way):
    evil = version(small, leak.leaked, HIGH, shots_range="dry_run")
    leak.publish(evil)
    assert leak.judges == [HIGH, HIGH]
    leak.publish(built(small, leak.leaked, 8))
    assert leak.judges == [HIGH, HIGH], "nothing can be above it"
    if way == "taken out":
        leak.trusted(leak.next)
    else:
        leak.trusted(leak.leaked, leak.next)
        leak.revoke(keys=[key_id(evil)])
    replace(leak.source.path, evil)
    leak.step()
    assert leak.judges == [-1, -1], "denied, until there is another"
    assert leak.source.refused is not None
    leak.publish(built(small, leak.next, 9))
    assert leak.judges == [9, 9]
    assert leak.source.refused is None
    # What is revoked comes back neither by the log nor by the file.
    with pytest.raises(PolicyError):
        leak.bundles.load(evil)
    leak.publish(evil)
    assert leak.judges == [9, 9]


@pytest.mark.parametrize(
    ("revoked", "why"),
    [
        ({"keys": ("k",)}, "the key k that it is signed with was revoked"),
        ({"revisions": ("d" * 16,)}, f"its revision {'d' * 16} was revoked"),
        ({"revisions": ("d" * 64,)}, f"its revision {'d' * 16} was revoked"),
        ({"versions": (7,)}, "its version 7 was revoked"),
        ({"version_at_most": 6}, "its version 7 is above 6, and those were revoked"),
        ({"keys": ("l",), "revisions": ("e" * 16,), "versions": (6, 8), "version_at_most": 7}, None),
    ],
)
def test_a_bundle_is_revoked_by_its_key_its_revision_or_its_version(revoked, why):
    assert Trust({"k": None}, Revocations(**revoked)).objection(7, "d" * 64, "k") == why
    assert Trust({}).objection(7, "d" * 64, "k") == "it is not signed by a key that is trusted here"


def test_what_was_remembered_of_a_revoked_bundle_holds_up_nothing_after_a_restart(leak, small):
    leak.publish(version(small, leak.leaked, HIGH, shots_range="dry_run"))
    leak.bundles.close()
    leak.trusted(leak.next)
    replace(leak.source.path, built(small, leak.next, 9))
    leak.start()
    assert leak.source.policy.pack.version == 9
    # But it does of one that is trusted.
    leak.bundles.close()
    replace(leak.source.path, built(small, leak.next, 8))
    leak.start()
    assert leak.source.refused == "its version 8 is not above 9, which was here before"


def test_files_that_cannot_be_read_are_said_and_what_they_said_before_holds(leak, small):
    leak.revoke(versions=[8])
    leak.step()
    replace(leak.source.path, built(small, leak.leaked, 8))
    for text in ("keys: 7", "keyz: []", "keys: [", "", None):
        leak.revocations.unlink()
        if text is not None:
            replace(leak.revocations, text.encode())
        leak.step()
        assert str(leak.revocations) in leak.source.refused
        assert leak.judges == [7, 7]
    leak.revoke()
    leak.step()
    assert leak.judges == [8, 8]
    assert leak.source.refused is None


def test_a_revocation_that_is_taken_back_is_so(leak, small):
    leak.revoke(versions=[7])
    leak.step()
    assert leak.judges == [-1, -1]
    leak.revoke()
    leak.step()
    assert leak.judges == [7, 7]


def test_a_version_of_a_time_to_come_is_refused(leak, small, capsys, tmp_path):
    for ahead in (2**53 - 1, int(time.time()) + 90_000):
        leak.publish(built(small, leak.leaked, ahead))
        assert "more than a day ahead" in leak.source.refused
        assert leak.judges == [7, 7]
        assert leak.bundles.restore(built(small, leak.leaked, ahead)).pack.version == 7
        built_of = ("--key", leak.leaked.private, "--output", tmp_path / "b.tar.gz", "--policies", small)
        assert qethics(capsys, "build", "--version", ahead, *built_of)[0] == 2
    # A process of before remembered it.
    leak.bundles.close()
    (tmp_path / "policy-version").write_text(f"{2**53 - 1} {'0' * 64}")
    replace(leak.source.path, built(small, leak.leaked, 8))
    leak.start()
    assert leak.source.policy.pack.version == 8


def test_what_is_revoked_is_not_verified_by_the_command_either(leak, capsys, good):
    path = leak.source.path
    replace(path, good)
    assert qethics(capsys, "verify", path, "--keys", leak.keys, "--revocations", leak.revocations)[0] == 0
    leak.revoke(keys=[key_id(good)])
    code, out, _ = qethics(capsys, "verify", path, "--keys", leak.keys, "--revocations", leak.revocations)
    assert code == 1
    assert "was revoked" in out
