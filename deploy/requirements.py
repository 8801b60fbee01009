"""What orch needs, as pip reads it: the layer of the image that an edit of the source keeps.

python deploy/requirements.py EXTRA ... > requirements.txt
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = [each for extra in sys.argv[1:] for each in project["optional-dependencies"][extra]]
print(*project["dependencies"], *extras, sep="\n")
