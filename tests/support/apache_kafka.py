"""Apache Kafka 4.x in KRaft mode on loopback, from Maven Central's jars and the machine's Java. No Docker.

As a command it runs a broker until it is interrupted: `python tests/support/apache_kafka.py [PORT]`.
"""

import hashlib
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from app.broker import free_port

POM = Path(__file__).resolve().parent.parent / "kafka" / "pom.xml"
JARS = Path(__file__).resolve().parent.parent.parent / "var" / "kafka-jars"
CLUSTER = "qethics-test-cluster-1"
START_SECONDS = 60

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config={plain} required {users};
ssl.keystore.type=PEM
ssl.keystore.location={directory}/server.pem
log.dirs={directory}/log
num.partitions=4
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=500
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=16777216
"""
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
#: What no rule allows is denied; the broker itself comes by the listeners that know no names.
GUARD = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{admin};User:ANONYMOUS
"""
ADMIN = "admin"
COMMAND_CONFIG = """
security.protocol=SASL_SSL
sasl.mechanism=PLAIN
sasl.jaas.config={plain} required username="{user}" password="{password}";
ssl.truststore.type=PEM
ssl.truststore.location={ca_file}
"""


class Broker:
    """One broker with a directory of its own; it can be killed and started again on its data.

    It listens without protection and, for its users, with TLS and SASL. One that is guarded denies users whatever no
    rule allows them, except for `admin`.
    """

    def __init__(
        self, directory: Path, port: int | None = None, *, users: Sequence[str] = ("worker",), guarded: bool = False
    ):
        self.port = port or free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._directory = directory
        self._log = directory / "server.log"
        self._properties = directory / "server.properties"
        secure = free_port()
        self.secure_bootstrap = f"127.0.0.1:{secure}"
        self.ca_file = directory / "certificate.pem"
        self.password_files = {user: directory / f"{user}.password" for user in (ADMIN, *users)}
        for file in self.password_files.values():
            file.write_text(secrets.token_hex(16))
        self._certificate(directory)
        self._properties.write_text(
            PROPERTIES.format(
                port=self.port,
                secure=secure,
                controller=free_port(),
                directory=directory,
                plain=PLAIN,
                users=" ".join(f'user_{user}="{file.read_text()}"' for user, file in self.password_files.items()),
            )
            + (GUARD.format(admin=ADMIN) if guarded else "")
        )
        self._jars = jars()
        self._java(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(self._properties), "--standalone"])
        self.process = None
        self.start()

    def _certificate(self, directory):
        """A key and a certificate for 127.0.0.1, signed by itself."""
        key = directory / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(self.ca_file)]
        subprocess.run(command, check=True, capture_output=True)
        (directory / "server.pem").write_text(key.read_text() + self.ca_file.read_text())

    def _command(self, arguments, *options):
        java = shutil.which("java")
        if java is None:
            raise RuntimeError("Apache Kafka needs Java 17 or newer; there is no `java` here")
        options = ["-Xmx1g", *options, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{self._jars}/*"]
        return [java, *options, *arguments]

    def _java(self, arguments):
        done = subprocess.run(self._command(arguments), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{arguments[0]} failed: {done.stdout[-500:]} {done.stderr[-1500:]}")

    def acls_command(self) -> tuple[Path, Path]:
        """`kafka-acls.sh` as Apache Kafka ships it, and the file that says how `admin` comes to this broker."""
        script, config = self._directory / "kafka-acls.sh", self._directory / "admin.properties"
        command = self._command(["org.apache.kafka.tools.AclCommand"], "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        script.chmod(0o700)
        password = self.password_files[ADMIN].read_text()
        config.write_text(COMMAND_CONFIG.format(plain=PLAIN, user=ADMIN, password=password, ca_file=self.ca_file))
        return script, config

    def start(self):
        """Start it and wait until it answers."""
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command(["kafka.Kafka", str(self._properties)]), stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"Apache Kafka did not start: {self._log.read_text(errors='replace')[-2000:]}")

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


def jars() -> Path:
    """The directory of the jars; fetched with Maven the first time."""
    done = JARS / f".complete-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}"
    if not done.exists():
        maven = shutil.which("mvn")
        if maven is None:
            raise RuntimeError("the jars of Apache Kafka come with Maven; there is no `mvn` here")
        command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={JARS}"]
        fetched = subprocess.run(command, capture_output=True, text=True, check=False)
        if fetched.returncode:
            raise RuntimeError(f"Maven could not fetch Apache Kafka: {fetched.stdout[-1500:]}")
        done.touch()
    return JARS


@contextmanager
def apache_kafka(**options):
    """A broker for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="qethics-kafka-") as directory:
        broker = Broker(Path(directory), **options)
        try:
            yield broker
        finally:
            broker.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="qethics-kafka-") as place:
        running = Broker(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else None)
        try:
            sys.stdout.write(f"Apache Kafka at {running.bootstrap}; Ctrl-C stops it\n")
            sys.stdout.flush()
            running.process.wait()
        except KeyboardInterrupt:
            running.stop()
