import pytest

from iot_pipeline.stages.checks.machinery.facts import RunBudget


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("run_seconds", "together"), [(0.0, 0.5), (2.0, 0.5), (60.0, 6.0)])
def test_the_checks_of_a_run_share_a_tenth_of_it_or_half_a_second(
    run_seconds: float, together: float
) -> None:
    clock = Clock()
    budget = RunBudget(run_seconds, clock)
    clock.now += 0.2  # a question that costs what it costs
    first = budget.part(0.25)
    assert first == pytest.approx((together - 0.2) / 4)
    clock.now += first
    assert budget.part(1.0) == pytest.approx((together - 0.2) * 3 / 4)


def test_however_late_it_is_something_is_looked_at() -> None:
    clock = Clock()
    budget = RunBudget(0.0, clock)
    clock.now += 60
    assert budget.part(0.25) > 0
