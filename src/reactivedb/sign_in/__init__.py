"""How do an application's users sign in here, without an identity provider?

An application that declares `SignIn` has functions below `signIn:` that give tokens out, verified like those
of any provider. Accounts have a name and a password; anonymous users have neither until they sign up.
"""

from .declaration import SignIn
from .functions import add_functions
from .keys import SignInKeys
from .tables import SIGN_IN_TABLES

__all__ = ["SIGN_IN_TABLES", "SignIn", "SignInKeys", "add_functions"]
