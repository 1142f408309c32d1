"""`pbxguard on` and `pbxguard off`: every door open to pbxguard, or passed by, within a second."""

from __future__ import annotations

import typer

from pbxguard import settings
from pbxguard.core.errors import ConnectionFailed

from .client import ask
from .options import CONFIG, Config, Json, emit

WITHOUT_US = "Asterisk can do it without pbxguard: asterisk -rx 'dialplan set global PBXGUARD {value}'"


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command(epilog="Example: pbxguard off && pbxguard status")
    def off(config: Config = CONFIG, json: Json = False) -> None:
        """Let every call pass by, unrecorded, from now on; running recordings stop. Needs no reload."""
        _switch(config, json, False)

    @app.command(epilog="Example: pbxguard on")
    def on(config: Config = CONFIG, json: Json = False) -> None:
        """Undo `pbxguard off`."""
        _switch(config, json, True)


def _switch(config: Config, json: bool, on: bool) -> None:
    try:
        data = ask(settings.load(config).socket.path, "POST", "/switch", body={"on": on})
    except ConnectionFailed as error:
        mend = WITHOUT_US.format(value="on" if on else "off")
        raise ConnectionFailed(error.component, str(error).partition(": ")[2], f"{error.mend} {mend}") from error
    emit(data, json, f"pbxguard is {'on' if data['on'] else 'off'}")
