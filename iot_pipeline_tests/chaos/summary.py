"""What chaos tests said, at the end of the session: kills, records, the longest recovery, seeds."""

import pytest

# Names of properties of a test's report.
SAID, TALLY = "chaos_said", "chaos_tally"


def write_summary(reporter: pytest.TerminalReporter) -> None:
    """Write the section, if a chaos test ran; in a session of several processes too."""
    found = [
        told
        for reports in reporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for told in report.user_properties
    ]
    lines = [str(value) for name, value in found if name == SAID]
    tallies = [value for name, value in found if name == TALLY]
    if not lines and not tallies:
        return
    reporter.section("chaos")
    for line in lines:
        reporter.write_line(line)
    if tallies:
        processes, servers, records, recoveries = zip(*tallies, strict=True)
        reporter.write_line(
            f"in all: {sum(processes) + sum(servers)} kills ({sum(processes)} of processes, "
            f"{sum(servers)} of servers), {sum(records):,} records acknowledged, longest recovery "
            f"{max(recoveries):.1f} s"
        )
