"""What an audit proved and what it could not, in sentences."""

from iot_pipeline.core.proof.audit import DEFECTS, UNPROVEN, AuditResult, Fate

_WHY_UNPROVEN = {
    Fate.EXPIRED: (
        "{:,} expired: Kafka deleted them before they were read, `iot losses` lists them"
    ),
    Fate.UNVERIFIABLE: (
        "{:,} are unverifiable: Kafka does not have their records any more, so no row can be "
        "compared with them"
    ),
    Fate.IN_FLIGHT: "{:,} are in flight: not ingested yet, audit again after the next drain",
}


def conclude(result: AuditResult) -> list[str]:
    """Sentences, at least one; "nothing is lost" only of offsets that were looked at."""
    if not result.offsets:
        return ["nothing was audited: the ledger has no offsets there"]
    unproven = [
        _WHY_UNPROVEN[fate].format(result.fates[fate]) for fate in UNPROVEN if result.fates[fate]
    ]
    return [_verdict(result), *unproven]


def _verdict(result: AuditResult) -> str:
    if not result.is_clean:
        defects = ", ".join(f"{result.fates[f]:,} {f.value}" for f in DEFECTS if result.fates[f])
        return f"{defects}: the command after each arrow repairs it or looks closer"
    if not result.proven:
        return f"none of {result.offsets:,} offsets could be proven"
    if result.proven < result.offsets:
        sentence = f"{result.proven:,} of {result.offsets:,} offsets are proven: none of these "
        sentence += "is lost or torn"
        return f"{sentence}, and no row is stray" if result.is_stray_judged else sentence
    sentence = f"all {result.offsets:,} offsets are proven"
    if result.is_stray_judged:
        return f"nothing is lost, torn or stray: {sentence}"
    return (
        f"nothing is lost or torn: {sentence}; rows without a record were not looked for, because "
        "not every partition was read whole"
    )
