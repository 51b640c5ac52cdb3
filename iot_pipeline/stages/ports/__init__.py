"""What the stages need from the outside, as Protocols: a log to read, a store to write.

One contract suite per port runs on the fake and on the real client (iot_pipeline_tests/stages).
Every method may raise TransientError (try again) or PermanentError (tell a person); none retries.

answers: an answer or a write on its way: nothing waits for it where it was asked for.
log: Kafka: topics as logs to read, to make and to write what could not be read to.
readings: the rows of readings, by device and day, and how the messages were declared.
ledger: the checkpoint, the ledger beside it, and who writes it.
ingest: what runs keep beside the ledger: their cost, their limit, why they stopped.
proof: what is remembered of rows that are no longer as they were drained, and what audits proved.
rollups: the rollups of devices.
fleet: what is kept of devices beside their readings.
tables: keyspace and tables, as `iot setup` makes and looks at them.
"""
