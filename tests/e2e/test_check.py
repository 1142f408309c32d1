"""`check` on a real Asterisk: rights, version, endpoints, dialplan and ARI are really seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pbxguard.core.errors import ActionRefused, ConnectionFailed, PbxguardError
from pbxguard.pbx.ami.connection import Address
from pbxguard.pbx.probe import Probe
from pbxguard.service import check as service
from pbxguard.service import check_pbx
from pbxguard.service.check import PromptState
from pbxguard.service.check_pbx import EndpointView, Rights
from pbxguard.settings import Settings, from_mapping
from tests.lab.asterisk import Asterisk


def probe(asterisk: Asterisk, **change: Any) -> Probe:
    given: dict[str, Any] = {
        "port": asterisk.ami_port,
        "user": asterisk.ami_user,
        "secret": asterisk.ami_secret,
        "ari_url": asterisk.ari_url,
        "ari_password": asterisk.ari_password,
    } | change
    return Probe(
        Address("127.0.0.1", given["port"], given["user"], given["secret"]),
        ari_url=given["ari_url"],
        ari_username=asterisk.ari_user,
        ari_password=given["ari_password"],
        rights=Rights,
        endpoint=EndpointView,
    )


def configured(asterisk: Asterisk, spool: Path) -> Settings:
    return from_mapping(
        {
            "organisation": {"name": "Acme"},
            "employees": 10,
            "ami": {"port": asterisk.ami_port, "secret": asterisk.ami_secret},
            "ari": {"url": asterisk.ari_url, "password": asterisk.ari_password},
            "parties": {"own": ["PJSIP/10?-*"], "external": ["PJSIP/trunk-*"]},
            "spool": {"path": str(spool)},
        }
    )


class AllApproved:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def states(self) -> Sequence[PromptState]:
        return [PromptState(key, True, 4000) for key in self.settings.disclosure_keys()]


async def test_the_account_of_the_lab_has_exactly_the_rights_needed(asterisk: Asterisk) -> None:
    async with probe(asterisk) as asked:
        rights = await asked.rights()
        assert check_pbx.check_rights(rights) == []
        assert rights.configured == check_pbx.USED_READ  # GetConfig really showed them
        assert check_pbx.check_version(await asked.version()) == []
        await asked.ari()


async def test_an_account_with_all_rights_is_found_to_have_too_many(asterisk: Asterisk) -> None:
    async with probe(asterisk, user="lab", secret=asterisk.lab_secret) as asked:
        rights = await asked.rights()
    assert rights.write >= {"system", "call", "command", "originate"}
    found = check_pbx.check_rights(rights)
    assert [finding.code for finding in found] == ["rights_too_many", "rights_too_many"]
    assert "read=all" in found[0].message
    assert "write=" in found[1].message


async def test_check_names_what_the_lab_lacks_and_nothing_else(asterisk: Asterisk, tmp_path: Path) -> None:
    settings = configured(asterisk, tmp_path)
    async with probe(asterisk) as asked:
        found = await service.check(settings, asked, AllApproved(settings))
    by_code = {finding.code: finding for finding in found}
    assert set(by_code) <= {
        "endpoint_unknown",  # 190, the load agent
        "dialplan_missing",
        "balancing_test_missing",
        "employees_informed_missing",
        "spool_unwritable",  # where Asterisk is not root
    }
    assert "PJSIP/190" in by_code["endpoint_unknown"].message
    assert "PJSIP/100" not in by_code["endpoint_unknown"].message


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"secret": "wrong"}, ActionRefused),
        ({"user": "nobody"}, ActionRefused),
        ({"port": 1}, ConnectionFailed),
    ],
)
async def test_a_login_that_fails_is_told_with_a_mend(
    change: dict[str, Any], kind: type[PbxguardError], asterisk: Asterisk
) -> None:
    async with probe(asterisk, **change) as asked:
        with pytest.raises(kind) as caught:
            await asked.version()
    assert isinstance(caught.value, PbxguardError)
    assert caught.value.diagnostics()


@pytest.mark.parametrize(
    ("change", "kind"),
    [({"ari_password": "wrong"}, ActionRefused), ({"ari_url": "http://127.0.0.1:1/ari"}, ConnectionFailed)],
)
async def test_an_ari_that_refuses_or_is_away_is_told(
    change: dict[str, Any], kind: type[PbxguardError], asterisk: Asterisk
) -> None:
    async with probe(asterisk, **change) as asked:
        with pytest.raises(kind):
            await asked.ari()


async def test_a_context_is_there_or_missing_as_the_dialplan_has_it(asterisk: Asterisk) -> None:
    async with probe(asterisk) as asked:
        assert await asked.dialplan_exists("internal", "100")
        assert not await asked.dialplan_exists("pbxguard-no-such-context", "s")
