"""Which modules and which page make up the chat?"""

import reactivedb as rdb

from . import messages, streaming, tables, tasks, users

app = rdb.App(tables, users, tasks, messages, streaming, static="web")
