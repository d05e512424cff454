"""The routes of every system, step by step in plain Python, from their descriptions.

A step is a pair (row, column), ``None`` where it is padded, or ``"extra"``.
"""

from __future__ import annotations

import itertools
import math

SIZES = [
    (1, 1),
    (1, 5),
    (5, 1),
    (2, 2),
    (2, 3),
    (3, 2),
    (3, 4),
    (4, 3),
    (5, 7),
    (7, 5),
    (6, 6),
    (7, 7),
    (8, 12),
    (13, 9),
    (14, 14),
    (64, 48),
]


def row(height, width):
    return [(r, c) for r in range(height) for c in range(width)]


def col(height, width):
    return [(r, c) for c in range(width) for r in range(height)]


def snake_row(height, width):
    steps = []
    for r in range(height):
        for k in range(width):
            steps.append((r, k) if r % 2 == 0 else (r, width - 1 - k))
    return steps


def snake_col(height, width):
    steps = []
    for c in range(width):
        for k in range(height):
            steps.append((k, c) if c % 2 == 0 else (height - 1 - k, c))
    return steps


def phase(height, width, s, r0, c0, major):
    rows, columns = math.ceil(height / s), math.ceil(width / s)
    cells = [(i, j) for i in range(rows) for j in range(columns)]
    if major == "col":
        cells = [(i, j) for j in range(columns) for i in range(rows)]
    steps = []
    for i, j in cells:
        r, c = r0 + s * i, c0 + s * j
        steps.append((r, c) if r < height and c < width else None)
    return steps


def wrap_diag(height, width):
    return [(i, (i + j) % width) for j in range(width) for i in range(height)]


def wrap_anti(height, width):
    return [(i, (j - i) % width) for j in range(width) for i in range(height)]


def zigzag(height, width):
    steps = []
    for k in range(height + width - 1):
        diagonal = [(r, k - r) for r in range(height) if 0 <= k - r < width]
        steps += diagonal[::-1] if k % 2 == 0 else diagonal
    return steps


def spiral(height, width):
    """Walk on until the next cell is outside or seen, then turn right."""
    r, c, dr, dc = 0, 0, 0, 1
    steps = [(0, 0)]
    seen = {(0, 0)}
    while len(steps) < height * width:
        ahead = (r + dr, c + dc)
        if ahead in seen or not (0 <= ahead[0] < height and 0 <= ahead[1] < width):
            dr, dc = dc, -dr
            continue
        r, c = ahead
        steps.append(ahead)
        seen.add(ahead)
    return steps


def window(height, width, w):
    steps = []
    for top in range(0, height, w):
        for left in range(0, width, w):
            for r in range(top, top + w):
                for c in range(left, left + w):
                    steps.append((r, c) if r < height and c < width else None)
    return steps


def back(steps):
    return list(reversed(steps))


def mirrored(steps, height, width, axis):
    flip = {
        "lr": lambda r, c: (r, width - 1 - c),
        "ud": lambda r, c: (height - 1 - r, c),
    }[axis]
    return [None if step is None else flip(*step) for step in steps]


def with_middle(steps, height, width):
    middle = height * width // 2
    return [*steps[:middle], "extra", *steps[middle:]]


def moves(steps):
    """The code of the move that led to each step."""
    names = {(0, 1): 1, (0, -1): 2, (-1, 0): 3, (1, 0): 4}
    return [0] + [names[(b[0] - a[0], b[1] - a[1])] for a, b in itertools.pairwise(steps)]


def table(steps, height, width):
    places = {None: -1, "extra": height * width}
    return [places[s] if s is None or s == "extra" else s[0] * width + s[1] for s in steps]


def there_and_back(*walks):
    return [steps for walk in walks for steps in (walk, back(walk))]


def system(name, height, width):
    """The sequences of a preset, each a list of steps; one list of them a branch."""
    h, w = height, width
    rows, columns = row(h, w), col(h, w)
    snakes = there_and_back(snake_row(h, w), snake_col(h, w))
    joined = back(rows) + columns + back(columns)
    diagonals = [wrap_diag(h, w), wrap_anti(h, w)]
    with_class = with_middle(rows, h, w)
    z, s = zigzag(h, w), spiral(h, w)
    return {
        "cross": [[rows, columns, back(rows), back(columns)]],
        "hamba": [[rows, columns, back(rows), back(columns)]],
        "bidirectional": [[rows, back(rows)]],
        "mambatrack": [[rows, back(rows)]],
        "hydra": [[rows, back(rows)]],
        "unidirectional": [[rows]],
        "lightm_unet": [[rows]],
        "vim": [[with_class, back(with_class)]],
        "msvmamba_v1": [[rows], [joined]],
        "msvmamba_v2": [[rows], [joined]],
        "atrous2": [
            [
                phase(h, w, 2, 0, 0, "row"),
                phase(h, w, 2, 1, 0, "col"),
                phase(h, w, 2, 0, 1, "row"),
                phase(h, w, 2, 1, 1, "col"),
            ]
        ],
        "serpentine": [snakes],
        "fer": [
            [rows, columns, back(rows), back(columns), *diagonals, *(back(d) for d in diagonals)]
        ],
        "mhsvm_c": [snakes],
        "mhsvm_x": [there_and_back(z, mirrored(z, h, w, "lr"))],
        "mhsvm_s": [there_and_back(s, mirrored(s, h, w, "ud"))],
        "mhsvm_z": [there_and_back(rows, columns)],
        "local_vim_small": [there_and_back(rows, window(h, w, 2))],
    }[name]


def local_layer(signs, height, width, middle=False):
    """The sequences of a layer of LocalMamba, written as in its table: ``"h v' 2 7'"``."""
    walks = {
        "h": row(height, width),
        "v": col(height, width),
        "2": window(height, width, 2),
        "7": window(height, width, 7),
    }
    steps = [back(walks[s[0]]) if s.endswith("'") else walks[s] for s in signs.split()]
    return [with_middle(s, height, width) for s in steps] if middle else steps
