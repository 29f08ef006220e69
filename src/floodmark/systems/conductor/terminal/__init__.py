"""The terminal surface of a conductor: `app.ChatApp` over any link to one, and `command`, which is `floodmark chat`.

From the text to the screen: `blocks` cuts an answer that is arriving, `page` holds a conversation's parts and where they stand, `paint`
turns a part into lines, `transcript` shows the lines; `board` is fed by the conductor's events; `panels`, `prompt` and `help` are the rest.
"""
