"""Names by themselves: into which words they are cut, what they name, how sure that is, and whose it is."""

import pytest

from cas.secretscan.names import NameKind, judge_name, split_words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", []), ("__", []), ("dbPassword2", ["db", "password", "2"]), ("APIKey", ["api", "key"]),
        ("apikey", ["api", "key"]), ("myapikey", ["my", "api", "key"]), ("clientsecret", ["client", "secret"]),
        ("accesstoken", ["access", "token"]), ("mytoken", ["my", "token"]), ("mysecret", ["my", "secret"]),
        ("secret", ["secret"]), ("token", ["token"]), ("key", ["key"]), ("monkey", ["monkey"]),
        ("dbpasswd", ["db", "passwd"]), ("desk.secretkey-1", ["desk", "secret", "key", "1"]),
    ],
)  # fmt: skip
def test_name_is_cut_at_signs_cases_and_the_words_it_is_glued_of(name, words):
    assert split_words(name) == words


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("password", "password"), ("db_pwd", "password"), ("passphrase", "password"), ("desk_psk", "password"),
        ("db_pass", "password"), ("kraken_pass", "password"), ("smtp.pass", "password"), ("a.smtp.pass", "password"),
        ("desk.kraken.pass", "password"), ("pass", "pass"), ("desk.pass", "pass"), ("smtp.desk.pass", "pass"),
        ("secret", "secret"), ("secrets", "secret"), ("credential", "secret"), ("creds", "secret"),
        ("mnemonic", "mnemonic"), ("seed_phrase", "mnemonic"), ("recovery_phrase", "mnemonic"),
        ("mnemonic_phrase", "mnemonic"), ("backup_phrase", "mnemonic"), ("wallet_phrase", "mnemonic"),
        ("token", "token"), ("my_bot_token", "token"), ("bearer", "token"), ("x_auth", "token"),
        ("binance_auth", "token"), ("api_keys", "key"), ("secret_keys", "key"), ("wallet_pk", "wallet"),
        ("deployer_pk", "wallet"), ("private_key", "wallet"), ("priv_key", "wallet"), ("binance_private", "secret"),
        ("kraken.private", "secret"), ("aws_secret_key", "aws-secret"), ("aws_secret_access_key", "aws-secret"),
        ("secret_access_key", "aws-secret"), ("secret.access_key", "aws-secret"), ("aws_key", "key"),
        ("access_key", "key"), ("secret_key", "key"), ("signing_key", "key"), ("kraken_row_key", "key"),
        ("desk.api.key", "key"), ("cfg.secret.key", "key"), ("cfg.private.key", "wallet"),
    ],
)  # fmt: skip
def test_name_of_a_credential_tells_its_kind_for_sure(name, kind):
    found = judge_name(name)
    assert (found.kind, found.sure) == (kind, True)


@pytest.mark.parametrize(
    "name",
    [
        "", "desk", "key", "desk.key", "phrase", "catch_phrase", "private", "desk_private", "auth", "desk_auth",
        "keys", "table_keys", "pk", "order_pk", "cache_key", "row_key", "test_pass", "smtp.test_pass", "tokens",
        "api_tokens", "next_page_token", "page_of_token", "get_password", "hashed_desk_secret", "token_id", "key_id",
        "secret_name", "password_hash_main", "secret_key_path", "token_my_own_desk", "desk_signer", "kraken",
        "trader_count", "wallet", "x",
    ],
)  # fmt: skip
def test_name_of_something_else_names_no_credential(name):
    assert judge_name(name) is None


@pytest.mark.parametrize(
    "name",
    ["password_main", "password_kraken", "password_2", "api_key_id", "access_key_id_2", "password_main_eu"],
)
def test_name_with_a_word_behind_that_changes_nothing_is_sure(name):
    assert judge_name(name).sure


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("token_desk", "token"), ("token_my_desk", "token"), ("password_desk_main", "password"),
        ("password_main_desk", "password"), ("api_key_desk_id_2", None), ("cg_key", "key"), ("av_key_main", "key"),
        ("token_my_main_desk", "token"), ("token_2_my_desk_2", "token"),
    ],
)  # fmt: skip
def test_name_with_up_to_two_unknown_words_behind_is_unsure(name, kind):
    assert judge_name(name) == (None if kind is None else NameKind(kind, sure=False, trading=False))


@pytest.mark.parametrize(
    "name",
    ["get.password", "get[password", "get]password", "get.password[]", "get.password.", "a[get].password]"],
)
def test_name_is_judged_by_its_last_part(name):
    assert judge_name(name).kind == "password"


def test_name_whose_last_part_has_no_word_is_judged_whole():
    assert judge_name("api_key.__").kind == "key"
    assert judge_name("get_password.__") is None


def test_name_of_a_broker_makes_it_a_trading_credential_anywhere_in_it():
    assert judge_name("binance_api_key") == NameKind("key", sure=True, trading=True)
    assert judge_name("kraken.desk.secret") == NameKind("secret", sure=True, trading=True)
    assert judge_name("token_my_kraken") == NameKind("token", sure=False, trading=True)
    assert judge_name("github_token") == NameKind("token", sure=True, trading=False)
    assert judge_name("api_key") == NameKind("key", sure=True, trading=False)
