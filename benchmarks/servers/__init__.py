"""The same small app for every server that is measured."""
