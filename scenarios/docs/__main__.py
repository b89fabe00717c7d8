"""`python -m scenarios.docs FOLDER`: the pages of docs/, those that are made, and a mkdocs.yml for them."""

import sys
from pathlib import Path

from scenarios.docs.site import write_site

write_site(Path(sys.argv[1]))
