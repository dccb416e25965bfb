"""The command line: `python -m DiffSegLib VERB ...` or `diffseg VERB ...`.

Exit codes: 0 all done, 1 some cases failed, 2 wrong usage or input, 3 environment, 4 cancelled.
"""

import sys


def main() -> int:
    """Run the command line of this process and return its exit code."""
    from DiffSegLib.commands import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
