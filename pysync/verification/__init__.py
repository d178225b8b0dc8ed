"""Compare courses with the portal, and mend what differs.

Two legs. On the portal, what plain SQL on the source tables says a course should hold is compared
with the fan-out: one statement in one snapshot, so there is nothing to wait for
(:mod:`~pysync.verification.portal`). Between the servers the fan-out is compared with the course
database: hashes of key ranges first, then rows of ranges that differ, each time after a mark has
arrived (:mod:`~pysync.verification.compare`); what still differs is looked at under locks, so that
being late is no explanation any more (:mod:`~pysync.verification.settle`).
"""

from pysync.verification.repair import Rebuilt, Repair, rebuild, repair
from pysync.verification.types import Difference, Kind, Place, Verification
from pysync.verification.verify import verify

__all__ = [
    "Difference",
    "Kind",
    "Place",
    "Rebuilt",
    "Repair",
    "Verification",
    "rebuild",
    "repair",
    "verify",
]
