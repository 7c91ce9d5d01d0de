"""The demo's benchmark measures what it says."""

from mmicl_jax.bench import demo as bench


def test_rates_count_units_a_second_and_leave_the_first_call_out():
  calls = []

  def work() -> int:
    calls.append(len(calls))
    return 10

  rates = bench._rates(work, rounds=3)
  assert len(calls) == 4 and len(rates) == 3
  assert all(rate > 0 for rate in rates)


def test_a_row_has_the_median_and_the_spread():
  row = bench._row('steps', 'examples/s', [3.0, 1.0, 2.0])
  assert (row['least'], row['median'], row['most']) == (1.0, 2.0, 3.0)
