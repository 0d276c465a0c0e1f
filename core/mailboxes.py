"""E-mail addresses in the form that mail servers accept: an internationalised domain is converted to ASCII (IDNA 2008).

The part before the @ must be ASCII: other letters need SMTPUTF8 at every server on the way, which cannot be relied on.
"""

import idna


def routable(address: str) -> str:
    """Return `address` with its domain in ASCII.

    Raises:
        ValueError: the address has no form that mail servers accept.
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
    """Return every spelling of one mailbox: the address as given, with its domain in ASCII, and with it in Unicode."""
    found = {address}
    local, at, domain = address.rpartition("@")
    for spell in (lambda name: idna.encode(name, uts46=True).decode(), idna.decode):
        try:
            found.add(f"{local}{at}{spell(domain)}" if at else address)
        except (idna.IDNAError, UnicodeError):
            continue  # not a valid domain name in that form, or no domain at all
    return found
