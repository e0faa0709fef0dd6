"""The rule that chooses a strength, against its definition."""

from hypothesis import given
from hypothesis import strategies as st

from depurate import Agreement
from depurate.purification.strength import STRENGTHS, choose_strength

losses = st.lists(st.tuples(st.floats(0, 0.02), st.floats(0, 0.01)), min_size=6, max_size=6)


@given(losses, losses, st.floats(0, 0.03))
def test_the_largest_strength_that_both_checks_let_pass(quick, sure, tolerated):
    asked = []

    def looked_up(table, name):
        def look(strength):
            asked.append((name, strength))
            loss, error = table[STRENGTHS.index(strength)]
            return Agreement(1, 1.0, 0.0, 1.0, loss, error)

        return look

    trials = choose_strength(looked_up(quick, "quick"), looked_up(sure, "sure"), tolerated=tolerated)
    stop = next((i for i, cost in enumerate(quick) if sum(cost) > tolerated), len(STRENGTHS))
    best = max(0, stop - 1)
    chosen = next((i for i in range(best, 0, -1) if sum(sure[i]) <= tolerated), 0)
    assert [trial.strength for trial in trials] == list(STRENGTHS[: stop + 1])
    assert [i for i, trial in enumerate(trials) if trial.chosen] == [chosen]
    confirmed = range(chosen, best + 1)
    for i, trial in enumerate(trials):
        found = (trial.agreement.expected_loss, trial.agreement.loss_error)
        assert found == (sure if i in confirmed else quick)[i]
    assert asked == [("quick", s) for s in STRENGTHS[: stop + 1]] + [
        ("sure", STRENGTHS[i]) for i in reversed(confirmed)
    ]
