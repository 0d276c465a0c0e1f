"""E-mail addresses as mail servers take them: the domain in ASCII (IDNA 2008), whatever letters it was written with.

The part before the @ stays ASCII: other letters need SMTPUTF8 at every server on the way, which cannot be relied on.
"""

import idna


def routable(address: str) -> str:
    """`address` with its domain in ASCII.

    Raises:
        ValueError: no mail server could be told this address.
    """
    if address.isascii():
        return address
    local, at, domain = address.rpartition("@")
    if not local.isascii():
        raise ValueError(
            f"the part before the @ in {address!r} has letters that mail servers do not take; use ASCII there"
        )
    try:
        ascii_domain = idna.encode(domain, uts46=True).decode()
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"{domain!r} is no domain that mail can be sent to: {error}") from error
    return f"{local}{at}{ascii_domain}"


def spellings(address: str) -> set[str]:
    """The address as it is and with its domain in ASCII and in its own letters, where it has such: the same mailbox."""
    found = {address}
    local, at, domain = address.rpartition("@")
    for spell in (lambda name: idna.encode(name, uts46=True).decode(), idna.decode):
        try:
            found.add(f"{local}{at}{spell(domain)}" if at else address)
        except (idna.IDNAError, UnicodeError):
            continue  # no domain with letters of its own, or none at all
    return found
