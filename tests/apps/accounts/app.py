"""An application whose users sign in here; their tokens are as short-lived as may be."""

import reactivedb as rdb

from . import notes

app = rdb.App(notes, sign_in=rdb.SignIn(password=True, anonymous=True, access_token_s=15))
