"""Every command in one application."""

from __future__ import annotations

from . import calls, check, init, outcome, prompts, recordings, retention, run, status, stop_recorders, switch, why
from .options import application

app = application()
for _noun in (run, check, status, calls, why, switch, init, outcome, stop_recorders):
    _noun.register(app)
app.add_typer(prompts.app, name="prompts")
app.add_typer(recordings.app, name="recordings")
app.add_typer(retention.app, name="retention")
