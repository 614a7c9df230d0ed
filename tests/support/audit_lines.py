"""Lines of an audit log and of its strangers, as they were written."""

import json
from pathlib import Path
from typing import Any

from edge_stscq.server.auth.audit_log import strangers_path


def audit_lines(path: Path) -> list[dict[str, Any]]:
    """In the order of their times, those of principals first."""
    files = [file for file in (path, strangers_path(path)) if file.exists()]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted(lines, key=lambda line: str(line["time"]))
