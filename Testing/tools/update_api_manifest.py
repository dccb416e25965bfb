"""Write Testing/fixtures/slicer_api.json: every name of the CTK and Slicer widgets that the module uses.

update_api_manifest.py SLICER CTK: paths of checkouts of Slicer and CTK, whose headers are read.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Testing"))

from host import api  # noqa: E402 - found by the line above

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    used = {use.owner for use in api.all_uses(ROOT)}
    table = api.read_headers([Path(path) for path in sys.argv[1:]], {name for name in used if name.startswith(api.OWN)})
    text = json.dumps(table, indent=1)
    (ROOT / "Testing" / "fixtures" / "slicer_api.json").write_text(text + "\n", encoding="utf-8")
