"""``python -m gapbench``."""

from gapbench.cli import main

main()
