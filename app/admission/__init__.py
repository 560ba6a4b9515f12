"""The gate: answers whether a run may go ahead, over HTTP, to Kubernetes and over Kafka."""
