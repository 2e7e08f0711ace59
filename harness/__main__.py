"""``python -m harness`` is ``purebench``."""

from harness.cli import main

main()
