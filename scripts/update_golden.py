"""Copy a run's numbers into the golden files, keep their tolerances, and say what changed.

    .venv/bin/python scripts/update_golden.py results/smoke

Look at every line that it prints before committing: a golden number changes only for a reason that the commit names.
New files come without tolerances: numbers must then be equal, until somebody has measured their spread over seeds
(``scripts/measure_spread.py``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.golden_values import FOLDER, differences  # noqa: E402


def main(results: Path, profile: str = "smoke") -> None:
    folder = FOLDER / profile
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(results.glob("[0-9]*.json")):
        target = folder / path.name
        golden = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {"values": {}, "tolerances": {}}
        values = json.loads(path.read_text(encoding="utf-8"))
        for line in differences(values, golden):
            print(f"{path.stem}: {line}")
        text = json.dumps({"values": values, "tolerances": golden["tolerances"]}, indent=2, ensure_ascii=False)
        temporary = target.with_suffix(".tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(target)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/smoke"))
