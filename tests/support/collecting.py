"""What the collectors of metrics read, without a broker."""

from app.main import kinds
from app.stream.ages import Ages
from app.stream.losses import Losses


class Unit:
    def __init__(self, kind, partition):
        self.kind, self.partition, self.stage = kind, partition, kind.build(partition)
        self.applied_at = self.checkpointed_at = 0.0
        self.has_caught_up = True


class Shell:
    """A shell with every stage of every partition."""

    def __init__(self, catalog, policy, partitions=4):
        self.units = {
            (kind.name, number): Unit(kind, number)
            for kind in kinds(catalog, policy, partitions)
            for number in range(partitions)
        }
        self.ages, self.losses = Ages(), Losses()
        self.partitions = partitions
        self.names = {f"t.{name}": name for kind in kinds(catalog, policy, partitions) for name in kind.topics}
        self.ready, self.restored_seconds = True, 0.0


class Publisher:
    def __init__(self):
        self.written = {"alerts": 0}
