"""One target under Atheris, coverage as its guide; started by `script/fuzz`, which says how long.

Usage: run.py TARGET CORPUS [libFuzzer options]. A find is written into the current folder and ends the run.
"""

from __future__ import annotations

import logging
import sys

import atheris

with atheris.instrument_imports(include=["pbxguard", "panoramisk", "phonenumbers", "tomllib"]):
    import structlog

    from tests.fuzz.targets import TARGETS


def main() -> None:
    name, corpus, *options = sys.argv[1:]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    atheris.Setup([sys.argv[0], corpus, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
