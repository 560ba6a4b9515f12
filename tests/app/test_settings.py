"""Settings: where they come from, what is refused and how."""

import pytest

from app import kafka
from app.errors import SettingError
from app.settings import Settings, load


def test_defaults_are_good_and_bound_to_loopback():
    settings = load({})
    assert settings == Settings()
    assert settings.web_host == "127.0.0.1"


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path):
    config = tmp_path / "qethics.toml"
    config.write_text('group = "file"\npartitions = 8\nweb_port = 1\n')
    settings = load(
        {"QETHICS_CONFIG": str(config), "QETHICS_GROUP": "environment", "QETHICS_WEB_PORT": "2"}, web_port=3
    )
    assert (settings.group, settings.partitions, settings.web_port) == ("environment", 8, 3)


def test_settings_survive_the_way_through_the_environment(tmp_path):
    settings = load({}, partitions=7, checkpoint_seconds=0.5, data_directory=tmp_path)
    assert load(settings.environment()) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QETHICS_PARTITIONS", "many"),
        ("QETHICS_PARTITIONS", "0"),
        ("QETHICS_WEB_PORT", "65536"),
        ("QETHICS_CHECKPOINT_SECONDS", "-1"),
        ("QETHICS_SECURITY_PROTOCOL", "TLS"),
        ("QETHICS_TOPIC_PREFIX", "a b"),
        ("QETHICS_NO_SUCH_SETTING", "1"),
        ("QETHICS_CONFIG", "/no/such/file"),
        ("QETHICS_SSL_CA_FILE", "/no/such/file"),
        ("QETHICS_SESSION_TIMEOUT_SECONDS", "120"),
    ],
)
def test_a_bad_setting_is_refused_by_name(name, value):
    with pytest.raises(SettingError, match=name):
        load({name: value})


def test_sasl_needs_a_user_and_a_password_file(tmp_path):
    with pytest.raises(SettingError, match="QETHICS_SASL_USERNAME"):
        load({"QETHICS_SECURITY_PROTOCOL": "SASL_SSL"})
    with pytest.raises(SettingError, match="QETHICS_SASL_PASSWORD_FILE"):
        load({"QETHICS_SECURITY_PROTOCOL": "SASL_SSL", "QETHICS_SASL_USERNAME": "me"})


def test_tls_and_sasl_reach_every_client(tmp_path):
    password = tmp_path / "password"
    password.write_text("not-a-real-one\n")
    settings = load(
        {},
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="me",
        sasl_password_file=password,
    )
    options = kafka.client_options(settings)
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["sasl_plain_username"] == "me"
    assert options["sasl_plain_password"] == "not-a-real-one"
    assert options["ssl_context"] is not None
    assert "not-a-real-one" not in repr(settings)


def test_how_kafka_is_reached_can_be_taken_over_alone(tmp_path):
    """A game day on one's own Kafka is reached as its deployment says, and is told no secret of it besides."""
    secret = tmp_path / "secret"
    secret.write_text("not-a-real-one\n")
    of_deployment = load(
        {},
        bootstrap="kafka:9093",
        replication=3,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username="me",
        sasl_password_file=secret,
        pager_token_file=secret,
        admission_token_file=secret,
        partitions=12,
        otlp_endpoint="http://127.0.0.1:4318/v1/traces",
    )
    taken = load({}, **of_deployment.connection())
    assert kafka.client_options(taken) == kafka.client_options(of_deployment)
    assert (taken.bootstrap, taken.replication) == ("kafka:9093", 3)
    ours = {name for name in Settings.__struct_fields__ if getattr(taken, name) != getattr(load({}), name)}
    assert ours == {
        *("bootstrap", "replication", "security_protocol"),
        *("sasl_mechanism", "sasl_username", "sasl_password_file"),
    }
