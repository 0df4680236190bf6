"""Which addresses belong to the public internet, whatever they are dressed as?"""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address

import pytest

from reactivedb.auth.addresses import is_public
from reactivedb.auth.fetch import fetch
from reactivedb.errors import AuthProviderError

pytestmark = pytest.mark.anyio

PRIVATE_4 = [
    *("0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255"),
    *("127.0.0.0", "127.255.255.255", "169.254.169.254", "172.16.0.0", "172.31.255.255", "192.0.0.0"),
    *(
        "192.0.0.8",
        "192.0.0.170",
        "192.0.0.255",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.0",
        "192.168.255.255",
    ),
    *("198.18.0.0", "198.19.255.255", "198.51.100.7", "203.0.113.255", "224.0.0.1", "239.255.255.255"),
    *("240.0.0.1", "255.255.255.255", "192.31.196.1", "192.52.193.1", "192.175.48.1"),
]
PUBLIC_4 = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.215.14", "100.63.255.255", "100.128.0.0"),
    *("126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0"),
    *("191.255.255.255", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255"),
    *("198.20.0.0", "203.0.112.255", "203.0.114.0", "223.255.255.255"),
]
PRIVATE_6 = [
    *("::", "::1", "::2", "::127.0.0.1", "::10.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"),
    *(
        "64:ff9b:1::",
        "64:ff9b:1::808:808",
        "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
        "64:ff9b:2::1",
        "64:ff9a::1",
    ),
    *("100::1", "100:0:0:1::1", "200::1", "1fff::1", "4000::1", "5f00::1", "8000::1"),
    *("fc00::1", "fd00::1", "fdff:ffff::1", "fe00::1", "fe80::1", "febf::1", "fec0::1", "feff::1", "ff02::1"),
    *(
        "ff0e::1",
        "fe80::1%eth0",
        "2606:4700::1111%eth0",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:1::1",
    ),
    *("2001:100::1", "2001:db8::1", "2620:4f:8000::1", "3ffe::1", "3fff::1", "3fff:fff::1"),
]
PUBLIC_6 = [
    *("2001:200::1", "2001:4860:4860::8888", "2001:db7::1", "2001:db9::1", "2003::1", "2606:4700::1111"),
    *("2a00:1450::1", "3fff:1000::1", "3ffd::1"),
]


@pytest.mark.parametrize("address", [*PRIVATE_4, *PRIVATE_6, "", "nonsense", "127.1", "1.1.1.1/32", "::g"])
def test_what_is_not_given_out_to_the_public_is_private(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [*PUBLIC_4, *PUBLIC_6])
def test_what_is_given_out_is_public(address: str) -> None:
    assert is_public(address)


def dressed(inner: str) -> list[IPv6Address]:
    """The IPv6 addresses that stand for an IPv4 one."""
    number = int(IPv4Address(inner))
    server, flipped = int(IPv4Address("8.8.8.8")), number ^ 0xFFFF_FFFF
    network = int(IPv6Address("2a00:1450::"))
    return [
        IPv6Address(int(IPv6Address("::ffff:0:0")) | number),
        IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        IPv6Address(int(IPv6Address("2002::")) | number << 80),
        IPv6Address(int(IPv6Address("2002::5")) | number << 80),
        IPv6Address(int(IPv6Address("2001::")) | server << 64 | flipped),
        IPv6Address(int(IPv6Address("2001::")) | number << 64 | server ^ 0xFFFF_FFFF),
        IPv6Address(network | 0x0000_5EFE << 32 | number),
        IPv6Address(network | 0x0200_5EFE << 32 | number),
    ]


@pytest.mark.parametrize("inner", PRIVATE_4)
def test_an_address_that_stands_for_a_private_one_is_private(inner: str) -> None:
    assert [str(address) for address in dressed(inner) if is_public(str(address))] == []


@pytest.mark.parametrize("inner", PUBLIC_4)
def test_an_address_that_stands_for_a_public_one_is_public(inner: str) -> None:
    assert [str(address) for address in dressed(inner) if not is_public(str(address))] == []


def test_nothing_is_public_that_python_calls_private_for_certain() -> None:
    draw = random.Random(9)
    for _ in range(3000):
        for address in (IPv4Address(draw.getrandbits(32)), IPv6Address(draw.getrandbits(128))):
            if address.is_loopback or address.is_link_local or address.is_multicast or address.is_private:
                assert not is_public(str(address)), address


@pytest.mark.parametrize("private", ["64:ff9b:1::1", "::127.0.0.1", "fec0::1", "2002:7f00:1::", "fe80::1%lo"])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_private_address_among_several_is_enough_not_to_ask(private: str, place: int) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        answers = ["93.184.215.14", "2606:4700::1111"]
        answers.insert(place, private)
        return answers

    with pytest.raises(AuthProviderError) as caught:
        await fetch("https://issuer.example/keys", allow_private=False, resolve=resolve)
    assert caught.value.code == "PrivateAuthProvider"


@pytest.mark.parametrize(
    "host",
    ["[::127.0.0.1]", "[64:ff9b:1::1]", "[fec0::1]", "0x7f.1", "127.1", "0177.0.0.1", "[::ffff:7f00:1]"],
)
async def test_an_address_in_a_url_is_private_however_it_is_spelt(host: str) -> None:
    with pytest.raises(AuthProviderError) as caught:
        await fetch(f"https://{host}/keys", allow_private=False)
    assert caught.value.code == "PrivateAuthProvider"


async def test_a_secret_in_the_url_of_keys_is_not_told_to_those_who_show_a_token() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    with pytest.raises(AuthProviderError) as caught:
        await fetch(
            "https://ada:hunter2@issuer.example/keys?token=hunter2", allow_private=False, resolve=resolve
        )
    assert "issuer.example/keys" in caught.value.message
    assert "hunter2" not in caught.value.message
