# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Says which tests failed and why, from a JUnit file: below pages of Molecule's own, where somebody looks first."""

from __future__ import annotations

import pathlib
import sys
from xml.etree import ElementTree


def main(path: pathlib.Path) -> None:
    if not path.exists():
        print("No test was run.")
        return
    for case in ElementTree.parse(path).iter("testcase"):
        for kind in ("failure", "error"):
            if (found := case.find(kind)) is not None:
                text = (found.text or found.get("message") or "").strip().splitlines()
                print("\n".join(text[-60:]))
                print(f"FAILED {case.get('classname')}::{case.get('name')} - {found.get('message', '')[:300]}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
