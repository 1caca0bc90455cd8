"""``python -m mmworkload.cli``."""

from mmworkload.cli import main

main()
