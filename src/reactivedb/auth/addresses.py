"""Does an address belong to the public internet?

By the IANA registries of special-purpose addresses (RFC 6890 and later ones), written out here: what Python's
`is_global` says differs between its patch releases. Some IPv6 addresses stand for an IPv4 one, to which a
gateway or the system itself takes the connection; they are as public as what they stand for. All else that
is not in the part of IPv6 that is given out (2000::/3) is private.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_PRIVATE_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a carrier's NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, the metadata of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_GIVEN_OUT_6: Final = IPv6Network("2000::/3")
_PRIVATE_6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: ORCHID, benchmarks and the like; Teredo is looked into before
        "2001:db8::/32",  # documentation
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the former 6bone
        "3fff::/20",  # documentation
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
# The first half of an interface's own part in ISATAP (RFC 5214), whatever the network before it.
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)


def is_public(text: str) -> bool:
    """Whether an address belongs to the public internet, and what it stands for does too."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _PRIVATE_4)
    if address.scope_id is not None:
        # It names an interface of this machine.
        return False
    inner = _stands_for(address)
    if inner and not all(is_public(str(other)) for other in inner):
        return False
    if address.ipv4_mapped or address.teredo or address in _NAT64:
        return True
    return address in _GIVEN_OUT_6 and not any(address in network for network in _PRIVATE_6)


def _stands_for(address: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that are reached by it."""
    whole = int(address)
    low = IPv4Address(whole & 0xFFFF_FFFF)
    if address in _NAT64 or address.ipv4_mapped:
        return [low]
    if address.sixtofour:
        return [address.sixtofour]
    if address.teredo:
        # The server, and the client behind it.
        return list(address.teredo)
    return [low] if whole >> 32 & 0xFFFF_FFFF in _ISATAP else []
