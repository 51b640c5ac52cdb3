#!/usr/bin/env bash
# Bento (https://warpstreamlabs.github.io/bento) in batches of 50, as the peers were measured.
set -euo pipefail
if [ "${1:-}" = --available ]; then command -v bento >/dev/null; exit; fi
config=$(mktemp)
trap 'rm -f "$config"' EXIT
cat >"$config" <<YAML
input:
  kafka:
    addresses: [ "$IOT_BOOTSTRAP_SERVERS" ]
    topics: [ "$IOT_TOPIC" ]
    consumer_group: "bento.$IOT_KEYSPACE"
    start_from_oldest: true
    batching: { count: 50, period: 20ms }
output:
  cassandra:
    addresses: [ "${IOT_CONTACT_POINTS%%,*}:$IOT_CASSANDRA_PORT" ]
    query: 'INSERT INTO $IOT_KEYSPACE.sensor_data (device_id, day, timestamp, temperature, humidity) VALUES (?, ?, ?, ?, ?)'
    # Its driver takes a number as seconds, so the time is text, its milliseconds made of integers.
    args_mapping: |
      let ms = ((this.timestamp * 1000000).round() / 1000).floor()
      let seconds = (\$ms / 1000).floor()
      root = [
        this.device_id,
        \$seconds.ts_format("2006-01-02", "UTC"),
        \$seconds.ts_format("2006-01-02T15:04:05", "UTC") + "." + "%03d".format(\$ms % 1000) + "Z",
        this.temperature,
        this.humidity
      ]
    # Logged batches, its default, are written twice by Cassandra.
    logged_batch: false
    # A batch that Cassandra answers later is sent again; 600 ms is its default.
    timeout: 10s
    max_in_flight: 64
YAML
bento -c "$config"
