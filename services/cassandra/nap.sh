#!/bin/sh
# nap.sh NANOSECONDS COMMAND...: run COMMAND with timers that may fire so much late.
#
# A worker of Cassandra that has nothing to do naps 10 microseconds at a time until there is work (SEPWorker,
# Cassandra 5.0). Linux lets such a nap last 50 microseconds more; sixteen workers then wake 100,000 times a second.
# Half of the CPU that Cassandra takes while readings trickle in is that (docs/adr/0013-idle-workers-nap-longer.md).
# Where there is no such file (not Linux), nothing changes.
[ -w /proc/self/timerslack_ns ] && echo "$1" > /proc/self/timerslack_ns
shift
exec "$@"
