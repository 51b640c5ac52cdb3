"""Decisions: pure functions over small values; clocks and seeds come in as arguments.

What does not belong here: asking servers (`clients`), the order that keeps data safe (the same room
of `stages`), what a check says (`stages.checks`), drawing (`artifacts`).

The rooms, in the order of imports, which is nearly that of a reading's path; `times`, `words` and
`yaml_lines` stand before all of them:

rights/     what our users must be allowed to do on each server, what `iot cql` may ask
reading/    a message is a reading, or a dead letter with a reason; its write time; offsets
ledger/     the chain of ranges that runs leave behind: sums, folding, losses
ingest/     which offsets a run drains; records become a micro-batch, one winner of each key
proof/      log and table side by side: every offset's fate, dead letters, deletions
checks/     what a check answers, its table of devices, what tables and topics must be
rollups/    rows become hours and days; which days are to be made again
fleet/      what is known of each device, what is wrong with which, the report
alerts/     which changes of how things stand are told, to whom, once
simulator/  a fleet, its faults, and what it sends when; stands on reading/ alone
"""
