"""The server, over every protocol there is: `serve.run` is a whole one, `app.create_app` the ASGI app alone.

A request passes security (Host, Origin, key), routes (what is answered), body (JSON, with limits) and
running (ends it when its client leaves), and comes back by reply or sse; errors says what went wrong.
"""
