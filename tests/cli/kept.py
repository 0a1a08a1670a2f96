"""A store with exported runs, for the tests of the keeping commands."""


def export(store, git):
    """Bring what is queued into a repository in the current folder."""
    git("init", "-q")
    store.ok("export", "--no-push")
