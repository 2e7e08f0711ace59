"""``python -m harness`` is ``purebench``."""

from harness.cli.commands import main

main()
