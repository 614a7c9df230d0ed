"""A camera has no torch: what runs there must import without it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["edge_stscq.stream", "edge_stscq.device", "edge_stscq.client"])
def test_importing_does_not_bring_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'executorch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
