"""What must not be read by others, taken out of texts that are printed, logged or stored."""

from __future__ import annotations

import os
import re

# Names of environment variables whose value is secret, with its least length. A shorter value is more likely an
# ordinary word, which would vanish from every text; a password may be one, so of passwords almost all are taken.
# PWD and OLDPWD are folders; GOOGLE_APPLICATION_CREDENTIALS, like all that is a path, names a file that holds a secret.
_NAMES = {
    re.compile(r"(TOKEN|PASSWORD|PASSWD|_PWD|_PASS|_PAT)$", re.I): 4,
    re.compile(r"((_|API|ACCESS|SECRET|PRIVATE)KEY|ACCESS_KEY_ID|SECRET|(?<!APPLICATION_)CREDENTIALS?)$", re.I): 8,
}
# A shorter value than this is looked for where it stands alone: no token is as short, and postgres is no part of
# postgresql. A longer one may stand anywhere, as behind the \n of a text that was quoted.
_ALONE = 16
# a password may hold what an address should not, as / and @: all up to the last @ goes. But a port is no password: a
# number behind a host with a dot, or before a query or a fragment
_PORT = r"""(?:[^\s'"/@:]*\.[^\s'"/@:]*:\d{1,5}/|[^\s'"/@:]*:\d{1,5}/?[?#])"""
_USER = re.compile(rf"""(?<=://)(?!{_PORT})[^\s'"/@:]*(:[^\s'"]*)?@""")
_FIELD = re.compile(r"""([?&](?:password|passwd|pwd|token|secret|api_?key|access_?key)[^=&\s]*=)[^&\s'"]+""", re.I)


def hide(text: str) -> str:
    """The text without user and password in addresses, and without the values of secret environment variables."""
    for value in sorted(values(), key=len, reverse=True):  # one may begin with another
        text = _pattern(value).sub("***", text)
    return _FIELD.sub(r"\1***", _USER.sub("", text))


def held(address: str) -> bool:
    """Whether an address holds a password."""
    found = _USER.search(address)
    return bool(found and found[1]) or bool(_FIELD.search(address))


def values() -> set[str]:
    """The values of the environment variables that are secret."""
    return {value for name, value in os.environ.items() if _secret(name, value)}


def _pattern(value: str) -> re.Pattern[str]:
    left, right = ("", "") if len(value) >= _ALONE else (r"(?<![^\W_])", r"(?![^\W_])")
    return re.compile((left if value[0].isalnum() else "") + re.escape(value) + (right if value[-1].isalnum() else ""))


def _secret(name: str, value: str) -> bool:
    least = next((least for names, least in _NAMES.items() if names.search(name)), None)
    return least is not None and len(value) >= least and not (os.sep in value and os.path.exists(value))
