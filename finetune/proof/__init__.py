"""Proves what a student was trained on: writes its manifest, checks it, and says what a withdrawn source touches.

What comes in are the rows of a training, or a folder that anybody may have changed. What goes out are manifests, the
faults that a check finds, and what must be trained again. It needs no torch. Import each file by its name.
"""
