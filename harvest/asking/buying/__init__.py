"""Buys answers from one endpoint: from a teacher, the student or the judging model, all in the same way.

In come the messages of one attempt. Out goes the answer, or the reason why there is none. Every try is reserved in the
store before it is sent, and settled there when it ends; there is no other way to ask an endpoint.
"""
