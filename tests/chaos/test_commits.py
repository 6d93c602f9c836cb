"""What counts as a time without a commit while work waited."""

import pytest

from tests.chaos.commits import Gaps

Look = tuple[float, int | None, tuple[str, ...]]


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        ([(0.0, 1, ("a",)), (5.0, 1, ("a",)), (6.0, 2, ("a",)), (9.0, 2, ("a",))], 5.0),  # somebody commits: from then
        ([(0.0, 1, ()), (20.0, 1, ())], 0.0),  # nobody has work
        ([(0.0, 1, ()), (20.0, 1, ("a",)), (23.0, 1, ("a",))], 3.0),  # it counts from when the process could commit
        ([(0.0, 1, ("a",)), (9.0, 1, ()), (10.0, 1, ("a",)), (14.0, 1, ("a",))], 4.0),  # it was frozen for a while
        ([(0.0, 1, ("a",)), (8.0, 1, ("b",)), (15.0, 1, ("b",))], 7.0),  # two that take turns are two
        ([(0.0, 1, ("a",)), (8.0, None, ()), (9.0, 1, ("a",)), (12.0, 1, ("a",))], 3.0),  # the database was down
    ],
)
def test_the_longest_time_in_which_one_process_had_work_and_nobody_committed(looks: list[Look], seconds: float) -> None:
    gaps = Gaps()
    for moment, commits, able in looks:
        if commits is None:
            gaps.see_nothing()
        else:
            gaps.see(moment, commits, able)
    assert gaps.longest.seconds == seconds
