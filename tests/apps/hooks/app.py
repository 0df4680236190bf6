"""One application for a page that uses every hook; its identity provider is the test's."""

import os

from conformance import counter, failing, meeting, tasks
from members import who
from pages import cards

import reactivedb as rdb

from . import entries

provider = rdb.OidcProvider(os.environ["REACTIVEDB_TEST_ISSUER"], "app")
app = rdb.App(cards, counter, entries, failing, meeting, tasks, who, auth=[provider])
