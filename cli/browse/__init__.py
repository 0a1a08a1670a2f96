"""The page of ``cas browse``: runs, files, curves, differences, branches and the export, looked at in a browser.

Read-only: nothing here opens the store for writing, and nothing that a store holds is ever handed to a browser as
something it would run. `cli.browse.guard` decides who is answered, `cli.browse.site` what is shown.
"""
