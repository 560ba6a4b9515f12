"""The pure core: no Kafka, HTTP, clock, environment, randomness or logging."""
