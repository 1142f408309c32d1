"""Owns: what whoever keeps the demo running may do with it: the accounts of two softphones, what to dial, what to type.

A test reads this text as a person does, and does what it says (tests/e2e/test_demo.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.lab.asterisk import Line
from tests.lab.installation import Installation

YOU_INSIDE, YOU_OUTSIDE = "110", "trunk-you"
YOUR_NUMBER = "+31612345199"
YOURS = [Line(YOU_OUTSIDE, "from-trunk", password="secret", caller_id=YOUR_NUMBER)]
"""Lines that only an invitation needs."""


def invitation(site: Installation) -> str:
    """The text, in lines of at most 80 columns but for the alias."""
    inside, outside = site.asterisk.line(YOU_INSIDE), site.asterisk.line(YOU_OUTSIDE)
    return f"""\
Everything stays up until Ctrl-C. Register a softphone on this machine (SIP over
UDP, G.711), and dial; whoever you call answers by itself, with a tone:

  as staff       user {inside.name:<9}  password {inside.password:<9}  server {inside.server}
     0201112233    a customer: hears the disclosure first, is then recorded
     113           the suicide prevention line: never told, never recorded
     100           a colleague: internal, never recorded
  as a customer  user {outside.name:<9}  password {outside.password:<9}  server {outside.server}
     31201234100   agent 100, as proof: the disclosure, then recorded
     31201234{inside.name}   the softphone of staff above: the disclosure, then recorded
     31201235100   agent 100, for training: press 9, and you are not recorded
     31201237100   agent 100, marked private: never recorded
     31201239001   the sales queue: the disclosure, then recorded
     31201239000   forwarded to an outside number: never recorded

And meanwhile, in another terminal:

  alias pbxguard="{Path(sys.executable).parent}/pbxguard --config {site.config}"
  pbxguard calls
  pbxguard why {YOUR_NUMBER}
  pbxguard recordings list
  pbxguard off"""
