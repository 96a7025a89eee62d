"""The T and the disc that pushes it: their geometry, and how a push moves the block.

All lengths are pixels of the package's table. The *block's frame* has the middle of the bar's upper side as
its origin, the bar lies along x (120 x 30) and the stem along y (30 x 90). Angles turn x towards y.

The package's table is viscous without limit (a velocity is gone after each physics step) and its contacts
have no friction. So the disc moves the block by the normal n at the contact alone: with lever l = r x n about
the centre of mass, an advance of the disc by a along n moves the centre by n a / (1 + l^2/k) and turns the
block by l a / (k + l^2), where k = inertia / mass.

Shape suffixes: C contacts, E edges, P points, B batch; 2 x and y.
"""

from __future__ import annotations

import numpy as np

AGENT_RADIUS = 15.0
INERTIA_PER_MASS = 3000.0
CENTRE_2 = np.array([0.0, 45.0])
GOAL_2, GOAL_ANGLE = np.array([256.0, 256.0]), np.pi / 4
CORNERS_E2 = np.array(
    [[-60, 0], [60, 0], [60, 30], [15, 30], [15, 120], [-15, 120], [-15, 30], [-60, 30]], dtype=np.float64
)
_EDGES_E2 = np.roll(CORNERS_E2, -1, axis=0) - CORNERS_E2
LENGTHS_E = np.linalg.norm(_EDGES_E2, axis=1)
TANGENTS_E2 = _EDGES_E2 / LENGTHS_E[:, None]
INWARD_E2 = np.stack([-TANGENTS_E2[:, 1], TANGENTS_E2[:, 0]], axis=1)
# How near to either end of an edge the disc may touch it: it slips off a corner, and cannot enter one of 90
# degrees that opens towards it.
_INSETS_E2 = np.array([[6, 6], [5, 5], [6, 17], [17, 6], [5, 5], [6, 17], [17, 6], [5, 5]], dtype=np.float64)
RANGES_E2 = np.stack([_INSETS_E2[:, 0], LENGTHS_E - _INSETS_E2[:, 1]], axis=1)
# The levers of pushes at the two ends of those ranges, the lesser first.
_ENDS_E22 = CORNERS_E2[:, None] + TANGENTS_E2[:, None] * RANGES_E2[..., None] - CENTRE_2
LEVERS_E2 = np.sort(
    _ENDS_E22[..., 0] * INWARD_E2[:, None, 1] - _ENDS_E22[..., 1] * INWARD_E2[:, None, 0], axis=1
)
RECTANGLES = np.array([[-60.0, 0.0, 60.0, 30.0], [-15.0, 30.0, 15.0, 120.0]])


def rotation(angle_B: np.ndarray | float) -> np.ndarray:
    """(..., 2, 2) from the block's frame to the table's."""
    c, s = np.cos(angle_B), np.sin(angle_B)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


def clearance(point_P2: np.ndarray) -> np.ndarray:
    """Distance (P,) from points in the block's frame to the block, 0 within."""
    distances = []
    for left, top, right, bottom in RECTANGLES:
        x, y = point_P2[..., 0], point_P2[..., 1]
        away_x = np.maximum(np.maximum(left - x, x - right), 0.0)
        away_y = np.maximum(np.maximum(top - y, y - bottom), 0.0)
        distances.append(np.hypot(away_x, away_y))
    return np.minimum(distances[0], distances[1])
