"""Files of tokens, as operators write them."""

import hashlib


def token_table(name, token, **limits):
    """A [[token]] of TOML, with the token's hash and these limits."""
    sha256 = hashlib.sha256(token.encode()).hexdigest()
    lines = [f'name = "{name}"', f'sha256 = "{sha256}"']
    return "\n".join(["[[token]]", *lines, *(f"{key} = {n}" for key, n in limits.items()), ""])
