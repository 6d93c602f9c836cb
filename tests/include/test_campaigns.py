from datetime import date, timedelta
from pathlib import Path

import pytest

from include.campaigns import CampaignFileError, Campaigns, OnUnknown, ResetPolicy, UnknownCampaignError

SHIPPED = Path(__file__).parents[2] / "include" / "brand" / "campaigns.yaml"

DAY = date(2026, 11, 22)


def load(tmp_path: Path, text: str) -> Campaigns:
    path = tmp_path / "campaigns.yaml"
    path.write_text(text, encoding="utf-8")
    return Campaigns.load(path)


def problem(tmp_path: Path, text: str) -> str:
    """The error's sentence after the file's name."""
    with pytest.raises(CampaignFileError) as raised:
        load(tmp_path, text)
    start = f"campaign file {tmp_path / 'campaigns.yaml'} "
    assert str(raised.value).startswith(start)
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix(start)


TWO = """
campaigns:
  - name: bags
    tag: bags-{yyyy}-{mm}
    products: [Tote, Mini]
    starts_on: 2026-11-01
    ends_on: 2026-11-30
    stale_after: 30d
  - {name: rest, tag: rest, products: "*", stale_after: 90}
"""


def test_the_first_campaign_that_wants_the_order_gets_it(tmp_path: Path) -> None:
    campaigns = load(tmp_path, TWO)
    matched = {
        (product, day): campaign.name if (campaign := campaigns.match(product, day)) else None
        for product in ("Tote", "tote", "Watch", None)
        for day in (date(2026, 10, 31), date(2026, 11, 1), date(2026, 11, 30), date(2026, 12, 1))
    }
    assert [key for key, name in matched.items() if name == "bags"] == [
        ("Tote", date(2026, 11, 1)),
        ("Tote", date(2026, 11, 30)),
    ]
    assert set(matched.values()) == {"bags", "rest"}


def test_an_order_that_no_campaign_wants_matches_none(tmp_path: Path) -> None:
    campaigns = load(tmp_path, "campaigns: [{name: bags, tag: bags, products: [Tote], stale_after: 30d}]")
    assert campaigns.match("Watch", DAY) is None
    assert campaigns.match(None, DAY) is None


def test_the_tag_is_filled_from_the_business_day(tmp_path: Path) -> None:
    campaigns = load(tmp_path, TWO)
    bags, rest = campaigns.listed
    assert bags.tag_for(date(2026, 3, 1)) == "bags-2026-03"
    assert rest.tag_for(date(2026, 3, 1)) == "rest"


def test_orders_carry_over_until_some_days_after_the_last_or_for_ever(tmp_path: Path) -> None:
    campaigns = load(tmp_path, TWO)
    bags, rest = campaigns.listed
    assert bags.carry_until(14) == date(2026, 12, 14)
    assert rest.carry_until(14) is None
    assert rest.model_copy(update={"ends_on": date(9999, 12, 31)}).carry_until(14) is None


@pytest.mark.parametrize(
    ("written", "days"),
    [("30", 30), ("30d", 30), ("'7d'", 7), ("P45D", 45), ("PT36H", 1.5), ("'90d'", 90), ("36h", 1.5), ("90m", 0.0625)],
)
def test_stale_after_is_a_duration_or_a_number_of_days(tmp_path: Path, written: str, days: float) -> None:
    (campaign,) = load(tmp_path, f"campaigns: [{{name: a, tag: a, products: '*', stale_after: {written}}}]").listed
    assert campaign.stale_after == timedelta(days=days)


def test_what_a_campaign_does_not_say_is_cautious(tmp_path: Path) -> None:
    (campaign,) = load(tmp_path, "campaigns: [{name: a, tag: a, products: '*', stale_after: 30d}]").listed
    assert campaign.starts_on is None
    assert campaign.ends_on is None
    assert campaign.reset is None
    assert campaign.requeue is False
    assert campaign.on_unknown is OnUnknown.REISSUE
    assert campaign.pool_size is None


def test_asking_for_unknown_campaigns_names_them_and_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownCampaignError) as raised:
        load(tmp_path, TWO).require(["rest", "bagz"])
    assert str(raised.value) == "no campaign is named 'bagz'; the file has 'bags', 'rest'"


def campaign(**fields: str) -> str:
    """A file of one campaign, ``summer``, with ``fields`` replaced as YAML."""
    whole = {"name": "summer", "tag": "summer", "products": '"*"', "stale_after": "30d", **fields}
    return "campaigns:\n  - " + "\n    ".join(f"{field}: {value}" for field, value in whole.items() if value)


NOT_A_DAY = "is not a day; write it as YYYY-MM-DD, or leave it out for an open end"
STAR = 'products: "*"'


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tag": "t" * 201}, f"tag '{'t' * 76}... is longer than 200 characters; shorten the tag"),
        ({"tag": '"a,b"'}, "tag 'a,b' holds a comma, which the NMP reads as two tags; rename the tag"),
        ({"tag": '"a b"'}, "tag 'a b' must be one word without blanks; rename the tag"),
        ({"tag": '"a\u200bb"'}, "tag 'a\\u200bb' must be one word without blanks; rename the tag"),
        ({"tag": '""'}, "tag '' must be one word without blanks; rename the tag"),
        ({"tag": '"a-{dd}"'}, "tag 'a-{dd}' has braces other than {yyyy} and {mm}; use only these two"),
        ({"tag": "2026"}, "tag 2026 is not text; put it in quotes"),
        ({"tag": ""}, "tag is missing; add it"),
        (
            {"color": "red"},
            "'color' is not a known field; the fields are name, tag, products, starts_on, ends_on, stale_after, reset, "
            "requeue, on_unknown, pool_size",
        ),
        (
            {"starts_on": "2026-06-02", "ends_on": "2026-06-01"},
            "ends_on 2026-06-01 is before starts_on 2026-06-02; correct one of them",
        ),
        ({"starts_on": "1.6.2026"}, f"starts_on '1.6.2026' {NOT_A_DAY}"),
        ({"starts_on": "20260601"}, f"starts_on 20260601 {NOT_A_DAY}"),
        ({"ends_on": "2026-02-30"}, f"ends_on '2026-02-30' {NOT_A_DAY}"),
        ({"ends_on": "2026-06-01 10:00:00"}, f"ends_on '2026-06-01 10:00:00' {NOT_A_DAY}"),
        ({"products": "[]"}, f"products [] is empty; name at least one product, or write {STAR} for every product"),
        (
            {"products": "Tote"},
            f"products 'Tote' is not a list; write products: [name, name], or {STAR} (in quotes) for every product",
        ),
        (
            {"products": "[Tote, '*']"},
            f"products ['Tote', '*'] holds \"*\" among names; write {STAR} for every product",
        ),
        ({"products": "[Tote, Tote]"}, "products ['Tote', 'Tote'] names 'Tote' twice; name it once"),
        ({"products": "[Tote, 17]"}, "products 17 is not text; put it in quotes"),
        ({"stale_after": "0d"}, "stale_after '0d' must be longer than nothing; write at least 1s"),
        ({"stale_after": "a month"}, "stale_after 'a month' is not a duration; write it like 60d, 48h, 15m or 30s"),
        ({"stale_after": "'30'"}, "stale_after '30' is not a duration; write it like 60d, 48h, 15m or 30s"),
        ({"stale_after": "100000"}, "stale_after 100000 is too long; write at most 99999d"),
        ({"stale_after": "true"}, "stale_after True is not a duration; write it like 60d, 48h, 15m or 30s"),
        ({"reset": "always"}, "reset 'always' is not known; use one of never, when_stale"),
        ({"on_unknown": "retry"}, "on_unknown 'retry' is not known; use one of reissue, hold"),
        (
            {"reset": "never", "requeue": "true"},
            "requeue is true but reset is 'never'; set reset to 'when_stale' or remove requeue",
        ),
        ({"requeue": "1"}, "requeue 1 cannot be used: Input should be a valid boolean"),
        ({"pool_size": "0"}, "pool_size 0 cannot be used: Input should be greater than or equal to 1"),
        (
            {"tag": '"a,b"', "pool_size": "0"},
            "tag 'a,b' holds a comma, which the NMP reads as two tags; rename the tag (1 more after this one)",
        ),
    ],
)
def test_a_bad_campaign_gets_one_sentence_that_names_campaign_field_value_and_remedy(
    tmp_path: Path, fields: dict[str, str], said: str
) -> None:
    assert problem(tmp_path, campaign(**fields)) == f"has an error in campaign 'summer': {said}"


NO_CAMPAIGNS = "does not begin with 'campaigns:'; list the campaigns below such a line"
NO_LIST = "has no usable list of campaigns: list at least one below 'campaigns:'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (campaign(name=""), "has an error in campaign number 1: name is missing; add it"),
        (
            campaign(name="' summer'"),
            "has an error in campaign ' summer': "
            "name ' summer' must be text without blanks around it or control characters; correct it",
        ),
        (TWO.replace("name: rest", "name: bags"), "has two campaigns named 'bags'; give each a name of its own"),
        (
            campaign().replace("stale_after: 30d", "stale_after: 30d\n    tag: winter"),
            "is not readable as YAML: the field 'tag' is given twice in line 6; correct it",
        ),
        ("campaigns: []", NO_LIST),
        ("campaigns:", NO_LIST),
        ("other: 1", NO_LIST + " (1 more after this one)"),
        (
            "campaigns: [summer]",
            "has an error in campaign number 1: "
            "it is not a set of fields; write name, tag, products and stale_after below it",
        ),
        ("", NO_CAMPAIGNS),
        ("- name: a", NO_CAMPAIGNS),
        (campaign() + "\nextra: 1", "has an error: 'extra' is not a known field beside 'campaigns'; remove it"),
        (
            campaign(products="*"),
            "is not readable as YAML: expected alphabetic or numeric character, but found '\\n' in line 4; correct it",
        ),
        (
            "campaigns: [",
            "is not readable as YAML: expected the node content, but found '<stream end>' in line 1; correct it",
        ),
        (
            "campaigns: \x07",
            "is not readable as YAML: unacceptable character #x0007: special characters are not allowed",
        ),
        ("{[a, b]: 1}", "is not readable as YAML: found unhashable key in line 1; correct it"),
        ("a: !!python/object:os.system {}", "is not readable as YAML: could not determine a constructor for the tag"),
    ],
)
def test_a_bad_file_gets_one_sentence_that_says_where_and_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    assert problem(tmp_path, text).startswith(said)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CampaignFileError) as raised:
        Campaigns.load(tmp_path / "none.yaml")
    assert str(raised.value) == (
        f"campaign file {tmp_path / 'none.yaml'} cannot be read (No such file or directory); "
        "give the path of a YAML file"
    )
    with pytest.raises(CampaignFileError, match="cannot be read"):
        Campaigns.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("campaigns: [é]".encode("latin-1"))
    with pytest.raises(CampaignFileError, match="is not text in UTF-8; save it as UTF-8"):
        Campaigns.load(tmp_path / "latin.yaml")


def test_the_shipped_campaigns_end_with_a_catch_all_on_the_demo_gift_tag() -> None:
    campaigns = Campaigns.load(SHIPPED)
    *special, catch_all = campaigns.listed
    assert catch_all.name == catch_all.tag == "demo-gift"
    assert (catch_all.products, catch_all.starts_on, catch_all.ends_on) == ("*", None, None)
    assert campaigns.match(None, date(2017, 11, 24)) == catch_all
    assert [campaign.tag_for(DAY) for campaign in special] == [
        "demo-watches-2026-11",
        "demo-handbags-2026-11",
        "demo-sneakers-2026-11",
    ]
    assert special[0].reset is ResetPolicy.WHEN_STALE
