"""Tell that nothing in a course database's catalog was altered since it was last compared.

To compare it takes longer than all else that a report asks of a healthy course. Every statement
that alters an object writes rows of the catalog anew, and these have the number of the transaction
that did, which doesn't come twice while a server runs. So rows and numbers that are the same say
that the objects are. After a restart nothing is known: the server may have been restored.
"""

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from pysync.db.connections import Connection, fetch_value
from pysync.db.queries import load

_QUERIES: Final = load(__file__)
_PACKAGE: Final = Path(__file__).parent.parent.parent
_COMPARES: Final = ("adoption", "diagnosis/drift", "migrate", "models")


def read_fingerprint(database: Connection) -> str:
    """Return what is another one once anything was altered that is compared with what was made.

    It is another one for each version of what compares, too.
    """
    found = fetch_value(database, _QUERIES["catalog_fingerprint"])
    return sha256(_of_code() + found).hexdigest()


@cache
def _of_code() -> bytes:
    files = [each for name in _COMPARES for each in (_PACKAGE / name).iterdir() if each.is_file()]
    return sha256(b"".join(each.read_bytes() for each in sorted(files))).digest()
