"""Who is it whose token this is?

An application names the providers that it trusts; a `Verifier` turns a token of one of them into a user's
identity, or says why not. The libraries for signatures and HTTP are imported with the first token.
"""

from .providers import CustomJwtProvider, OidcProvider, Provider
from .verifier import Verified, Verifier

__all__ = ["CustomJwtProvider", "OidcProvider", "Provider", "Verified", "Verifier"]
