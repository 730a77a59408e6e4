"""Apache Kafka as one KRaft node: broker and controller in one process, all on loopback."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Callable
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from jobledger_devstack.cache import Report
from jobledger_devstack.java import find_java
from jobledger_devstack.kafka_jars import ensure_jars
from jobledger_devstack.part import Part
from jobledger_devstack.process import Argv, Launch, plain_env, run_tool

HEAP = "512m"

LOG4J = """\
# One stream to stdout; the supervisor keeps it.
status = warn
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS'Z'}{UTC} %-5p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


def server_properties(*, data: Path, broker_port: int, controller_port: int) -> str:
    """The broker's configuration.

    A broker that was killed may work again only when its old session has run out: 12 s by default, 4 s with the two settings here.
    """
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=BROKER
listeners=BROKER://127.0.0.1:{broker_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=BROKER://127.0.0.1:{broker_port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=4
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


def new_cluster_id(make: Callable[[], uuid.UUID] = uuid.uuid4) -> str:
    """A random id as Kafka writes them: 22 characters of URL-safe base64. One that begins with `-` would be taken for an option."""
    while (cluster_id := base64.urlsafe_b64encode(make().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return cluster_id


class Kafka(Part):
    """The broker."""

    name = "kafka"

    @property
    def port(self) -> int | None:
        return self.context.ports.get("kafka")

    def port_names(self) -> tuple[str, ...]:
        return ("kafka", "kafka_controller")

    def prepare(self, report: Report) -> None:
        self._jars = ensure_jars(self.context.cache, report)
        self._java = find_java()

    def launch(self) -> Launch:
        folder, ports = self.context.layout.kafka, self.context.ports
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)
        properties, log4j, data = folder / "server.properties", folder / "log4j2.properties", folder / "data"
        properties.write_text(server_properties(data=data, broker_port=ports["kafka"], controller_port=ports["kafka_controller"]))
        log4j.write_text(LOG4J)
        java: Argv = [self._java, f"-Xmx{HEAP}", f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{self._jars}/*"]
        if not (data / "meta.properties").exists():
            argv: Argv = [*java, "kafka.tools.StorageTool", "format", "-t", new_cluster_id(), "-c", properties]
            run_tool(self.context.home, self.name, argv, env=plain_env(folder), timeout_s=60)
        return Launch([*java, "kafka.Kafka", properties], self.context.users.invoking, plain_env(folder), folder, stop_grace_s=15)

    async def probe(self) -> bool:
        port = self.context.ports["kafka"]
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}", request_timeout_ms=2000)
        try:
            await client.bootstrap()
            return bool(client.cluster.brokers())
        except KafkaError:
            return False
        finally:
            await client.close()
