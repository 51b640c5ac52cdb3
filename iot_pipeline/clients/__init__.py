"""The only speakers of Kafka and CQL: they translate errors, they never retry or choose."""
