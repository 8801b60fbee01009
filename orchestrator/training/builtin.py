"""The objectives that come with orch: the folder ``objectives/`` under a private module name.

Nothing of ours is called ``objectives`` when Python runs, so a user's own ``objectives.py``, or a
folder of that name, is theirs.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# The wheel has the folder inside the package, a checkout beside it.
_FOLDERS = (_PACKAGE / "_objectives", _PACKAGE.parent / "objectives")
# A module with a path is a package: `orchestrator.training.builtin.mnist` is `mnist.py` there.
__path__ = [str(folder) for folder in _FOLDERS if folder.is_dir()][:1]
