"""What our users must be allowed to do on Kafka and Cassandra, as data, and the lines for it."""
