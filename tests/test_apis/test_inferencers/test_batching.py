import pytest

from mamba_mm.apis.inferencers.batching import in_batches


def squares(batches):
    def run(items):
        batches.append(len(items))
        return [item**2 for item in items]

    return run


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_every_group_gets_its_results_in_order(batch_size):
    groups = [("a", [1, 2]), ("b", []), ("c", [3]), ("d", [4, 5, 6, 7]), ("e", [])]
    batches = []
    found = list(in_batches(groups, batch_size, squares(batches), most_waiting=100))
    assert found == [("a", [1, 4]), ("b", []), ("c", [9]), ("d", [16, 25, 36, 49]), ("e", [])]
    assert sum(batches) == 7
    assert set(batches[:-1]) <= {batch_size}


def test_groups_without_items_do_not_wait_for_a_batch():
    def groups():
        yield "a", []
        raise AssertionError("asked for more")

    assert next(in_batches(groups(), 8, squares([]), 100)) == ("a", [])


def test_only_so_many_groups_wait():
    taken, batches = [], []

    def groups():
        for number in range(6):
            taken.append(number)
            yield number, [number]

    results = in_batches(groups(), 100, squares(batches), most_waiting=2)
    assert next(results) == (0, [0])
    assert taken == [0, 1]
    assert len(list(results)) == 5
    assert batches == [2, 2, 2]


def test_what_is_live_does_not_wait_at_all():
    batches = []
    list(in_batches([(0, [1, 2, 3]), (1, [4])], 2, squares(batches), most_waiting=1))
    assert batches == [2, 1, 1]
