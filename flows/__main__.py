"""`python -m flows`: the command line where the console script is not on the PATH."""

from flows.cli import main

main()
