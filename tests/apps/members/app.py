"""An application with users; their identity provider is the test's."""

import os

import reactivedb as rdb

from . import who

issuer = os.environ["REACTIVEDB_TEST_ISSUER"]
app = rdb.App(who, auth=[rdb.OidcProvider(issuer, "app")])
