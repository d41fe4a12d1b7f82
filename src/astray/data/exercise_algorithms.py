"""Families of harder exercises, levels 4 and 5: reference by the usual algorithm, expected values by plain search."""

import itertools
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Task:
    """Exercise without tests, as a family draws it.

    Attributes:
        task: the task in words.
        signature: signature of the function, such as "solve(numbers)".
        reference: source of a right solution.
        compute: returns the right value for given arguments, by another way than the reference.
        arguments: draws arguments.
    """

    task: str
    signature: str
    reference: str
    compute: Callable[..., Any]
    arguments: Callable[[Random], Arguments]


def _task(
    task: str, signature: str, reference: str, compute: Callable[..., Any], arguments: Callable[[Random], Arguments]
) -> Task:
    return Task(task, f"solve({signature})", textwrap.dedent(reference).lstrip("\n"), compute, arguments)


def _longest_run(rng: Random) -> Task:
    k = rng.randrange(1, 7)

    def compute(numbers: list[int]) -> int:
        spans = (numbers[i:j] for i in range(len(numbers)) for j in range(i + 1, len(numbers) + 1))
        return max(
            (len(span) for span in spans if all(abs(a - b) <= k for a, b in itertools.pairwise(span))), default=0
        )

    reference = f"""
        def solve(numbers):
            best = run = 0
            for i, n in enumerate(numbers):
                run = run + 1 if i and abs(n - numbers[i - 1]) <= {k} else 1
                best = max(best, run)
            return best
        """
    task = (
        f"It returns the length of the longest stretch of the list in which neighbours differ by at most {k}; 0 for "
        "an empty list."
    )
    return _task(
        task, "numbers", reference, compute, lambda rng: ([rng.randrange(0, 12) for _ in range(rng.randrange(0, 14))],)
    )


def _covered(rng: Random) -> Task:
    gap = rng.randrange(0, 4)

    def compute(intervals: list[tuple[int, int]]) -> int:
        points = {point for start, end in intervals for point in range(start, end + 1)}
        near = {point for point in range(60) if point not in points and _between(point, points, gap)}
        return len(points | near)

    reference = f"""
        def solve(intervals):
            covered, last = 0, None
            for start, end in sorted(intervals):
                if last is not None and start - last - 1 <= {gap}:
                    covered += max(0, end - last)
                    last = max(last, end)
                else:
                    covered += end - start + 1
                    last = end
            return covered
        """
    task = (
        "It gets a list of pairs (start, end) of whole numbers, both included, and returns how many whole numbers "
        f"they cover together, where a gap of at most {gap} numbers between two covered ones counts as covered too."
    )

    def arguments(rng: Random) -> Arguments:
        starts = [rng.randrange(0, 40) for _ in range(rng.randrange(1, 7))]
        return ([(start, start + rng.randrange(0, 8)) for start in starts],)

    return _task(task, "intervals", reference, compute, arguments)


def _between(point: int, points: set[int], gap: int) -> bool:
    below = max((other for other in points if other < point), default=None)
    above = min((other for other in points if other > point), default=None)
    return below is not None and above is not None and above - below - 1 <= gap


def _survivor(rng: Random) -> Task:
    k = rng.randrange(2, 8)

    def compute(n: int) -> int:
        place = 0
        for size in range(2, n + 1):
            place = (place + k) % size
        return place + 1

    reference = f"""
        def solve(n):
            people, place = list(range(1, n + 1)), 0
            while len(people) > 1:
                place = (place + {k - 1}) % len(people)
                people.pop(place)
            return people[0]
        """
    task = (
        f"n people, numbered from 1, stand in a circle. Counting from the first, every {k}th leaves until one is "
        "left. It returns that one's number."
    )
    return _task(task, "n", reference, compute, lambda rng: (rng.randrange(1, 60),))


def _islands(rng: Random) -> Task:
    diagonal = rng.random() < 0.5
    reach = [(-1, 0), (1, 0), (0, -1), (0, 1)] + ([(-1, -1), (-1, 1), (1, -1), (1, 1)] if diagonal else [])

    def compute(grid: list[str]) -> int:
        group = {(r, c): (r, c) for r, row in enumerate(grid) for c, mark in enumerate(row) if mark == "#"}
        for cell, (dr, dc) in itertools.product(tuple(group), reach):
            other = (cell[0] + dr, cell[1] + dc)
            if other in group and group[other] != group[cell]:
                old, new = group[other], group[cell]
                group = {place: new if root == old else root for place, root in group.items()}
        return len(set(group.values()))

    reference = f"""
        def solve(grid):
            todo = {{(r, c) for r, row in enumerate(grid) for c, mark in enumerate(row) if mark == "#"}}
            islands = 0
            while todo:
                islands += 1
                stack = [todo.pop()]
                while stack:
                    r, c = stack.pop()
                    for dr, dc in {reach}:
                        if (r + dr, c + dc) in todo:
                            todo.remove((r + dr, c + dc))
                            stack.append((r + dr, c + dc))
            return islands
        """
    task = (
        "It gets a map, a list of strings of '#' (land) and '.' (water), and returns the number of islands; cells "
        "that touch at a side"
    )
    task += " or a corner belong together." if diagonal else " belong together, at a corner they do not."

    def arguments(rng: Random) -> Arguments:
        rows, columns = rng.randrange(1, 6), rng.randrange(1, 8)
        return (["".join(rng.choice("#..") for _ in range(columns)) for _ in range(rows)],)

    return _task(task, "grid", reference, compute, arguments)


def _fewest_coins(rng: Random) -> Task:
    coins = sorted(rng.sample(range(2, 16), 3))

    def compute(amount: int) -> int:
        reached, count = {0}, 0
        while reached and amount not in reached:
            reached, count = {sum_ + coin for sum_ in reached for coin in coins if sum_ + coin <= amount}, count + 1
        return count if reached else -1

    reference = f"""
        def solve(amount):
            fewest = [0] + [amount + 1] * amount
            for value in range(1, amount + 1):
                fewest[value] = min((fewest[value - coin] + 1 for coin in {coins} if coin <= value), default=amount + 1)
            return fewest[amount] if fewest[amount] <= amount else -1
        """
    task = (
        f"There are coins of {coins[0]}, {coins[1]} and {coins[2]}, as many as you like. It finds the smallest "
        "number that make the amount, or -1."
    )
    return _task(task, "amount", reference, compute, lambda rng: (rng.randrange(0, 90),))


def _paths(rng: Random) -> Task:
    moves = [(1, 0), (0, 1)] + ([(1, 1)] if rng.random() < 0.5 else []) + ([(0, 2)] if rng.random() < 0.5 else [])

    def compute(grid: list[str]) -> int:
        @cache
        def ways(r: int, c: int) -> int:
            if r >= len(grid) or c >= len(grid[0]) or grid[r][c] == "#":
                return 0
            return 1 if (r, c) == (len(grid) - 1, len(grid[0]) - 1) else sum(ways(r + dr, c + dc) for dr, dc in moves)

        return ways(0, 0)

    reference = f"""
        def solve(grid):
            ways = [[0] * len(row) for row in grid]
            for r, row in enumerate(grid):
                for c, mark in enumerate(row):
                    if mark == "#":
                        continue
                    ways[r][c] = 1 if r == c == 0 else 0
                    for dr, dc in {moves}:
                        if r >= dr and c >= dc:
                            ways[r][c] += ways[r - dr][c - dc]
            return ways[-1][-1]
        """
    steps = ", ".join(
        {(1, 0): "one row down", (0, 1): "one column right", (1, 1): "one of both", (0, 2): "two columns right"}[move]
        for move in moves
    )
    task = (
        "It gets a grid, a list of strings where '#' is blocked, and counts the ways from the first to the last "
        f"cell; a step goes {steps}."
    )

    def arguments(rng: Random) -> Arguments:
        rows, columns = rng.randrange(2, 6), rng.randrange(2, 7)
        cells = [[rng.choice("......#") for _ in range(columns)] for _ in range(rows)]
        cells[0][0] = cells[-1][-1] = "."
        return (["".join(row) for row in cells],)

    return _task(task, "grid", reference, compute, arguments)


def _edit_cost(rng: Random) -> Task:
    insert, delete, replace = rng.randrange(1, 4), rng.randrange(1, 4), rng.randrange(1, 6)

    def compute(a: str, b: str) -> int:
        @cache
        def cost(i: int, j: int) -> int:
            if i == len(a) or j == len(b):
                return (len(a) - i) * delete + (len(b) - j) * insert
            same = 0 if a[i] == b[j] else replace
            return min(cost(i + 1, j) + delete, cost(i, j + 1) + insert, cost(i + 1, j + 1) + same)

        return cost(0, 0)

    reference = f"""
        def solve(a, b):
            costs = [j * {insert} for j in range(len(b) + 1)]
            for i, x in enumerate(a, 1):
                before, costs[0] = costs[0], i * {delete}
                for j, y in enumerate(b, 1):
                    kept = before + (0 if x == y else {replace})
                    before, costs[j] = costs[j], min(costs[j] + {delete}, costs[j - 1] + {insert}, kept)
            return costs[-1]
        """
    task = (
        f"It returns the smallest cost of turning the text a into b: an inserted letter costs {insert}, a deleted "
        f"{delete}, a replaced {replace}."
    )
    return _task(
        task,
        "a, b",
        reference,
        compute,
        lambda rng: tuple("".join(rng.choice("abc") for _ in range(rng.randrange(0, 8))) for _ in range(2)),
    )


def _longest_rising(rng: Random) -> Task:
    k = rng.randrange(1, 5)

    def compute(numbers: list[int]) -> int:
        picks = (pick for size in range(len(numbers) + 1) for pick in itertools.combinations(numbers, size))
        return max(len(pick) for pick in picks if all(b - a >= k for a, b in itertools.pairwise(pick)))

    reference = f"""
        def solve(numbers):
            best = []
            for i, n in enumerate(numbers):
                best.append(1 + max((best[j] for j in range(i) if n - numbers[j] >= {k}), default=0))
            return max(best, default=0)
        """
    task = (
        f"It returns how many numbers can be picked from the list at most, in order, so that each is at least {k} "
        "larger than the one before."
    )
    return _task(
        task, "numbers", reference, compute, lambda rng: ([rng.randrange(0, 25) for _ in range(rng.randrange(0, 10))],)
    )


def _apart(rng: Random) -> Task:
    gap = rng.randrange(2, 5)

    def compute(numbers: list[int]) -> int:
        picks = (pick for size in range(len(numbers) + 1) for pick in itertools.combinations(range(len(numbers)), size))
        return max(
            sum(numbers[i] for i in pick) for pick in picks if all(b - a >= gap for a, b in itertools.pairwise(pick))
        )

    reference = f"""
        def solve(numbers):
            best = [0]
            for i, n in enumerate(numbers):
                best.append(max(best[-1], n + best[max(0, i + 1 - {gap})]))
            return best[-1]
        """
    task = (
        "It returns the largest sum of numbers picked from the list so that the positions of any two are at least "
        f"{gap} apart; picking none gives 0."
    )
    return _task(
        task, "numbers", reference, compute, lambda rng: ([rng.randrange(-9, 20) for _ in range(rng.randrange(0, 10))],)
    )


ALGORITHMS: Mapping[int, tuple[Callable[[Random], Task], ...]] = {
    4: (_longest_run, _covered, _survivor, _islands),
    5: (_fewest_coins, _paths, _edit_cost, _longest_rising, _apart),
}
"""Level -> families of exercises."""
