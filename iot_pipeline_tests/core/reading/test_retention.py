"""How long rows live: of every device, or of its group; by code as by name."""

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.columns import DeviceCodes
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.retention import FOR_EVER, Retention, RetentionByCode
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.settings import declared_settings
from iot_pipeline_tests.core.reading.declared import of_one

NOW_SECONDS = 1_795_000_000.25
NOW_MS = 1_795_000_000_250

_days = st.sampled_from([0.0, 0.5, 1.0, 30.0, 7300.0])
_names = st.lists(st.text("ab_1", min_size=1, max_size=4), unique=True)
_groups = st.lists(
    st.tuples(st.text("ab_1*?", min_size=1, max_size=3), st.none() | _days), max_size=4
).map(
    lambda drawn: tuple(
        DeviceGroup(f"g{number}", (pattern,), retention_days=days)
        for number, (pattern, days) in enumerate(drawn)
    )
)


@given(_days, _groups, _names)
def test_a_device_has_the_retention_of_the_first_group_that_names_it(
    days: float, groups: tuple[DeviceGroup, ...], names: list[str]
) -> None:
    retention = Retention.of(days, groups)
    lives = []
    for name in names:
        of = [group for group in groups if fnmatchcase(name, group.patterns[0])]
        said = of[0].retention_days if of else None
        lives.append(days if said is None else said)
        assert retention.days_of(name) == lives[-1]
        edge_ms = NOW_MS - int(lives[-1] * MS_PER_DAY) if lives[-1] else 0
        assert retention.aged_before_ms(name, NOW_SECONDS) == edge_ms
        assert edge_ms <= retention.some_aged_before_ms(NOW_SECONDS)
        assert not lives[-1] or 0 < retention.shortest_days <= lives[-1]
        assert not lives[-1] or retention.may_end
        assert not retention.longest_days or 0 < lives[-1] <= retention.longest_days


@given(_days, _groups, _names, st.integers(0, 9))
def test_by_code_it_is_that_of_the_device_also_of_those_that_came_later(
    days: float, groups: tuple[DeviceGroup, ...], names: list[str], first: int
) -> None:
    retention, codes = Retention.of(days, groups), DeviceCodes()
    by_code = RetentionByCode(retention)
    for part in (names[:first], names[first:]):
        for name in part:
            codes.add(name)
        found = by_code.milliseconds(codes).tolist()
        assert found[: len(codes.ids)] == [retention.milliseconds_of(name) for name in codes.ids]
        assert len(found) == max(1, len(codes.ids))
        aged = by_code.aged_before_ms(codes, NOW_SECONDS).tolist()
        assert aged[: len(codes.ids)] == [
            retention.aged_before_ms(name, NOW_SECONDS) for name in codes.ids
        ]
    other = DeviceCodes()
    for name in reversed(names):
        other.add(name)
    assert by_code.milliseconds(other).tolist()[: len(names)] == [
        retention.milliseconds_of(name) for name in reversed(names)
    ]


def test_groups_that_say_nothing_of_it_cost_nothing() -> None:
    groups = (DeviceGroup("a", ("*",)), DeviceGroup("b", ("*",), retention_days=3))
    assert Retention.of(3, groups) == Retention(3)
    assert Retention.of(4, groups).groups == groups
    assert not FOR_EVER.may_end


def test_the_settings_have_that_of_the_declaration_and_of_every_other_device() -> None:
    declared = of_one(groups="[{name: a, devices: a_*, retention_days: 2}]")
    settings = declared_settings(declared).model_validate({"retention_days": 30})
    lives = [settings.retention.days_of(name) for name in ("a_1", "b_1")]
    assert (lives, settings.retention.longest_days) == ([2, 30], 30)
