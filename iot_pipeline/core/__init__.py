"""The path of a reading, decided by pure functions over small values, in this order.

readings    -> a message is a reading, or a dead letter with a reason
simulation  -> a fleet of devices and what they send (fleet: its values; pacing: when)
offsets     -> which offsets one run drains
ingest      -> records become a micro-batch: winners, grouped by Cassandra partition
ledger      -> the chain of ranges that runs leave behind, and its sums (ledger_sums: kept ones)
lag         -> how far behind, in offsets and seconds
checks      -> ledger, rows and lag become verdicts, with what to do about them
device_state -> what is known of each device, folded from readings as they pass (fleet_states: of
               all); device_problems decides what is wrong, fleet_verdicts says it as checks
rollups     -> rows become hours and days (rollup_days: which days to make again; rollup_checks)

audit       -> log and table side by side, every offset sorted by its fate

Beside the simulation: `scenarios` and `fault_specs` are what a scenario file may say,
`scenario_file` reads it; `weather`, `fault_windows`, `faults` and `scenario_fleet` make the
messages, `scenario_plan` their times, `manifest` the truth about what was sent.

Around the path: `dead_letters` reads back what was rejected, `moments` and `cql` read what a person
asks.
"""
