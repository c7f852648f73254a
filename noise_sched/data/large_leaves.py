"""Dead leaves without small ones: radii from a tenth of the scene's side, see `dead_leaves`.

Their spectrum has a scale of its own, and a larger size shows little that is new but sharper edges: data on
which rules for choosing a schedule by the resolution can be told apart.
"""

from noise_sched.data.dead_leaves import DeadLeaves


class LargeLeaves(DeadLeaves):
    """Builder of the data set "large_leaves"."""

    R_MIN = 0.1


BUILDER = LargeLeaves
