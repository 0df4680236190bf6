"""Which modules and which page make up the chat?"""

import reactivedb as rdb

from . import messages, streaming, tasks, users

app = rdb.App(users, tasks, messages, streaming, static="web")
