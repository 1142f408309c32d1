"""`python -m pbxguard` is the command `pbxguard`."""

from pbxguard.cli import main

if __name__ == "__main__":
    main()
