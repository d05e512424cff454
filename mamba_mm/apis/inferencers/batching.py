"""Batches across groups: the hands of several pictures go through a network at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Group = TypeVar("Group")
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_batches(
    groups: Iterable[tuple[Group, list[Item]]],
    batch_size: int,
    run: Callable[[list[Item]], list[Result]],
    most_waiting: int,
) -> Iterator[tuple[Group, list[Result]]]:
    """Run the items of all groups in batches, and give every group its results, in order.

    Args:
        groups: Each with its items, none or several.
        batch_size: Most items that are run at once; fewer only where nothing more may wait.
        run: Returns a result for each item.
        most_waiting: Groups that may wait for their results; the memory grows with it, and so
            does the delay.

    Yields:
        The groups, as soon as all of their results are there.
    """
    waiting: deque[tuple[Group, int]] = deque()
    items: deque[Item] = deque()
    results: deque[Result] = deque()

    def run_one_batch() -> None:
        results.extend(run([items.popleft() for _ in range(min(batch_size, len(items)))]))

    def finished() -> Iterator[tuple[Group, list[Result]]]:
        while waiting and len(results) >= waiting[0][1]:
            group, count = waiting.popleft()
            yield group, [results.popleft() for _ in range(count)]

    for group, its_items in groups:
        waiting.append((group, len(its_items)))
        items.extend(its_items)
        while len(items) >= batch_size:
            run_one_batch()
        yield from finished()
        while len(waiting) >= most_waiting and items:
            run_one_batch()
            yield from finished()
    while items:
        run_one_batch()
    yield from finished()
