"""Which four of eight walks every layer of LocalMamba takes (arXiv 2403.09338, section 3.3).

The authors searched them layer by layer; released weights fit no others. ``h`` is row by
row, ``v`` column by column, ``2`` and ``7`` are windows, a prime means reversed. The order
inside a layer is the order of the parameters.
"""

from __future__ import annotations

_WALKS = {"h": "row", "v": "col", "2": "window(2)", "7": "window(7)"}


def _layers(table: str) -> tuple[tuple[str, ...], ...]:
    """Read a table with four walks a layer, layers set apart by ``|`` or a new line."""
    cells = table.replace("\n", "|").split("|")
    return tuple(tuple(_walk(sign) for sign in cell.split()) for cell in cells if cell.strip())


def _walk(sign: str) -> str:
    return f"{'~' * sign.endswith(chr(39))}{_WALKS[sign[0]]}"


LOCAL_VIM_TINY = _layers("""
    h v' 7 7'  | h' 2' 7 7' | h h' v 7   | h h' v v'  | h h' v v'
    h h' v v'  | h' v v' 7  | h' v v' 2' | h h' v v'  | h h' v v'
    h v v' 2   | h v v' 2'  | h h' v' 7  | h' v v' 2  | h h' v v'
    h v 2 2'   | v v' 2 7   | h h' v 2   | h h' 2' 7  | v v' 2 2'
""")

LOCAL_VMAMBA_TINY = _layers("""
    h h' 7 7'  | h' v' 2 2'  | h' v' 2' 7  | h' v v' 2   | h h' v' 2'
    h' v' 2 2' | h 2' 7 7'   | h h' v v'   | h v' 7 7'   | h' v 2 7'
    v v' 2 7'  | h h' v' 2'  | v' 2' 7 7'  | h' v' 2' 7' | h' v 7 7'
""")

LOCAL_VMAMBA_SMALL = _layers("""
    h v v' 7'   | h h' v 7   | h' v v' 7  | h' v 2' 7  | h' v 2' 7
    h' v' 2 7'  | h' v v' 7  | h v v' 7   | h v v' 7   | h v v' 7'
    h h' v v'   | h v v' 2   | v v' 2' 7  | h h' v 2   | h' v v' 7'
    h h' v v'   | h v v' 7'  | h v v' 7'  | h h' v' 7  | h' v' 2' 7
    h' v v' 7'  | v v' 7 7'  | h v v' 7'  | h' v v' 2  | h v v' 2'
    h h' v 7    | h h' 7 7'  | h v' 2 2'  | h v' 2 7   | h v v' 7'
    h' v 2' 7   | h' v' 7 7' | h v 7 7'
""")
