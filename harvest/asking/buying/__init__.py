"""Buys answers from one endpoint: from a teacher, the student or the judging model alike.

In come the messages of one attempt. Out goes its answer, or why there is none. Every try is reserved in the store
before it is sent, and settled there when it ends; there is no other way to ask an endpoint.
"""
