"""Nothing that a caller chose reaches an AMI value, and nothing unsafe goes out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbxguard.core.errors import UnsafeValue
from pbxguard.core.ids import Endpoint, SegmentId, Uniqueid
from pbxguard.pbx.ami import values
from pbxguard.pbx.ami.values import Ours


@pytest.mark.parametrize("mark", [",", "$", "{", "}", "^", "\r", "\n", "\0", "\x7f", "\x85", "\ud800"])
def test_a_value_with_a_dangerous_mark_is_refused(mark: str) -> None:
    with pytest.raises(UnsafeValue):
        values.header(f"a{mark}b")


@pytest.mark.parametrize("mark", ["\r", "\n", "\0"])
def test_not_even_our_own_values_may_hold_a_line_end(mark: str) -> None:
    assert values.header(Ours("r(/a)t(/b),x")) == "r(/a)t(/b),x"
    with pytest.raises(UnsafeValue):
        values.header(Ours(f"a{mark}b"))


def test_plain_values_pass_unchanged() -> None:
    assert values.header("REC:abcd234 é") == "REC:abcd234 é"


@pytest.mark.parametrize("name", ["PBXGUARD_RESULT", "CDR(pbxguard)", "TIMEOUT(absolute)", "__X"])
def test_the_variables_that_we_write_are_known(name: str) -> None:
    assert values.variable(name) == name


@pytest.mark.parametrize("name", ["SHELL(id)", "FILE(/etc/passwd)", "A=B", "A B", "", "CDR(a)(b)", "CDR(a,b)", "A\nB"])
def test_no_other_function_of_the_dialplan_can_be_written(name: str) -> None:
    with pytest.raises(UnsafeValue):
        values.variable(name)


@pytest.mark.parametrize("path", ["relative", "/a b", "/a,b", "/a/../b", "/a(b", "/a)i(X", "/a\n", "/é"])
def test_only_opaque_absolute_paths_go_to_mixmonitor(path: str) -> None:
    with pytest.raises(UnsafeValue):
        values.path(Path(path))


@pytest.mark.parametrize("channel", ["", "/.*", "a b", "a,b", "1.2\r\nAction: Hangup"])
def test_a_uniqueid_that_could_mean_more_is_refused(channel: str) -> None:
    with pytest.raises(UnsafeValue):
        values.uniqueid(Uniqueid(channel))


def test_a_lamp_is_named_after_the_device_without_its_technology() -> None:
    assert values.lamp_device(Endpoint("PJSIP/100")) == "Custom:pbxguard-100"
    with pytest.raises(UnsafeValue):
        values.lamp_device(Endpoint("PJSIP/1,2"))


def test_each_recorder_has_a_variable_of_its_own() -> None:
    names = {values.recorder_variable(SegmentId(f"abcdefgh23456777-{n:03d}")) for n in range(1, 20)}
    assert len(names) == 19
    assert all(name.startswith(values.RECORDER_PREFIX) for name in names)


@given(st.text())
def test_what_passes_can_start_no_second_header(text: str) -> None:
    try:
        passed = values.header(text)
    except UnsafeValue:
        return
    assert passed == text
    assert not set(passed) & set(",${}^\r\n")
    assert len(f"Name: {passed}".splitlines()) == 1 or not ({"\r", "\n"} & set(passed))
