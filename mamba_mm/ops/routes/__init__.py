"""Scan routes as data: where a scan walks, which parameters it uses, how walks are merged.

A route is an index table made from the size of a map; a set of them, one value, says all
that tells the scans of published vision models apart.

Example:
    >>> from mamba_mm.ops.routes import route_gather, route_merge, route_set
    >>> tables = route_set("cross").tables(2, 3)
    >>> tables.read.tolist()[1]
    [0, 3, 1, 4, 2, 5]
"""

from .dynamic import align_pruned, dynamic_index, pruned_table, sorted_order
from .gather import route_gather, route_merge, route_restore
from .index import RouteIndex, check_index, index_of
from .merge import gated_merge, merge_branches, merge_sequences, per_route_gated_merge
from .presets import ROUTE_SETS, multi_head, register_route_set, route_set, route_sets
from .registry import known_routes, register_route
from .reorder import group_permutation, reorder_groups
from .route_set import RouteSet
from .scan_route import NUM_CODES, ScanRoute
from .tables import RouteTables, clear_table_cache

__all__ = [
    "NUM_CODES",
    "ROUTE_SETS",
    "RouteIndex",
    "RouteSet",
    "RouteTables",
    "ScanRoute",
    "align_pruned",
    "check_index",
    "clear_table_cache",
    "dynamic_index",
    "gated_merge",
    "group_permutation",
    "index_of",
    "known_routes",
    "merge_branches",
    "merge_sequences",
    "multi_head",
    "per_route_gated_merge",
    "pruned_table",
    "register_route",
    "register_route_set",
    "reorder_groups",
    "route_gather",
    "route_merge",
    "route_restore",
    "route_set",
    "route_sets",
    "sorted_order",
]
