import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.tools.language_models.secrets import (
    REDACTED,
    public_url,
    redacted,
    with_secrets,
    without_passwords,
)

ARGUMENTS = {
    "model": "m",
    "max_tokens": 100,
    "use_token": True,
    "max_token": 7,
    "tokenizer": "bpe",
    "api_key": "sk-1",
    "openaiApiKey": "sk-2",
    "HFToken": "hf-3",
    "api_keys": ["sk-4"],
    "password": 123456,
    "base_url": "https://me:p@w@box/v1?api_key=sk-5&version=2",
    "default_headers": {"Authorization": "Bearer x", "X-Team": "t"},
    "servers": [{"password": "p", "host": "h"}],
}


def test_secrets_are_left_out_of_what_is_recorded():
    assert redacted(ARGUMENTS) == {
        "model": "m",
        "max_tokens": 100,
        "use_token": True,
        "max_token": 7,
        "tokenizer": "bpe",
        "api_key": REDACTED,
        "openaiApiKey": REDACTED,
        "HFToken": REDACTED,
        "api_keys": REDACTED,
        "password": REDACTED,
        "base_url": f"https://{REDACTED}@box/v1?api_key={REDACTED}&version=2",
        "default_headers": {"Authorization": REDACTED, "X-Team": "t"},
        "servers": [{"password": REDACTED, "host": "h"}],
    }


def test_recorded_arguments_get_their_secrets_from_those_given_anew():
    now = ARGUMENTS | {"model": "another", "api_key": "sk-new"}
    assert with_secrets(redacted(ARGUMENTS), now) == ARGUMENTS | {"api_key": "sk-new"}


def test_a_secret_that_is_not_given_anew_is_asked_for_by_name():
    with pytest.raises(UsageError, match="api_key") as caught:
        with_secrets(redacted({"api_key": "sk-1"}), {})
    assert "LINE_LANGCHAIN__API_KEY" in caught.value.remedy


def test_a_secret_in_a_table_is_asked_for_where_it_stood():
    with pytest.raises(UsageError, match="Authorization") as caught:
        with_secrets(redacted({"default_headers": {"Authorization": "Bearer x"}}), {})
    assert "[langchain.default_headers]" in caught.value.remedy


def test_an_address_is_shown_without_user_and_password():
    assert public_url("http://me:pw@box:1/x") == "http://box:1/x"


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["--ollama", "http://me:pw@box:1,you:pw@other"], ["--ollama", "http://box:1,other"]),
        (["--ollama=me:p@w@box"], ["--ollama=box"]),
        (
            ["--base-url", "http://me:pw@box/v1", "--base-url=me:pw@b"],
            ["--base-url", "http://box/v1", "--base-url=b"],
        ),
        (["--control", "hf:cifar10@test", "--ollama"], ["--control", "hf:cifar10@test", "--ollama"]),
    ],
)
def test_a_command_is_recorded_without_the_passwords_in_it(arguments, kept):
    assert without_passwords(arguments) == kept
