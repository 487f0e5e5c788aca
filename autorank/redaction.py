"""Removes passwords and tokens from texts that are printed, logged or stored."""

from __future__ import annotations

import os
import re

# Names of environment variables with secret values, and the minimum length of these values. A shorter value is probably
# an ordinary word, which would be removed from every text. A password may be a word, so its minimum is lower. PWD and
# OLDPWD are directories; GOOGLE_APPLICATION_CREDENTIALS is the path of a file, and paths are not secret.
_NAMES = {
    re.compile(r"(TOKEN|PASSWORD|PASSWD|_PWD|_PASS|_PAT)$", re.I): 4,
    re.compile(r"((_|API|ACCESS|SECRET|PRIVATE)KEY|ACCESS_KEY_ID|SECRET|(?<!APPLICATION_)CREDENTIALS?)$", re.I): 8,
}
# Shorter values are replaced only as whole words, so that the password `postgres` leaves `postgresql` alone. No token
# is that short. Longer values are replaced anywhere, for example after the \n of a quoted text.
_ALONE = 16
# A password may contain characters that are not allowed in addresses, such as / and @, so everything up to the last @
# is removed. A port is not a password: a number after a host with a dot, or before a query or a fragment.
_PORT = r"""(?:[^\s'"/@:]*\.[^\s'"/@:]*:\d{1,5}/|[^\s'"/@:]*:\d{1,5}/?[?#])"""
_USER = re.compile(rf"""(?<=://)(?!{_PORT})[^\s'"/@:]*(:[^\s'"]*)?@""")
_FIELD = re.compile(r"""([?&](?:password|passwd|pwd|token|secret|api_?key|access_?key)[^=&\s]*=)[^&\s'"]+""", re.I)


def hide(text: str) -> str:
    """Remove user and password from addresses in a text, and the values of secret environment variables."""
    for value in sorted(secret_values(), key=len, reverse=True):  # a value may begin with a shorter one
        text = _pattern(value).sub("***", text)
    return _FIELD.sub(r"\1***", _USER.sub("", text))


def has_password(address: str) -> bool:
    """Return whether an address contains a password or a token."""
    match = _USER.search(address)
    return bool(match and match[1]) or bool(_FIELD.search(address))


def secret_values() -> set[str]:
    """Return the values of secret environment variables."""
    return {value for name, value in os.environ.items() if _secret(name, value)}


def _pattern(value: str) -> re.Pattern[str]:
    left, right = ("", "") if len(value) >= _ALONE else (r"(?<![^\W_])", r"(?![^\W_])")
    return re.compile((left if value[0].isalnum() else "") + re.escape(value) + (right if value[-1].isalnum() else ""))


def _secret(name: str, value: str) -> bool:
    min_length = next((min_length for names, min_length in _NAMES.items() if names.search(name)), None)
    return min_length is not None and len(value) >= min_length and not (os.sep in value and os.path.exists(value))
