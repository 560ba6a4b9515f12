"""Rules that could not be relied on are refused where they are loaded: a directory, a bundle, `build` and `verify`."""

import re
import shutil
import subprocess
import sys

import msgspec
import pytest
import regorus
from hypothesis import given, settings
from hypothesis import strategies as st
from signing import key_pair

from app.catalog import DEFAULT_DIRECTORY
from app.core.evaluating import PolicyError
from app.core.facts import JUDGING, Document, Facts
from app.core.policy import Policy
from app.errors import SettingError
from app.policy import bundle, forms
from app.policy.inline import Inline
from app.policy.pack import load_pack, load_policy, load_tests

RULE = (DEFAULT_DIRECTORY / "rules" / "canary_share.rego").read_text()
METADATA, _, _ = RULE.partition("package ")
PACK, TESTS = load_pack(version=1), load_tests()
#: Every form of a `deny` that is no set of texts.
NO_SETS = {
    "true": "deny := true",
    "a string": 'deny := "no"',
    "a number": "deny = 1",
    "a list": 'deny := ["no"]',
    "an object": 'deny := {"no": true}',
    "a set that is no partial set": 'deny := {"no"} if input.run.canary',
    "a condition": "deny if input.run.canary",
    "a default": "default deny := set()",
    "an object, key by key": 'deny["no"] := 1 if input.run.canary',
    "a key": 'deny["no"] if input.run.canary',
    "a field": "deny.no := true",
    "a set below it": 'deny.no contains "x" if input.run.canary',
    "a function": "deny(x) if x",
    "a set of numbers": "deny contains 1 if input.run.canary",
    "a set of objects": 'deny contains {"no": 1} if input.run.canary',
    "nothing at all": "other := true",
    "a set, and a default too": 'default deny := {}\n\ndeny contains "x" if input.run.canary',
}
#: Calls that answer by the world, by time or by chance, however they are written.
IMPURE = {
    "the network": 'http.send({"method": "get", "url": "http://127.0.0.1:1"}).status_code == 200',
    "names": 'net.lookup_ip_addr("localhost") == set()',
    "the surroundings": 'opa.runtime().env.HOME == "/"',
    "chance": 'rand.intn("x", 3) > 1',
    "time": "time.now_ns() > 3",
    "an id": 'uuid.rfc4122("x") != ""',
    "a clock within a token": 'io.jwt.decode_verify("a", {"secret": "s"})[0]',
    "a clock within certificates": 'crypto.x509.parse_and_verify_certificates("a")[0]',
    "in brackets": 'http["send"]({"method": "get"}).status_code == 200',
    "in a comprehension": "count([at | at := time.now_ns()]) > 0",
    "in what is put in place of the input": "input.run.canary with input.run.seed as time.now_ns()",
    "in an argument": "count([time.now_ns()]) > 0",
    "in every": "every value in [1] { value < time.now_ns() }",
    "not": "not time.now_ns() < 3",
    "what writes": 'print("x")',
    "what nobody knows": "unknown.thing(1)",
}


def directory(tmp_path, body, name="canary_share", imports=""):
    """The project's policies with another rule in place of one."""
    made = shutil.copytree(DEFAULT_DIRECTORY, tmp_path / "policies")
    source = f"{METADATA}package qethics.rules.run.{name}\n\nimport rego.v1\n{imports}\n{body}\n"
    (made / "rules" / "canary_share.rego").write_text(source)
    return made


def impure(call):
    return f'deny contains "x" if {{\n\t{call}\n}}'


@pytest.mark.parametrize("body", NO_SETS.values(), ids=NO_SETS)
def test_a_deny_that_is_no_set_of_texts_is_refused_at_load(tmp_path, body):
    made = directory(tmp_path, body)
    for load in (load_pack, load_policy, load_tests):
        with pytest.raises(SettingError, match=r"canary_share\.rego.*deny contains REASON if"):
            load(made)


@pytest.mark.parametrize("call", IMPURE.values(), ids=IMPURE)
def test_a_call_that_does_not_answer_by_its_arguments_is_refused_at_load(tmp_path, call):
    made = directory(tmp_path, impure(call))
    with pytest.raises(SettingError, match=r"canary_share\.rego:\d+: .*pass what it says as input"):
        load_pack(made)


@pytest.mark.parametrize(
    "body", ["helper := time.now_ns()", "f(x) := x + time.now_ns()", "default y := false\n\ny if time.now_ns() > 3"]
)
def test_it_is_found_in_what_a_rule_asks_of_others(tmp_path, body):
    made = directory(tmp_path, f'deny contains "x" if input.run.canary\n\n{body}')
    with pytest.raises(SettingError, match=r"time\.now_ns"):
        load_pack(made)


@pytest.mark.parametrize("alias", ["http", "time", "rand", "opa", "net", "io", "crypto"])
def test_an_import_that_could_be_taken_for_a_builtin_is_refused(tmp_path, alias):
    made = directory(
        tmp_path, 'deny contains "x" if time.now_ns() > 1', imports=f"\nimport data.qethics.lib as {alias}\n"
    )
    with pytest.raises(SettingError, match=f"named {alias} could be taken for a builtin|now_ns"):
        load_pack(made)


@pytest.mark.parametrize(
    "package", ["qethics.rules", "qethics.rules.run", "qethics.rules.run.a.b", 'qethics.rules.run["a"]']
)
def test_a_package_that_no_decision_gathers_is_refused(package):
    with pytest.raises(PolicyError, match=r"the package of a rule is|has no `deny`"):
        forms.check({"a.rego": f'package {package}\nimport rego.v1\ndeny contains "x" if true\n'})


def test_functions_of_the_pack_and_pure_builtins_are_allowed():
    source = (
        "package qethics.rules.run.a\nimport rego.v1\nimport data.qethics.lib\nimport data.qethics.lib as other\n"
        'f(x) := lower(x)\ndeny contains sprintf("%v", [f("A")]) if {\n\tlib.shown(1)\n\tother.shown(1)\n'
        '\tdata.qethics.lib.shown(1)\n\tregex.match("a", "b")\n}\n'
    )
    forms.check({"a.rego": source})


def test_every_pure_builtin_that_the_engine_has_answers_twice_alike_or_not_at_all():
    """The list is by hand; that none of it is a clock or a die is asked of the engine."""
    for name in sorted(forms.PURE):
        answers = set()
        for arguments in (
            "",
            '"a"',
            "1",
            "[1]",
            '{"a": 1}',
            '"a", "b"',
            "1, 2",
            "[1], [2]",
            '"a", "b", "c"',
            "1, 1, 1",
        ):
            for _ in range(2):
                engine = regorus.Engine()
                try:
                    engine.add_policy("a.rego", f"package a\nimport rego.v1\nx := {name}({arguments})\n")
                    answers.add((arguments, engine.eval_rule_as_json("data.a.x")))
                except RuntimeError as error:
                    answers.add((arguments, str(error).partition("Stack backtrace")[0]))
        assert len(answers) == 10, name


# -- bundles -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return key_pair(tmp_path_factory.mktemp("keys"))


def signed(pair, source, test=False):
    """A bundle as somebody with the key makes it who checks nothing."""
    pack, tests = PACK, TESTS
    name = "canary_share_test.rego" if test else "canary_share.rego"
    target = tests if test else pack.modules
    return bundle.write(
        pack._replace(modules=pack.modules if test else {**pack.modules, name: source}),
        {**target, name: source} if test else tests,
        bundle.read_private_key(pair.private),
    )


@pytest.mark.parametrize("body", [*NO_SETS.values(), *map(impure, IMPURE.values())], ids=[*NO_SETS, *IMPURE])
def test_a_signed_bundle_with_such_a_rule_is_refused(pair, body):
    source = f"{METADATA}package qethics.rules.run.canary_share\n\nimport rego.v1\n\n{body}\n"
    with pytest.raises(bundle.BundleError, match=r"canary_share\.rego:\d+: "):
        bundle.read(signed(pair, source), bundle.read_keys(pair.public))


def test_a_bundle_whose_tests_ask_the_network_is_refused_before_they_run(pair):
    source = f"package qethics_test.x\n\nimport rego.v1\n\ntest_x if {IMPURE['the network']}\n"
    with pytest.raises(bundle.BundleError, match=r"canary_share_test\.rego:5: http\.send"):
        bundle.read(signed(pair, source, test=True), bundle.read_keys(pair.public))


def test_build_and_verify_say_it(tmp_path, pair):
    made = directory(tmp_path, "deny := true")
    built = tmp_path / "bundle.tar.gz"
    arguments = ["build", "--policies", made, "--key", pair.private, "--output", built]
    ended = subprocess.run(
        [sys.executable, "-m", "app", "policy", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "`deny` is no set of texts" in ended.stderr + ended.stdout
    assert not built.exists()
    built.write_bytes(signed(pair, (made / "rules" / "canary_share.rego").read_text()))
    ended = subprocess.run(
        [sys.executable, "-m", "app", "policy", "verify", str(built), "--keys", str(pair.public)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    assert "`deny` is no set of texts" in ended.stderr + ended.stdout


# -- should one get by -------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(part=st.sampled_from(JUDGING), value=values)
@settings(max_examples=30, deadline=None)
def test_a_deny_of_any_value_but_a_set_denies_with_a_reason(part, value):
    pack = PACK
    source = (
        f"package qethics.rules.{part}.broken\nimport rego.v1\n"
        f"deny := json.unmarshal({msgspec.json.encode(msgspec.json.encode(value).decode()).decode()})\n"
    )
    modules = {**pack.modules, "broken.rego": source}
    policy = Policy(pack._replace(modules=modules), Inline(modules, pack.data))
    verdict = policy.decide(msgspec.json.encode(Document(judging=(part,))))
    assert verdict.denies
    assert any("gives no answer" in breach.reason or "no decision" in breach.reason for breach in verdict.breaches)


def test_a_deny_that_is_undefined_denies_with_a_reason():
    pack = PACK
    modules = {
        **pack.modules,
        "broken.rego": "package qethics.rules.text.broken\nimport rego.v1\ndeny if input.nothing\n",
    }
    policy = Policy(pack._replace(modules=modules), Inline(modules, pack.data))
    (breach,) = policy.judge(Facts(("text",))).breaches
    assert breach.denies
    assert re.match("what the rule denies is undefined", breach.reason)
