"""What the process that commands are forked from has imported: all that pysync is, and uses.

It holds nothing of a command's own, so there is nothing to collect in it: a fork that looked for
garbage here would touch, and so copy, every page.
"""

import gc
import pkgutil
from importlib import import_module

import pysync

# What modules import in functions, once they need it.
LATER = (
    "alembic.command",
    "alembic.config",
    "pydantic.type_adapter",
    "rich.progress",
    "rich.table",
    "uvicorn",
)

for name in LATER:
    import_module(name)
for module in pkgutil.walk_packages(pysync.__path__, "pysync."):
    if module.name != "pysync.__main__":
        import_module(module.name)
gc.collect()
gc.freeze()
