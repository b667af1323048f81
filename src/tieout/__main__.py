"""python -m tieout"""

from .cli import main

main()
