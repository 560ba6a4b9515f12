"""The part of aiokafka.errors that is used here."""

class KafkaError(RuntimeError):
    errno: int

class KafkaConnectionError(KafkaError): ...
class TopicAlreadyExistsError(KafkaError): ...
