"""python -m ustack"""

from ustack.cli.main import main

main()
