"""The engine of both clients: what a call does, without I/O.

Read `classification` first: it has what a call does, from the images to their predictions. It yields `steps`, which the
clients carry out; `exchange` turns them into requests, `recovery` decides what follows a failure, `connections` picks
the server, `concurrency` and `retries` limit the load, `pipeline` keeps many batches going.
"""
