"""Make the demo's ``oulad.csv.gz`` from the Open University's original tables.

python -m tests.pack_oulad FOLDER
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from pathlib import Path

from pysync.demo import oulad

_INFO = (
    "gender",
    "region",
    "highest_education",
    "imd_band",
    "age_band",
    "disability",
)
_COLUMNS = (
    "id_student",
    "course_id",
    "date_registration",
    "date_unregistration",
    *_INFO,
)


def pack(folder: Path) -> bytes:
    """Make the contents of ``oulad.csv.gz`` from the original tables.

    :param folder: with ``studentInfo.csv`` and ``studentRegistration.csv`` as published.
    :returns: a compressed CSV file with a row per registration, in which each student is described
        as in the latest presentation (72 are described differently in different ones).
    """
    info: dict[str, dict[str, str]] = {}
    for row in sorted(_table(folder / "studentInfo.csv"), key=_original_order):
        info[row["id_student"]] = row
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in sorted(
        _table(folder / "studentRegistration.csv"),
        key=lambda row: (int(row["id_student"]), _original_order(row)),
    ):
        student = info[row["id_student"]]
        writer.writerow(
            {
                "id_student": row["id_student"],
                "course_id": f"{row['code_module']}/{row['code_presentation']}",
                "date_registration": row["date_registration"],
                "date_unregistration": row["date_unregistration"],
                **{name: student[name] for name in _INFO},
            }
        )
    return gzip.compress(text.getvalue().encode(), mtime=0)


def _table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _original_order(row: dict[str, str]) -> tuple[str, str]:
    # '2013B' began in February and sorts before '2013J', which began in October.
    return row["code_presentation"], row["code_module"]


if __name__ == "__main__":
    oulad.FILE.write_bytes(pack(Path(sys.argv[1])))
