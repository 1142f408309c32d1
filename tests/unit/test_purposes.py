"""Names of disclosures come back as they went, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbxguard.core.ids import PurposeName
from pbxguard.core.purposes import Direction, DisclosureKey, Mode

PROOF, TRAINING = PurposeName("contract_evidence"), PurposeName("quality_training")


def test_opt_in_asks_more_than_opt_out_and_that_more_than_a_notice() -> None:
    assert Mode.NOTICE.stricter(Mode.OPT_OUT) is Mode.OPT_OUT
    assert Mode.OPT_IN.stricter(Mode.OPT_OUT) is Mode.OPT_IN
    assert Mode.NOTICE.stricter(Mode.NOTICE) is Mode.NOTICE


def test_the_order_in_which_purposes_are_named_makes_no_other_disclosure() -> None:
    one = DisclosureKey.of((TRAINING, PROOF), "nl", Mode.OPT_OUT, Direction.INBOUND)
    assert one == DisclosureKey.of((PROOF, TRAINING), "nl", Mode.OPT_OUT, Direction.INBOUND)
    assert str(one) == "contract_evidence+quality_training.nl.opt_out.inbound"


@given(
    st.lists(st.sampled_from([PROOF, TRAINING]), min_size=1, max_size=2, unique=True),
    st.sampled_from(["nl", "en"]),
    st.sampled_from(Mode),
    st.sampled_from(Direction),
)
def test_a_disclosures_name_is_read_back(
    purposes: list[PurposeName], language: str, mode: Mode, direction: Direction
) -> None:
    key = DisclosureKey.of(tuple(purposes), language, mode, direction)
    assert DisclosureKey.parse(str(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "contract_evidence",
        "contract_evidence.nl.notice",
        "contract_evidence.nl.notice.inbound.more",
        "contract_evidence.nl.shout.inbound",
        "contract_evidence.nl.notice.sideways",
        "contract_evidence.nld.notice.inbound",
        "contract_evidence.n/.notice.inbound",
        "../../etc/passwd.nl.notice.inbound",
        "contract,evidence.nl.notice.inbound",
        "${SHELL(id)}.nl.notice.inbound",
        "+.nl.notice.inbound",
        ".nl.notice.inbound",
    ],
)
def test_what_is_no_disclosures_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        DisclosureKey.parse(text)


@given(st.text(max_size=60))
def test_no_text_from_a_peer_raises_anything_else(text: str) -> None:
    try:
        key = DisclosureKey.parse(text)
    except ValueError:
        return
    assert not set("/,^${}\r\n ") & set(str(key))
