"""The terminal: the store and its exports for people, and for scripts that read JSON.

Layers, top down: app (verbs) > commands > session > settings, output > figures, failures. Invariant: a command only
calls the public API of `cas` and `gitexport` and shows what they return; nothing is decided here that a program could
not ask for as well. Data goes to stdout, talk to stderr.
"""
