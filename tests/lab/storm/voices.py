"""Owns: what each party of a storm says. Who may be recorded says a chirp: every piece of it tells when it was said.

The bands are apart, so that all may be heard at once. Strangers (third parties, spies) say a steady tone: it is found
in pieces of a few milliseconds, and there is nothing to be told of it but that it is there.
"""

from __future__ import annotations

from tests.lab.signals import MUSIC_HZ, Chirp, Tone

SWEEP_S = 15.0
VOICES = {
    "customer": Chirp(300.0, 900.0, SWEEP_S),
    "first": Chirp(1350.0, 1950.0, SWEEP_S),
    "second": Chirp(2050.0, 2650.0, SWEEP_S),
}
"""Of customers, and of the two of ours at a desk."""
STRANGER = Tone(3300.0)
FORBIDDEN_HZ = {STRANGER.hertz: 0.005, MUSIC_HZ: 0.03}
"""Tones that no file may hold, and the window (seconds) that finds each beside all the others."""
