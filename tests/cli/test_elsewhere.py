"""Settings by the names that other programs have for them."""

import re

import pytest

from cnnjax.cli import elsewhere, main
from cnnjax.cli.elsewhere import settings_of_elsewhere


def refuse():
    raise SystemExit(2)


@pytest.fixture
def options(capsys):
    """All options of `cnnjax train`, by their names in the help."""
    with pytest.raises(SystemExit):
        main(["train", "resnet20", "--help"])
    return {*re.findall(r"--[a-z0-9.-]+", capsys.readouterr().out)}


def test_what_settings_are_called_elsewhere_leads_to_settings_that_there_are(options):
    meant = [here for here in elsewhere._ELSEWHERE if here.startswith("--")]
    assert len(meant) > 30
    assert [here for here in meant if here not in options] == []


def test_no_name_of_elsewhere_is_a_setting_here_too(options):
    assert [name for name in elsewhere._HERE if name in options] == []


def test_a_name_is_told_where_the_arguments_are_refused(capsys):
    for arguments in (["--bn", "global"], ["--bn=global"], ["--sync_bn"]):
        with pytest.raises(SystemExit), settings_of_elsewhere(arguments):
            refuse()
        name = arguments[0].partition("=")[0].replace("_", "-")
        assert capsys.readouterr().err == (
            f"error: there is no {name}; did you mean --devices.batch-norm-statistics?\n"
        )


def test_nothing_is_told_of_other_names_and_other_exits(capsys):
    with pytest.raises(SystemExit), settings_of_elsewhere(["--batch-size", "many"]):
        refuse()
    with pytest.raises(SystemExit), settings_of_elsewhere(["--lr", "1"]):
        raise SystemExit(0)
    assert capsys.readouterr().err == ""


def test_by_the_whole_command(capsys):
    with pytest.raises(SystemExit):
        main(["train", "lenet5", "--weight-decay", "0.1"])
    assert "there is no --weight-decay; did you mean --optimizer.weight-decay?" in capsys.readouterr().err
