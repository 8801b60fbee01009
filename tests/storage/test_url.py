"""Storage URLs: every form of one is masked, and read alike by libpq, SQLAlchemy and us."""

from __future__ import annotations

from urllib.parse import quote

import psycopg2
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from psycopg2.extensions import parse_dsn
from sqlalchemy.engine import make_url

from orchestrator.errors import StorageError
from orchestrator.storage.artifacts import check_artifacts
from orchestrator.storage.url import hide, mask, normalise

_WORDS = ("Xq7z", "Ww9k", "Jj4v", "Pé3漢")
_RAW = "@:/?#% &='\"\\;,+$!~[]()é漢"


@st.composite
def passwords(draw: st.DrawFn, between: str = _RAW) -> str:
    """Words that occur nowhere else in a URL, with signs before, between and after them."""
    signs = st.text(st.sampled_from(between), max_size=2)
    count = draw(st.integers(1, len(_WORDS)))
    return draw(signs) + "".join(word + draw(signs) for word in _WORDS[:count])


def _shows(text: str) -> list[str]:
    return [word for word in _WORDS if word in text or quote(word) in text]


users = st.sampled_from(["", "u", "orch_worker", "user%40server", "jörg"])
schemes = st.sampled_from(
    ["postgresql", "postgres", "postgresql+psycopg2", "mysql+pymysql", "redis", "rediss", "s3"]
)
# Not of PostgreSQL alone: without a host, sockets, IPv6, several hosts.
hosts = st.sampled_from(
    ["db.lab", "db.lab:5432", "[::1]:5432", "h1:1,h2:2", "%2Ftmp%2Fsocket", "", "bücher.example"]
)
queries = st.sampled_from(["", "?sslmode=require", "?host=/tmp/socket&port=5433", "?user=a%40b"])


@given(schemes, users, passwords(), hosts, queries)
def test_no_raw_password_before_the_host_is_shown(
    scheme: str, user: str, password: str, host: str, query: str
) -> None:
    masked = mask(f"{scheme}://{user}:{password}@{host}/lab{query}")
    assert not _shows(masked) and mask(masked) == masked


@given(schemes, users, passwords(), hosts, queries)
def test_only_the_encoded_password_is_hidden(
    scheme: str, user: str, password: str, host: str, query: str
) -> None:
    masked = mask(f"{scheme}://{user}:{quote(password, safe='')}@{host}/lab{query}")
    assert masked == f"{scheme}://{user}:***@{host}/lab{query}"


@pytest.mark.parametrize("key", ["password", "sslpassword", "pass%77ord"])
@given(password=passwords(), before=queries, encoded=st.booleans())
def test_no_password_after_the_question_mark_is_shown(
    key: str, password: str, before: str, encoded: bool
) -> None:
    value = quote(password, safe="") if encoded else password
    masked = mask(f"postgresql://u@db.lab/lab{before or '?'}&{key}={value}&connect_timeout=3")
    assert not _shows(masked) and mask(masked) == masked
    if encoded:
        assert masked.startswith("postgresql://u@db.lab/lab?")
        assert masked.endswith("=***&connect_timeout=3")


@given(passwords("@:/?#% '=é"), st.sampled_from(["redis://h/0", "mysql://u@h/d", "s3://bucket"]))
def test_no_password_after_the_question_mark_of_another_scheme_is_shown(
    password: str, url: str
) -> None:
    masked = mask(f"{url}?password={password}")
    assert not _shows(masked) and mask(masked) == masked


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@given(passwords(), st.sampled_from(["password=", "password = ", "sslpassword="]))
def test_no_password_of_the_keyword_form_is_shown(password: str, key: str) -> None:
    given_to_libpq = f"host=db.lab {key}{_quoted(password)} dbname=lab"
    assert parse_dsn(given_to_libpq)[key.strip(" =")] == password
    assert mask(given_to_libpq) == f"host=db.lab {key}*** dbname=lab"
    bare = mask(f"host=db.lab {key}{password} dbname=lab")
    assert bare.startswith("host=db.lab") and not _shows(bare) and mask(bare) == bare


@given(passwords(), st.sampled_from(["", "postgresql:", "postgresql:/", "postgres//", "//"]))
def test_no_password_of_a_url_without_its_scheme_is_shown(password: str, start: str) -> None:
    masked = mask(f"{start}u:{password}@db.lab/lab")
    assert not _shows(masked) and mask(masked) == masked


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:geheim/lab", "postgresql://u:***/lab"),  # the host was forgotten
        ("postgresql://u:geheim", "postgresql://u:***"),
        ("postgresql://u@h/d?user=a@b", "postgresql://u@h/d?user=a@b"),
        ("postgresql://u@h/d?password=a@b", "postgresql://u@h/d?password=***"),
        ("postgresql://?service=lab", "postgresql://?service=lab"),
        ("postgresql://u@/d?host=/tmp/a b&passfile=/x", "postgresql://u@/d?host=/tmp/a b&passfile=/x"),
        ("sqlite:////home/me@lab/old.db", "sqlite:////home/me@lab/old.db"),
        ("sqlite:///old.db", "sqlite:///old.db"),
        ("nonsense", "nonsense"),
    ],
)  # fmt: skip
def test_text_that_is_not_secret_is_shown(url: str, masked: str) -> None:
    assert mask(url) == masked == mask(masked)


@given(st.text(st.sampled_from("ab:/?#@%&= '\\*postgresql://password=")) | st.text())
def test_masking_twice_changes_nothing(text: str) -> None:
    assert mask(mask(text)) == mask(text)


@given(users, passwords("#? ~$:;,+&='\"!()[]\\"), hosts, queries)
@example("u", "p#w?x y", "h", "")
def test_a_raw_password_that_libpq_accepts_means_the_same_everywhere(
    user: str, password: str, host: str, query: str
) -> None:
    url = f"postgresql://{user}:{password}@{host}/lab{query}"
    whole = normalise(url)
    assert parse_dsn(whole) == parse_dsn(url) and parse_dsn(whole)["password"] == password
    assert normalise(whole) == whole
    if "," not in host:  # SQLAlchemy has no list of hosts
        assert make_url(whole).password == password
    assert not _shows(mask(whole))


@given(st.text(st.sampled_from("ab1:/?#@%&= [],é")))
@example("u:p@h/d?user=a@b&password=p w")
@example("u:%a1@h/d")
@example("u:\udca1@h/d")
def test_an_accepted_url_means_the_same_as_in_libpq(rest: str) -> None:
    url = f"postgresql://{rest}"
    try:
        whole = normalise(url)
    except StorageError:
        return
    try:
        meant = parse_dsn(url.strip())
    except psycopg2.ProgrammingError:
        return
    assert parse_dsn(whole) == meant


@given(passwords("@/"))
def test_a_refused_url_says_how_to_write_it_and_shows_no_password(password: str) -> None:
    assume(set("@/") & set(password))
    with pytest.raises(StorageError, match=r"%40|%2F") as refused:
        normalise(f"postgresql://u:{password}@db.lab/lab")
    assert not _shows(str(refused.value)) and "db.lab/lab" in str(refused.value)


@given(passwords(), st.booleans())
def test_passwords_are_removed_from_third_party_messages(password: str, encoded: bool) -> None:
    url = f"postgresql://u:{quote(password, safe='') if encoded else password}@db.lab/lab"
    words = f'failed with "{password}", with {quote(password, safe="")} and with {url}'
    assert not _shows(hide(words, url))


def test_a_short_password_does_not_spoil_the_text_around_it() -> None:
    assert hide("password of user e: 'e' here", "postgresql://u:e@h/d") == (
        "password of user ***: '***' here"
    )


def test_a_bucket_url_with_credentials_is_refused() -> None:
    with pytest.raises(Exception, match=r"s3://KEY:\*\*\*@bucket") as refused:
        check_artifacts("s3://KEY:geheim@bucket")
    assert "geheim" not in str(refused.value)
