from taskwidgets.runtime.states import ACTIVE, FINAL, OWNED, RESUMABLE, TRANSITIONS, State, may_move

# The design's table, written once more by hand.
DESIGN = {
    "pending": "running terminated",
    "running": "pausing completed failed terminating interrupted",
    "pausing": "paused completed failed interrupted",
    "paused": "running terminating",
    "interrupted": "running terminating",
    "completed": "",
    "failed": "running terminating",
    "terminating": "terminated interrupted",
    "terminated": "",
}


def test_the_transitions_are_those_of_the_design():
    """The pure table has the design's pairs, all of them and no other."""
    expected = {(start, finish) for start, row in DESIGN.items() for finish in row.split()}
    assert {(str(start), str(finish)) for start, finish in TRANSITIONS} == expected
    assert {str(state) for state in State} == set(DESIGN)


def test_may_move_answers_for_every_pair():
    """may_move is true for the pairs of the table and false for all others."""
    for start in State:
        for finish in State:
            assert may_move(start, finish) == (str(finish) in DESIGN[start].split())


def test_the_groups_follow_from_the_table():
    """Final, resumable and owned states are what the table makes of them."""
    leaving = {start for start, _ in TRANSITIONS}
    assert set(State) - FINAL == leaving == ACTIVE
    assert {start for start, finish in TRANSITIONS if finish is State.RUNNING} == RESUMABLE
    assert {start for start, finish in TRANSITIONS if finish is State.INTERRUPTED} == OWNED
